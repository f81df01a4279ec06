"""The neighbours of two features as they come, and whether they belong to the same subject more often than chance.

python examples/atlas/neighbours.py RUN [--cache FOLDER] [--out F.json]

The features are those that the demo finds for Golden Gate Bridge and for inner conflict by contrast. A feature's
subject is the topic of English articles, the focus or the source in whose tokens it has the most activation a token;
two features share a word when one of the ten words that carry most of their activation is the same, small words left
out. Controls: the neighbours of features drawn at random, and features drawn at random in their place.
"""

from functools import cache
from random import Random
from typing import Any

import torch
from common import Studied, answer, command, table

from monoscope.atlas.words import stem
from monoscope.core.errors import ArtifactNotFound
from monoscope.showpiece import concept_features

SEED, DRAWN, WORDS = 20261125, 200, 10
CONCEPTS = ("Golden Gate Bridge", "inner conflict")
SUBJECTS = ("wiki-en", "focus", "python-stdlib", "dna", "citations")
_SMALL = (
    "a an the of and or to in on at by for with from as is are was were be it its that this not no he she his her they "
    "their you your i my we our le la les de du des et un une el los las del y en que se a est"
)
KEYS = ("subject", "word", "either")


def main() -> None:
    """Read the command line, look, and print the tables."""
    asked = command(__doc__).parse_args()
    studied = Studied.open(asked.run, asked.name, asked.cache)
    if studied.atlas is None:
        raise ArtifactNotFound(f"{asked.run} has no atlas that this version reads; run monoscope atlas.")
    subject = Subject(studied)
    found = []
    for concept in CONCEPTS:
        hit = concept_features(studied.run, studied.name, studied.dictionary, concept, limit=1)[0]
        found.append({"concept": concept, **neighbourhood(studied, subject, hit.feature)})
    dice = Random(SEED)
    drawn = dice.sample(studied.live.tolist(), DRAWN)
    around = [row for feature in drawn for row in neighbourhood(studied, subject, feature)["neighbours"]]
    apart = [subject.shared(feature, other) for feature in drawn for other in dice.sample(studied.live.tolist(), 5)]
    values = {
        "concepts": found,
        "neighbours_of_random_features": {key: share(around, key) for key in KEYS},
        "random_pairs": {key: share(apart, key) for key in KEYS},
    }
    answer(values, page(values), asked.out)


def page(values: dict[str, Any]) -> str:
    """The neighbours one by one, then the shares."""
    parts, rows = [], []
    for one in values["concepts"]:
        heads = ("neighbour", "label", "fires on", "cosine", "correlation", "same subject", "same word")
        lines = [
            (n["feature"], n["label"], ", ".join(n["words"]), n["cosine"], n["correlation"], n["subject"], n["word"])
            for n in one["neighbours"]
        ]
        told = f"{one['concept']}: feature {one['feature']}, {one['label']} ({one['subject']})"
        parts.append(f"{told}\n\n{table(heads, lines)}")
        rows.append((f"{one['concept']}'s", *(share(one["neighbours"], key) for key in KEYS)))
    for key, name in (("neighbours_of_random_features", "of random features"), ("random_pairs", "random pairs")):
        rows.append((name, *values[key].values()))
    return "\n\n".join((*parts, table(("neighbours", "same subject", "same word", "either"), rows)))


def share(rows: list[dict[str, Any]], key: str) -> float:
    """The share of the rows that are so."""
    return sum(row[key] for row in rows) / max(1, len(rows))


def neighbourhood(studied: Studied, subject: "Subject", feature: int) -> dict[str, Any]:
    """A feature and its neighbours, in the atlas's order."""
    record = studied.atlas.feature(feature)  # type: ignore[union-attr]
    return {
        "feature": feature,
        "label": record.label,
        "subject": subject.of(feature),
        "neighbours": [
            {
                "feature": near.feature,
                "label": near.label,
                "words": sorted(subject.words(near.feature))[:5],
                "cosine": near.cosine,
                "correlation": near.correlation,
                **subject.shared(feature, near.feature),
            }
            for near in record.neighbours
        ],
    }


class Subject:
    """What a feature is about, by where it fires and on which words."""

    def __init__(self, studied: Studied) -> None:
        self.studied = studied
        names = ["" if one["source"] not in SUBJECTS else one["topic"] or one["source"] for one in studied.documents]
        self.names = sorted(set(names))
        number = {name: place for place, name in enumerate(self.names)}
        self._of_row = torch.tensor([number[name] for name in names])[studied.document_of_row]
        self._tokens = torch.bincount(self._of_row, minlength=len(self.names)).double()
        self.of, self.words = cache(self._of), cache(self._words)

    def _of(self, feature: int) -> str:
        rows, values = self.studied.codes.columns.of_latent(feature)
        mass = torch.zeros(len(self.names), dtype=torch.double)
        mass.index_add_(0, self._of_row[rows], values.double())
        rate = mass / self._tokens.clamp(min=1)
        if "" in self.names:
            rate[self.names.index("")] = -1
        return self.names[int(rate.argmax())]

    def _words(self, feature: int) -> frozenset[str]:
        small = _SMALL.split()
        words = [word for word, _ in self.studied.words_of(feature, 4 * WORDS) if word.isalpha() and word not in small]
        return frozenset(stem(word) for word in words[:WORDS])

    def shared(self, feature: int, other: int) -> dict[str, bool]:
        """Whether two features share their subject, a word, or either."""
        subject, word = self.of(feature) == self.of(other), bool(self.words(feature) & self.words(other))
        return {"subject": subject, "word": word, "either": subject or word}


if __name__ == "__main__":
    main()
