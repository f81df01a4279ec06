from monoscope.render.card import Card, card_html, cards_html, density_text
from monoscope.render.tokens import display_units


def test_a_card_shows_what_it_was_given_and_nothing_as_markup():
    units = display_units([b"the", b" Golden", b" <b>"], [0.0, 4.0, 2.0])
    page = card_html(Card(7, "<img src=x>", 0.00031, 4.0, (3, 2, 1), (units,), ((" Bridge", 2.2),)))
    assert "<img" not in page and "&lt;img src=x&gt;" in page
    assert "feature 7" in page and "0.031 %" in page and "+2.20" in page
    assert '<span class="p8"' in page and "&lt;b&gt;" in page
    assert "<script" not in page


def test_several_cards_share_a_style():
    page = cards_html([Card(1, "a", 0.5, 1.0, ()), Card(2, "b", 0.0, 0.0, ())], "two")
    assert page.count("<style>") == 1 and page.count('class="card"') == 2


def test_density():
    assert [density_text(x) for x in (0, 0.00031, 0.25)] == ["0 %", "0.031 %", "25 %"]
