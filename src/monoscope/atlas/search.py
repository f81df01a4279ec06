"""Find features by words or by a text: ranked, with the reason, and without any service.

Words are looked up in an SQLite index beside the atlas, made at the first search. Its ranking only proposes; what
counts in the end is how much of a feature's activation the query's words speak for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.atlas.evidence import Evidence
from monoscope.atlas.matching import Match, match_term, query_terms, why, with_desk_labels
from monoscope.atlas.meaning import kin_of
from monoscope.atlas.query import Atlas
from monoscope.atlas.records import Context
from monoscope.atlas.word_index import candidates, open_index, term_rarity
from monoscope.core.errors import BadRequest
from monoscope.dictionary.base import Dictionary

_DENSE = 0.1
_VARIED, _STEP_BACK = 60, 0.85

_Scored = tuple[float, Evidence, dict[str, Match]]


@dataclass(frozen=True)
class SearchHit:
    """A feature that answers a query. Scores rank the hits of one query and mean nothing across queries."""

    feature: int
    label: str
    score: float
    why: str
    example: Context | None


@dataclass(frozen=True)
class Filters:
    """Which features may answer. None asks for nothing.

    `source` and `language` keep features that fire there at least as often as in the whole text.
    """

    density_min: float | None = None
    density_max: float | None = None
    label_score_min: float | None = None
    concept_min: float | None = None
    source: str | None = None
    language: str | None = None

    def allowed(self, atlas: Atlas) -> Bool[np.ndarray, "n_features"]:
        """The features that pass.

        Raises
            BadRequest  the text has no such source or language.
        """
        density = atlas.densities
        passed = np.ones(len(density), bool)
        if self.density_min is not None:
            passed &= density >= self.density_min
        if self.density_max is not None:
            passed &= density <= self.density_max
        if self.label_score_min is not None:
            passed &= atlas.column("label_score") >= self.label_score_min
        if self.concept_min is not None:
            passed &= atlas.concepts >= self.concept_min
        for kind, name in (("source", self.source), ("language", self.language)):
            if name:
                passed &= (density > 0) & (atlas.rates(kind, name) >= density)
        return passed

    @property
    def asks(self) -> bool:
        """Does it ask for anything?"""
        return self != Filters()


ALL = Filters()


def search_words(atlas: Atlas, query: str, limit: int = 10, filters: Filters = ALL) -> list[SearchHit]:
    """Features whose words, contexts or label answer the query, best first.

    Words of like meaning count too, where the atlas has a table of meanings (`meaning`).

    Cost    milliseconds; the first search of an atlas makes the index, about a millisecond a feature.

    Raises
        BadRequest  the query has no word in it, or a filter names what the text has not.
    """
    terms = query_terms(query)
    if not terms:
        raise BadRequest(f"The query {query!r} has no word to look for.")
    kin = {term: kin_of(atlas, term) for term in terms}
    index = open_index(atlas)
    try:
        found = with_desk_labels(atlas, candidates(index, kin), terms)
        rarity = {term: term_rarity(index, term) for term in terms}
    finally:
        index.close()
    allowed = filters.allowed(atlas) if filters.asks else None
    total = sum(rarity.values())
    scored = []
    for one in found:
        matches = {term: match_term(term, one, kin[term]) for term in terms}
        score = sum(rarity[term] * match.weight for term, match in matches.items()) / total
        if score > 0 and (allowed is None or allowed[one.feature]):
            scored.append((score * specific(atlas, one.feature), one, matches))
    scored.sort(key=lambda item: (-item[0], item[1].feature))
    best = _varied(scored, rarity)[:limit]
    return hits_of(atlas, [(one.feature, score, why(matches, rarity)) for score, one, matches in best])


def hits_of(atlas: Atlas, ranked: Sequence[tuple[int, float, str]]) -> list[SearchHit]:
    """Hits of (feature, score, why), each with its label and strongest context."""
    features = [feature for feature, _, _ in ranked]
    examples, labels = _examples(atlas, features), atlas.labels_of(features) if features else {}
    return [
        SearchHit(feature, labels[feature], round(score, 4), why, examples.get(feature))
        for feature, score, why in ranked
    ]


def _varied(scored: list[_Scored], rarity: dict[str, float]) -> list[_Scored]:
    """The same list, but where a query has several words, features of one word step back behind those of another."""
    if len(rarity) == 1:
        return scored
    waiting, found = scored[:_VARIED], []
    seen = dict.fromkeys(rarity, 0)
    while waiting:
        best = max(waiting, key=lambda item: item[0] * _STEP_BACK ** seen[_main_term(item, rarity)])
        waiting.remove(best)
        seen[_main_term(best, rarity)] += 1
        found.append(best)
    return found + scored[_VARIED:]


def _main_term(item: _Scored, rarity: dict[str, float]) -> str:
    return max(item[2], key=lambda term: item[2][term].weight * rarity[term])


def search_prompt(
    atlas: Atlas,
    dictionary: Dictionary,
    residual: Float[Tensor, "tokens d"],
    tokens: Sequence[str],
    *,
    token: int | None = None,
    limit: int = 10,
    filters: Filters = ALL,
) -> list[SearchHit]:
    """Features that a text makes fire, the most telling first; with `token`, only what fires on that one.

        score = activation / largest activation of the feature · log(1 / density)

    Features denser than 10 % are left out. Signs without letters, and the first token of a longer text, count half.
    """
    if token is not None and not -len(tokens) <= token < len(tokens):
        raise BadRequest(f"There is no token {token}; the text has {len(tokens)}.")
    code = dictionary.encode(residual)
    rows, features = code.rows, code.indices.long()
    density = torch.from_numpy(atlas.densities).float().clamp(min=1 / max(1, int(atlas.manifest["tokens"])))
    largest = torch.maximum(torch.from_numpy(atlas.maxima).float(), dictionary.stats.max.float()).clamp(min=1e-6)
    telling = torch.tensor([_telling(number, text, len(tokens)) for number, text in enumerate(tokens)])
    score = (code.values.float() / largest[features]).clamp(max=1.2) * -density[features].log() * telling[rows]
    wanted = density[features] <= _DENSE
    if filters.asks:
        wanted &= torch.from_numpy(filters.allowed(atlas))[features]
    if token is not None:
        wanted &= rows == token % len(tokens)
    best: dict[int, tuple[float, int, float]] = {}
    for feature, value, row, amount in zip(
        features[wanted].tolist(),
        score[wanted].tolist(),
        rows[wanted].tolist(),
        code.values[wanted].tolist(),
        strict=True,
    ):
        if value > best.get(feature, (0.0, 0, 0.0))[0]:
            best[feature] = (value, row, amount)
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:limit]
    return hits_of(
        atlas,
        [
            (
                feature,
                value,
                f"fires on ‘{tokens[row].strip() or 'space'}’ at {amount:.2f}, "
                f"{100 * amount / float(largest[feature]):.0f} % of its largest",
            )
            for feature, (value, row, amount) in ranked
        ],
    )


def _telling(number: int, text: str, length: int) -> float:
    plain = not any(letter.isalnum() for letter in text)
    return 0.5 if plain or (number == 0 and length > 3) else 1.0


def specific(atlas: Atlas, feature: int) -> float:
    """Between 0.5 and 1: rare features that are well labelled, and concepts, answer better than common words."""
    density, score = float(atlas.densities[feature]), float(atlas.column("label_score")[feature])
    rare = min(1.0, math.log(1 / max(density, 1e-6)) / math.log(1000))
    concept = math.sqrt(max(0.0, float(atlas.concepts[feature])))
    return 0.5 + 0.2 * rare + 0.3 * max(0.0, score - 0.5) + 0.15 * concept


def _examples(atlas: Atlas, features: list[int]) -> dict[int, Context]:
    """The strongest context of each feature."""
    found = {}
    for row in atlas.rows("feature, peaks, quantiles, starts, stops, activations", features) if features else []:
        contexts = atlas.contexts(row, 1)
        if contexts:
            found[row["feature"]] = contexts[0]
    return found
