"""The generator of DNA and citations: the same for a seed, varied within one, and what it says it is."""

import re
from itertools import islice

import pytest

from monoscope.text.generated import citation_documents, dna_documents


@pytest.mark.parametrize("write", [dna_documents, citation_documents])
def test_the_same_seed_writes_the_same_and_another_does_not(write) -> None:
    first, again, other = (list(islice(write(seed), 50)) for seed in (0, 0, 1))
    assert first == again
    assert not {document.text for document in first} & {document.text for document in other}
    assert len({document.id for document in (*first, *other)}) == 100


def test_dna_is_mostly_bases_in_long_runs() -> None:
    for document in islice(dna_documents(3), 60):
        runs = re.findall(r"[ACGTacgt]{8,}", document.text)
        assert sum(map(len, runs)) > 100
        bases = "".join(runs).upper()
        assert all(bases.count(base) > 5 for base in "ACGT")


def test_every_cited_surname_is_listed() -> None:
    for document in islice(citation_documents(5), 80):
        said, listed = document.text.split("\n\nReferences\n")
        for name in re.findall(r"([A-Z][a-z]+)(?: et al\.| and [A-Z][a-z]+)? \(\d{4}", said):
            assert name in listed
        numbers = re.findall(r"\[(\d)\]", said)
        assert all(f"[{number}] " in listed for number in numbers)
