"""Texts that a small generator writes: DNA sequences in the ways they are printed, and citations in four styles.

Neither occurs in the encyclopedia or in code, and a dictionary learns a feature only for what its text holds. People,
titles and accession numbers are drawn by a seed and name nobody.
"""

from collections.abc import Iterator
from random import Random

from monoscope.text.corpus import Document

DNA, CITATIONS = "dna", "citations"
_COUNT = 2_000

_ORGANISMS = (
    "Escherichia coli",
    "Homo sapiens",
    "Mus musculus",
    "Drosophila melanogaster",
    "Arabidopsis thaliana",
    "Danio rerio",
    "Saccharomyces cerevisiae",
    "Caenorhabditis elegans",
    "Bacillus subtilis",
    "Zea mays",
)
_PARTS = (
    "promoter",
    "exon 3",
    "intron 2",
    "open reading frame",
    "16S ribosomal RNA",
    "coding region",
    "5' untranslated region",
)
_NAMES = (
    "Abbott Adler Almeida Anand Archer Aziz Baker Banerjee Barros Becker Bellini Berg Bianchi Blake Bouchard Brandt "
    "Calloway Campos Carver Castellano Chandra Cho Cohen Conti Crane Dalton Davies Delgado Deng Dietrich Dubois "
    "Eaton Eriksen Esposito Fairchild Farouk Ferrari Fischer Fontaine Fujita Gallagher Garnier Ghosh Goldberg Gupta "
    "Haddad Halvorsen Hartmann Hayashi Henriksen Hoffmann Holloway Huang Ibrahim Ivanov Jansen Jensen Kaplan Kapoor "
    "Keller Khalil Kim Kowalski Kuznetsov Lambert Larsen Lindqvist Lopez Mahmoud Marchetti Martin Mbeki Meyer "
    "Mitchell Moreau Nakamura Nguyen Novak Okafor Olsen Ortega Palmer Park Patel Pereira Petrov Quinn Rahman Ramos "
    "Reyes Richter Rossi Sandoval Sato Schneider Silva Singh Sorensen Stein Suzuki Takahashi Tanaka Thornton Torres "
    "Turner Underwood Vargas Vogel Wagner Walsh Weber Whitaker Wong Yamamoto Yilmaz Zhang Zimmermann"
)
_SURNAMES = tuple(_NAMES.split())
_FINDINGS = (
    "the effect grows with distance",
    "memory for names declines first",
    "rainfall alone does not explain the loss",
    "prices adjust slowly",
    "the two species seldom compete",
    "children learn the rule before the exception",
    "the reaction stops below this temperature",
    "most of the heat is carried by the current",
    "larger groups decide later",
    "the signal is lost within an hour",
    "sleep improves recall",
    "trust recovers only in part",
    "soil acidity matters more",
    "the older method underestimates the rate",
    "light travels further in the upper layer",
    "voters punish the incumbent",
)
_TITLES = (
    "A model of slow adjustment",
    "Patterns of migration in coastal birds",
    "On the stability of thin films",
    "Learning from sparse examples",
    "Trade and the price of bread",
    "Memory across the life span",
    "Tides and sediment",
    "Heat transport in shallow seas",
    "Trust after conflict",
    "Word order and meaning",
    "Sleep and recall in adults",
    "Networks that repair themselves",
    "The origins of the guild",
    "Measuring soil acidity",
    "Signals in the upper atmosphere",
)
_JOURNALS = (
    "Annals of Applied Measurement",
    "Journal of Coastal Studies",
    "Review of Quantitative History",
    "Letters in Thermal Physics",
    "Journal of Memory and Learning",
    "Proceedings of the Society for Soil Science",
    "Quarterly of Social Inquiry",
)


def dna_documents(seed: int = 0) -> Iterator[Document]:
    """Sequences as FASTA records, as numbered lines in tens, and inside a sentence."""
    for number in range(_COUNT):
        dice = Random(f"{DNA}:{seed}:{number}")
        organism, part = dice.choice(_ORGANISMS), dice.choice(_PARTS)
        text = (_fasta, _numbered, _in_a_sentence)[number % 3](dice, organism, part)
        yield Document(
            text, title=f"{organism}, {part}", source=DNA, language="dna", topic="DNA", id=f"{DNA}:{seed}:{number}"
        )


