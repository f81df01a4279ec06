"""The dictionary whose features are the planted concepts, and texts in the toy's language about one of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from monoscope.core.sparse import SparseCode
from monoscope.core.toy_text import toy_concepts
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.safety.examples import Example
from monoscope.safety.reading import Reading, read_examples
from planted import opened, planted, run

__all__ = ["opened", "planted", "run"]

CONCEPT = "weather"


def words_of(concept: str) -> tuple[list[str], list[str]]:
    """The words of a concept that belong to no other, and those of the others that do not belong to it."""
    concepts = toy_concepts()
    others = {word for name, words in concepts.items() for word in words if name != concept}
    return sorted(set(concepts[concept]) - others), sorted(others - set(concepts[concept]))


def about(words: list[str], stream: np.random.Generator) -> str:
    """Two or three short sentences over some words."""

    def some() -> str:
        return words[int(stream.integers(len(words)))]

    return " ".join(f"The {some()} sees the {some()}." for _ in range(2 + int(stream.integers(2))))


def talk_of(concept: str = CONCEPT, *, groups: int = 20, each: int = 2, seed: int = 0) -> list[Example]:
    """Texts about a concept and texts about all others, half as many of each label in every group."""
    stream = np.random.default_rng(seed)
    mine, others = words_of(concept)
    return [
        Example(f"{group}-{label}-{place}", label, about(mine if label else others, stream), group=f"group {group}")
        for group in range(groups)
        for label in (True, False)
        for place in range(each)
    ]


def reading_of(dense: torch.Tensor, counts: list[int], x: torch.Tensor | None = None) -> Reading:
    """A reading whose tokens have these activations [tokens, n_latents]; texts have so many tokens each."""
    tokens = len(dense)
    starts = torch.tensor([0, *np.cumsum(counts)], dtype=torch.long)
    stream = torch.Generator().manual_seed(1)
    return Reading(
        torch.randn(tokens, 6, generator=stream) if x is None else x,
        SparseCode.from_dense(dense),
        torch.arange(tokens),
        starts,
        torch.ones(len(counts), dtype=torch.double),
        torch.full((len(counts),), 4.0, dtype=torch.double),
    )


def sparse_table(seed: int, tokens: int, width: int, share: float = 0.3) -> torch.Tensor:
    """Activations that are mostly zero."""
    stream = torch.Generator().manual_seed(seed)
    fires = torch.rand(tokens, width, generator=stream) < share
    return torch.where(fires, 5 * torch.rand(tokens, width, generator=stream) + 0.01, 0.0)


def write_texts(path: Path, examples: list[Example]) -> Path:
    """JSON lines with text and group."""
    lines = [json.dumps({"id": one.id, "text": one.text, "group": one.group}) for one in examples]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def dictionary(planted) -> Dictionary:
    return load_dictionary(planted.folder / "dictionaries" / "planted")


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    return talk_of()


@pytest.fixture(scope="session")
def reading(toy, dictionary, examples) -> Reading:
    return read_examples(toy, dictionary, examples)


@pytest.fixture(scope="session")
def positive(examples) -> torch.Tensor:
    return torch.tensor([example.positive for example in examples])
