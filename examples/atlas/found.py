"""Whether topics and titles are found among the first five results, by words and by a sentence.

python examples/atlas/found.py RUN [--cache FOLDER] [--out F.json]

The topics, the fifty titles, the sentences and the rule by which a result counts stand in titles.json, written before
the first run; the rule reads codes and never labels. Beside each search: five features drawn at random, and whether any
feature of the dictionary would count, which is the most that a search can find.
"""

from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
import torch
from common import Studied, answer, command, pattern, read_list, table
from torch import Tensor

from monoscope import explore
from monoscope.atlas.query import Atlas
from monoscope.console import Board
from monoscope.core.errors import ArtifactNotFound
from monoscope.evaluate.codes import Columns
from monoscope.evaluate.completeness import Units, make_units, read_units
from monoscope.evaluate.mentions import find_mentions, titles
from monoscope.evaluate.telling import CANDIDATES, best_cut

SEED, FIRST, SOURCE = 20261125, 5, "wiki-en"
MASS, FIRINGS, F1, REACH = 0.5, 10, 0.5, 0.05
WAYS = {"words": "by words", "prompt": "by a sentence", "random": "at random", "any": "any feature"}


def main() -> None:
    """Read the command line, search, judge, and print the tables."""
    asked = command(__doc__).parse_args()
    studied = Studied.open(asked.run, asked.name, asked.cache)
    atlas = studied.atlas
    if atlas is None:
        raise ArtifactNotFound(f"{asked.run} has no atlas that this version reads; run monoscope atlas.")
    lists, judge = read_list("titles"), Judge(studied)
    topics = [judged(studied, atlas, one["topic"], one, judge.of_topic(one["topic"])) for one in lists["topics"]]
    named = [judged(studied, atlas, one["title"], one, judge.of_title(one["title"])) for one in lists["titles"]]
    values = {
        "rule": lists["found"],
        "found": {kind: shares(rows) for kind, rows in (("topics", topics), ("titles", named))},
        "topics": topics,
        "titles": named,
    }
    answer(values, page(values), asked.out)


def shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    """For each way the share of the rows that it finds."""
    return {way: sum(row[way]["found"] for row in rows) / len(rows) for way in WAYS}


def page(values: dict[str, Any]) -> str:
    """What was found, one line each, and what it adds up to."""
    parts = []
    for kind in ("topics", "titles"):
        rows = []
        for one in values[kind]:
            words = one["words"]
            best = f"{words['feature']} {words['label']}" if words["found"] else "–"
            rows.append((one["name"], *(one[way]["found"] for way in WAYS), best, words["mass"], words["f1"]))
        heads = (kind[:-1], *WAYS.values(), "best by words", "its mass", "its F1")
        total = ", ".join(f"{WAYS[way]} {share:.2f}" for way, share in values["found"][kind].items())
        parts.append(f"{table(heads, rows)}\n\nFound of {len(rows)} {kind}: {total}.")
    return "\n\n".join(parts)


def judged(studied: Studied, atlas: Atlas, query: str, one: dict[str, str], verdict: "Verdict") -> dict[str, Any]:
    """One query in every way."""
    drawn = Random(f"{SEED}:{query}").sample(studied.live.tolist(), FIRST)
    by_words = [hit.feature for hit in explore.find(studied.run, atlas, query, by="words", limit=FIRST)]
    by_prompt = [hit.feature for hit in explore.find(studied.run, atlas, one["prompt"], by="prompt", limit=FIRST)]
    tried = {"words": by_words, "prompt": by_prompt, "random": drawn, "any": verdict.candidates}
    return {"name": query} | {way: _best(studied, verdict, features) for way, features in tried.items()}


def _best(studied: Studied, verdict: "Verdict", features: list[int]) -> dict[str, Any]:
    """Whether one of the features counts, and the one that comes nearest."""
    seen = [(feature, *verdict.of(feature)) for feature in features]
    if not seen:
        return {"found": False, "feature": -1, "label": "", "mass": 0.0, "f1": 0.0}
    feature, counts, mass, f1 = max(seen, key=lambda row: (row[1], max(row[2], row[3])))
    return {"found": counts, "feature": feature, "label": studied.label(feature), "mass": mass, "f1": f1}


