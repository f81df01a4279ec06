"""Features worth a first look, chosen by what is known of them, never by chance."""

import math
from collections import Counter
from typing import Any

import numpy as np
import torch

from monoscope.atlas.concept import family_of
from monoscope.atlas.contexts import TOP
from monoscope.harvest.token_store import TokenStore

COLUMNS = "feature, label, label_score, label_kind, density, firings, peaks, quantiles, neighbours"
_FEWEST_FIRINGS, _LEAST_DENSITY, _DENSEST = 30, 1 / 5000, 0.01
_LEAST_SCORE = 0.65
# Beyond one token in 3,000 rarity is no longer a merit.
_RAREST = 1 / 3000


def rank_highlights(rows: list[dict[str, Any]], concepts: np.ndarray, store: TokenStore, count: int) -> list[int]:
    """Features, the best first, none of the same word or among the nearest neighbours of one before it.

        score = concept · log(1 / density) · (1 + share of the documents named after it) · languages

    Left out are features denser than 1 %, those with fewer than 30 firings or rarer than one token in 5,000, labels
    that score below 0.65, and marks of a chat template.
    """
    about = [store.documents[name].to_pylist() for name in ("language", "title")]
    scored = [
        (float(concepts[row["feature"]]) * _told(row, store, *about), row["feature"], row)
        for row in rows
        if row["firings"] >= _FEWEST_FIRINGS and _LEAST_DENSITY <= row["density"] <= _DENSEST
        if row["label_score"] >= _LEAST_SCORE and "<|" not in row["label"]
    ]
    chosen: list[int] = []
    passed: set[int] = set()
    families: set[str] = set()
    for score, feature, row in sorted(scored, key=lambda item: (-item[0], item[1])):
        family = _family(row["label"])
        if score <= 0 or feature in passed or family in families or len(chosen) >= count:
            continue
        chosen.append(feature)
        passed.update(row["neighbours"])
        families.add(family)
    return chosen


def _told(row: dict[str, Any], store: TokenStore, language: list[str], title: list[str]) -> float:
    top = [peak for peak, kind in zip(row["peaks"], row["quantiles"], strict=True) if kind == TOP]
    documents = store.document_of(torch.tensor(top)).tolist()
    spoken = Counter(language[number] for number in documents)
    languages = sum(count >= 3 for count in spoken.values())
    family = _family(row["label"])
    named = sum(family in (title[number] or "").lower() for number in documents) / max(1, len(documents))
    return math.log(1 / max(row["density"], _RAREST)) * (1 + named) * (1 + 0.2 * (max(1, languages) - 1))


def _family(label: str) -> str:
    """How the first word of a label begins."""
    return family_of(label.split(" (")[0].split(":")[-1].split(",")[0].strip("‘’ "))
