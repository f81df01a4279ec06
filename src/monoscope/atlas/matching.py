"""How well one feature speaks for each word of a query."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from monoscope.atlas.evidence import Evidence
from monoscope.atlas.query import Atlas
from monoscope.atlas.words import stem, word_pieces

_WEIGHTS = {"peak": 1.0, "near": 0.5, "about": 0.4}
# A label that names a kind of word was tested on contexts; it speaks for most of what the feature does.
_LABEL_WEIGHT = 0.9
_SMALL_WORDS = (
    "a an and are as at by for from how in into is it of on or that the their this to was what when where which who "
    "why with about features feature words word things thing le la les de du des et un une el los las del y"
)
_STOPWORDS = frozenset(_SMALL_WORDS.split())
# Names of kinds of tokens, and how they are written; nothing about the world.
ALSO = {
    "exception": ("error", "raise", "except", "traceback"),
    "error": ("exception", "raise"),
    "digit": ("number", "numeral"),
    "number": ("digit", "year"),
    "date": ("month", "year", "day"),
    "year": ("date",),
    "month": ("date",),
    "function": ("def", "method"),
    "loop": ("for", "while"),
    "variable": ("identifier",),
    "string": ("quotation",),
    "newline": ("line", "break"),
    "bracket": ("parenthesis",),
}
ALSO_WEIGHT, _PREFIX_WEIGHT, PREFIX = 0.75, 0.5, 5


@dataclass(frozen=True)
class Match:
    """How well a feature speaks for one word of the query, where, and by which word."""

    weight: float
    where: str
    word: str


def query_terms(query: str) -> list[str]:
    """The stems of a query's words, small grammatical words left out where others remain."""
    pieces = [piece for piece in word_pieces(query) if piece not in _STOPWORDS] or word_pieces(query)
    return list(dict.fromkeys(stem(piece) for piece in pieces))


def match_term(term: str, one: Evidence, kin: Mapping[str, float]) -> Match:
    """The best way in which a feature speaks for a word: itself, its `kin` by their weights, or one of its family."""
    best = _exact(term, one, 1.0)
    for other, weight in kin.items():
        if other in one.peak or other in one.near or other in one.about or one.label_kind in ("kind", "language"):
            best = max(best, _exact(other, one, weight), key=_weight)
    if best.weight < _PREFIX_WEIGHT and len(term) >= PREFIX:
        for where in ("peak", "about"):
            for word, share in getattr(one, where).items():
                likeness = _likeness(term, word)
                if likeness * share * _WEIGHTS[where] > best.weight:
                    best = Match(likeness * share * _WEIGHTS[where], where, one.forms.get(word) or word)
    return best


def _weight(match: Match) -> float:
    return match.weight


def spoken_for(one: Evidence) -> dict[str, float]:
    """How well each stem of its evidence speaks for a feature, as `match_term` weighs it."""
    stems = {*one.peak, *one.near, *one.about}
    stems |= label_stems(one.label) if one.label_kind in ("kind", "language") else set()
    return {each: _exact(each, one, 1.0).weight for each in stems}


def _exact(term: str, one: Evidence, weight: float) -> Match:
    matches = [Match(weight * _WEIGHTS[where] * getattr(one, where).get(term, 0.0), where, term) for where in _WEIGHTS]
    best = max(matches, key=_weight)
    if one.label_kind in ("kind", "language") and term in label_stems(one.label):
        best = max(best, Match(weight * _LABEL_WEIGHT, "label", one.label), key=_weight)
    # A word both at the peak and near it, or in the title as well, speaks louder.
    weight = min(1.2, 0.8 * best.weight + 0.2 * sum(match.weight for match in matches))
    return Match(weight, best.where, one.forms.get(best.word) or best.word)


def with_desk_labels(atlas: Atlas, found: list[Evidence], terms: list[str]) -> list[Evidence]:
    """The same features, and those whose label on the desk has a word of the query: that label speaks for them."""
    better = {
        feature: label
        for feature, label in atlas.desk.labels().items()
        if label.score > atlas.column("label_score")[feature] and not label_stems(label.text).isdisjoint(terms)
    }
    known = {one.feature: one for one in found}
    for feature, label in better.items():
        old = known.get(feature, Evidence(feature, label.text, "kind"))
        known[feature] = replace(old, label=label.text, label_kind="kind")
    return list(known.values())


def label_stems(label: str) -> set[str]:
    """The stems of a label's words."""
    return {stem(piece) for piece in word_pieces(label)}


def _likeness(term: str, word: str) -> float:
    """Words that begin alike for most of their length are often of one family."""
    common = 0
    for mine, other in zip(term, word, strict=False):
        if mine != other:
            break
        common += 1
    share = common / max(len(term), len(word))
    return _PREFIX_WEIGHT * share if common >= PREFIX and share >= 0.55 else 0.0


def why(matches: dict[str, Match], rarity: dict[str, float]) -> str:
    """The strongest matches in words."""
    told = {"peak": "fires on ‘{}’", "near": "near ‘{}’", "about": "in texts about ‘{}’", "label": "{}"}
    ranked = sorted(matches.items(), key=lambda item: -item[1].weight * rarity[item[0]])
    reasons = [told[match.where].format(match.word) for _, match in ranked[:3] if match.weight > 0]
    return ", ".join(dict.fromkeys(reasons))
