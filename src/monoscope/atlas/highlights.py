"""Features worth a first look, chosen by what is known of them, never by chance."""

import math
from collections import Counter
from typing import Any

import torch

from monoscope.atlas.contexts import TOP
from monoscope.harvest.token_store import TokenStore

COLUMNS = "feature, label, label_score, label_kind, density, firings, peaks, quantiles, neighbours"
_FEWEST_FIRINGS, _LEAST_DENSITY, _DENSEST = 30, 1 / 5000, 0.01
_LEAST_SCORE = 0.8
# Beyond one token in 3,000 rarity is no longer a merit.
_RAREST = 1 / 3000
_MOST_WORDS = 4
# Labels that name a meaning are better reading than those that name a spelling.
_BY_KIND = {"word": 1.0, "near": 0.8, "topic": 0.8, "both": 0.5, "kind": 0.5, "after": 0.3, "token": 0.2}
_SHORTEST, _FAMILY = 5, 4


def rank_highlights(rows: list[dict[str, Any]], store: TokenStore, count: int) -> list[int]:
    """Features, the best first, none among the nearest neighbours of one before it.

        score = (2 · label score − 1)² · log(1 / density) · distinct words at the peaks · languages
                · share of the label's words that are of one family · share of the documents named after it · kind

    Left out are features denser than 1 %, those with fewer than 30 firings or rarer than one token in 5,000, labels
    that score below 0.8, and marks of a chat template.
    """
    about = [store.documents[name].to_pylist() for name in ("language", "title")]
    scored = [
        (_score(row, store, *about), row["feature"], row["neighbours"])
        for row in rows
        if row["firings"] >= _FEWEST_FIRINGS and _LEAST_DENSITY <= row["density"] <= _DENSEST
        if row["label_score"] >= _LEAST_SCORE and "<|" not in row["label"]
    ]
    chosen: list[int] = []
    passed: set[int] = set()
    for score, feature, neighbours in sorted(scored, key=lambda item: (-item[0], item[1])):
        if score > 0 and feature not in passed and len(chosen) < count:
            chosen.append(feature)
            passed.update(neighbours)
    return chosen


def _score(row: dict[str, Any], store: TokenStore, language: list[str], title: list[str]) -> float:
    top = [peak for peak, kind in zip(row["peaks"], row["quantiles"], strict=True) if kind == TOP]
    words = {store.vocabulary[token].strip().lower() for token in store.ids[top].tolist()}
    documents = store.document_of(torch.tensor(top)).tolist()
    spoken = Counter(language[number] for number in documents)
    languages = sum(count >= 3 for count in spoken.values())
    rarity = math.log(1 / max(row["density"], _RAREST))
    family, root = _family(row["label"])
    named = sum(root in (title[number] or "").lower() for number in documents) / max(1, len(documents)) if root else 0
    shape = _BY_KIND.get(row["label_kind"], 0.0) * family * (0.5 + named)
    variety = (2 + min(len(words), _MOST_WORDS)) * (1 + 0.3 * (max(1, languages) - 1))
    return max(0.0, 2 * row["label_score"] - 1) ** 2 * rarity * variety * shape


def _family(label: str) -> tuple[float, str]:
    """The share of a label's words that begin like its first, and that beginning; short words have no family."""
    words = [word.strip("‘’ ").lower() for word in label.split(" (")[0].split(":")[-1].split(",")]
    root = words[0][: max(_FAMILY, len(words[0]) - 3)]
    if len(words[0]) < _SHORTEST:
        return 0.3, ""
    return sum(word[:_FAMILY] == root[:_FAMILY] for word in words) / len(words), root