@dataclass(frozen=True)
class Verdict:
    """What the rule says of features for one topic or title."""

    mass: np.ndarray
    enough: np.ndarray
    units: "MentionUnits | None" = None
    number: int = -1

    def of(self, feature: int) -> tuple[bool, float, float]:
        """Whether it counts, its share of activation inside, and its F1 on mentions (0 where that is not asked)."""
        mass = float(self.mass[feature])
        f1 = 0.0 if self.units is None or self.number < 0 else self.units.f1(self.number, feature)
        return bool(mass >= MASS and self.enough[feature]) or f1 >= F1, mass, f1

    @property
    def candidates(self) -> list[int]:
        """The features that could count: the largest shares, and those that best tell the mentions."""
        order = np.argsort(-np.where(self.enough, self.mass, -1), kind="stable")[:FIRST].tolist()
        more = [] if self.units is None or self.number < 0 else self.units.candidates(self.number)
        return [*order, *more]


class Judge:
    """The rule of titles.json over the codes of the whole text."""

    def __init__(self, studied: Studied) -> None:
        self.studied = studied
        self.mass, self.firings = _by_document(studied)
        self.units = MentionUnits.of(studied)
        self.articles = np.array([one["source"] == SOURCE for one in studied.documents])

    def of_topic(self, topic: str) -> Verdict:
        """Activation on articles of the topic within all articles, and firing in one in twenty of them."""
        inside = self.articles & np.array([one["topic"] == topic for one in self.studied.documents])
        reached = (self.firings[inside] > 0).double().mean(0).numpy() >= REACH
        return Verdict(self._share(inside, self.articles), reached)

    def of_title(self, title: str) -> Verdict:
        """Activation in documents that hold the title; mentions against all other units."""
        named = pattern([title])
        inside = np.array([bool(named.search(text)) for text in self.studied.texts])
        everywhere = np.ones(len(inside), dtype=bool)
        enough = self.firings.sum(0).numpy() >= FIRINGS
        return Verdict(self._share(inside, everywhere), enough, self.units, self.units.number_of(title))

    def _share(self, inside: np.ndarray, of: np.ndarray) -> np.ndarray:
        whole = self.mass[of].double().sum(0)
        return (self.mass[inside].double().sum(0) / whole.clamp(min=1e-9)).numpy()


def _by_document(studied: Studied) -> tuple[Tensor, Tensor]:
    """The sum of activations and the firings of each latent in each document [documents, n_latents]."""
    shape = (studied.store.n_documents, studied.dictionary.n_latents)
    mass, firings = torch.zeros(shape), torch.zeros(shape, dtype=torch.int16)
    for rows, latents, values in studied.entries():
        flat = studied.document_of_row[rows] * shape[1] + latents
        mass.view(-1).scatter_add_(0, flat, values)
        firings.view(-1).scatter_add_(0, flat, torch.ones(len(flat), dtype=torch.int16))
    return mass, firings


@dataclass(frozen=True)
class MentionUnits:
    """The mentions of all titles, and single tokens from outside them, with their codes, in two halves."""

    columns: Columns
    units: Units

    @classmethod
    def of(cls, studied: Studied) -> "MentionUnits":
        """As completeness takes them."""
        units = make_units(studied.store, find_mentions(studied.store, titles(studied.store)))
        code, units = read_units(studied.dictionary, studied.shards, units, studied.store.n_tokens, Board())
        return cls(Columns.of(code), units)

    def number_of(self, title: str) -> int:
        """The number of a title with mentions in both halves, or -1."""
        number = self._numbers.get(title, -1)
        mine = self.units.concept == number
        return number if number >= 0 and {True, False} <= set(self.units.tunes[mine].tolist()) else -1

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.units.names)}

    def candidates(self, number: int) -> list[int]:
        """The latents that fire on most of the title's mentions in the half that chooses, against the rest."""
        wanted = torch.from_numpy((self.units.concept == number) & self.units.tunes)
        latents = torch.repeat_interleave(torch.arange(len(self.columns.starts) - 1), self.columns.starts.diff())
        hits = torch.bincount(latents[wanted[self.columns.rows]], minlength=len(self.columns.starts) - 1)
        lead = hits / max(1, int(wanted.sum())) - (self.columns.starts.diff() - hits) / len(wanted)
        return lead.topk(CANDIDATES).indices.tolist()

    def f1(self, number: int, feature: int) -> float:
        """F1 on the measuring half with the threshold that is best on the other."""
        rows, values = (column.numpy() for column in self.columns.of_latent(feature))
        order = np.argsort(-values, kind="stable")
        rows, values = rows[order], values[order]
        right, tunes = self.units.concept[rows] == number, self.units.tunes[rows]
        _, passed, _ = best_cut(
            right[tunes], values[tunes], int(((self.units.concept == number) & self.units.tunes).sum())
        )
        if not passed:
            return 0.0
        told = values[~tunes] >= values[tunes][passed - 1]
        wanted = int(((self.units.concept == number) & ~self.units.tunes).sum())
        return 2 * int(right[~tunes][told].sum()) / max(1, int(told.sum()) + wanted)


if __name__ == "__main__":
    main()
