from monoscope.text.pairs import pair_articles

ENGLISH = {
    "Plato": ("Plato", "Plato of Athens, pupil of Socrates and teacher of Aristotle, founded the Academy in 387."),
    "Danube": ("Danube", "The Danube flows 2850 km through Vienna, Budapest and Belgrade to the Black Sea."),
    "Bee": ("Bee", "Bees are winged insects known for making honey."),
    "Paris": ("Paris", "Paris is the capital of France."),
    "Iron": ("Iron", "Iron is a metal with the symbol Fe and number 26."),
}
FRENCH = {
    "Platon": (
        "Platon",
        "Platon est un philosophe, disciple de Socrate, maître d'Aristote, né à Athènes, Académie 387.",
    ),
    "Danube (fleuve)": ("Danube (fleuve)", "Le Danube, 2850 km, traverse Vienne, Budapest et Belgrade."),
    "Paris": ("Paris", "Paris est une ville."),
    "Fromage": ("Fromage", "Un aliment obtenu à partir de lait."),
}


def test_same_names_and_same_facts_are_pairs_and_nothing_else() -> None:
    assert pair_articles(FRENCH, ENGLISH) == {"Platon": "Plato", "Danube (fleuve)": "Danube", "Paris": "Paris"}


def test_nothing_to_pair() -> None:
    assert pair_articles({}, ENGLISH) == {}
    assert pair_articles({"x": ("x", "y")}, {"z": ("z", "")}) == {}
