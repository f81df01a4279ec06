"""Two sets of a visitor's texts, and the features that tell them apart."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from monoscope.atlas.contrast import ContrastHit, contrast
from monoscope.core.errors import BadRequest
from monoscope.serve.library import Library
from monoscope.serve.reading import read_text

FEWEST_TEXTS, MOST_TEXTS = 2, 40
MOST_TEXT = 600


@dataclass(frozen=True)
class Told:
    """What tells the sets apart, best first. `proved_on` are the texts of each set that did not choose."""

    hits: list[ContrastHit]
    positive: int
    negative: int
    seconds: float

    @property
    def proved_on(self) -> tuple[int, int]:
        """Positive and negative texts on which the held-out figures stand."""
        return self.positive // 2, self.negative // 2


def tell_apart(
    books: Library, name: str | None, positive: Sequence[str], negative: Sequence[str], *, limit: int = 20
) -> Told:
    """Rank the features that belong to one of the sets, each feature by its strongest place in each text.

    Raises
        BadRequest   a set has too few texts, too many, or one that is empty or too long.
        Unavailable  the model is not loaded yet.
    """
    sets = {"positive": positive, "negative": negative}
    for kind, texts in sets.items():
        _check(kind, texts)
    began = time.perf_counter()
    dictionary, model = books.dictionary(name), books.model()
    with books.queue.turn():
        pooled = [
            torch.stack([read_text(model, dictionary, text).strongest(dictionary) for text in texts])
            for texts in sets.values()
        ]
        hits = contrast(*pooled, limit=limit, both_ways=True)
    return Told(hits, len(positive), len(negative), time.perf_counter() - began)


def lines_of(text: str) -> list[str]:
    """The texts of a field that has one on each line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _check(kind: str, texts: Sequence[str]) -> None:
    count = len(texts)
    if not FEWEST_TEXTS <= count <= MOST_TEXTS:
        raise BadRequest(
            f"There {'is 1' if count == 1 else f'are {count}'} {kind} text{'' if count == 1 else 's'}; "
            f"give {FEWEST_TEXTS} to {MOST_TEXTS}, half of which choose and half of which prove."
        )
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise BadRequest(f"The {kind} text {number} is empty.")
        if len(text) > MOST_TEXT:
            raise BadRequest(f"The {kind} text {number} has {len(text):,} characters; {MOST_TEXT} are read at most.")