def citation_documents(seed: int = 0) -> Iterator[Document]:
    """Paragraphs with citations in the running text, by name and year or by number, each with its list of sources."""
    for number in range(_COUNT):
        dice = Random(f"{CITATIONS}:{seed}:{number}")
        works = [_Work(dice) for _ in range(dice.randint(3, 5))]
        by_number = number % 4 == 3
        said = " ".join(_sentence(dice, work, place if by_number else 0) for place, work in enumerate(works, 1))
        listed = "\n".join(work.listed(place if by_number else 0) for place, work in enumerate(works, 1))
        yield Document(
            f"{said}\n\nReferences\n{listed}",
            title=works[0].title,
            source=CITATIONS,
            language="en",
            topic="Citations",
            id=f"{CITATIONS}:{seed}:{number}",
        )


def _bases(dice: Random, count: int) -> str:
    """Bases with a share of G and C of its own, as genomes have."""
    gc = dice.uniform(0.3, 0.6)
    return "".join(dice.choices("GCAT", weights=(gc, gc, 1 - gc, 1 - gc), k=count))


def _fasta(dice: Random, organism: str, part: str) -> str:
    bases = _bases(dice, dice.randint(180, 420))
    lines = [bases[at : at + 60] for at in range(0, len(bases), 60)]
    return f">{_accession(dice)} {organism} {part}\n" + "\n".join(lines)


def _numbered(dice: Random, organism: str, part: str) -> str:
    bases = _bases(dice, dice.randint(180, 360)).lower()
    rows = []
    for at in range(0, len(bases), 60):
        row = bases[at : at + 60]
        rows.append(f"{at + 1:>9} " + " ".join(row[i : i + 10] for i in range(0, len(row), 10)))
    return f"DEFINITION  {organism}, {part}.\nACCESSION   {_accession(dice)}\nORIGIN\n" + "\n".join(rows)


def _in_a_sentence(dice: Random, organism: str, part: str) -> str:
    forward, backward, site = _bases(dice, 21), _bases(dice, 20), _bases(dice, 8)
    return (
        f"The {part} of {organism} was amplified with the primers 5'-{forward}-3' (forward) and 5'-{backward}-3' "
        f"(reverse). The product carries the site {site}, and reads {_bases(dice, dice.randint(90, 180))} in the wild "
        f"type, with a single change in the mutant: {_bases(dice, 45)}."
    )


def _accession(dice: Random) -> str:
    return f"{dice.choice('ABDEJKMX')}{dice.choice('ABCEFJKNQ')}{dice.randint(100_000, 999_999)}.{dice.randint(1, 3)}"


class _Work:
    """A source that can be cited: its authors, year, title and journal."""

    def __init__(self, dice: Random) -> None:
        self.authors = dice.sample(_SURNAMES, dice.choice((1, 2, 2, 3, 4)))
        self.initials = [f"{dice.choice('ABCDEFGHJKLMNPRST')}." for _ in self.authors]
        self.year, self.title, self.journal = dice.randint(1962, 2023), dice.choice(_TITLES), dice.choice(_JOURNALS)
        self.volume, self.page, self.pages = dice.randint(2, 88), dice.randint(1, 940), dice.randint(6, 31)

    def named(self) -> str:
        """The authors as a sentence names them."""
        if len(self.authors) == 1:
            return self.authors[0]
        return f"{self.authors[0]} and {self.authors[1]}" if len(self.authors) == 2 else f"{self.authors[0]} et al."

    def listed(self, number: int) -> str:
        """The line of the list of sources."""
        where = f"{self.journal}, {self.volume}, {self.page}–{self.page + self.pages}."
        people = [f"{name}, {first}" for name, first in zip(self.authors, self.initials, strict=True)]
        if number:
            turned = [f"{first} {name}" for name, first in zip(self.authors, self.initials, strict=True)]
            return f"[{number}] {', '.join(turned)}, “{self.title},” {where[:-1]}, {self.year}."
        together = people[0] if len(people) == 1 else f"{', '.join(people[:-1])}, & {people[-1]}"
        return f"{together} ({self.year}). {self.title}. {where}"


def _sentence(dice: Random, work: _Work, number: int) -> str:
    finding = dice.choice(_FINDINGS)
    if number:
        return f"{dice.choice(('It has been shown that', 'There is evidence that'))} {finding} [{number}]."
    named = work.named()
    return dice.choice(
        (
            f"{named} ({work.year}) found that {finding}.",
            f"According to {named} ({work.year}), {finding}.",
            f"{finding[0].upper()}{finding[1:]} ({named.replace(' and ', ' & ')}, {work.year}).",
            f"As {named} ({work.year}, p. {work.page}) put it, {finding}.",
        )
    )
