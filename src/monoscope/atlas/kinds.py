"""Kinds of words that a label can name: numbers, dates, names, punctuation, small grammatical words, languages."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monoscope.atlas.words import Words
from monoscope.harvest.token_store import TokenStore

_MONTHS = (
    "january february march april may june july august september october november december jan feb mar apr jun jul aug "
    "sep sept oct nov dec janvier février mars avril mai juin juillet août septembre octobre novembre décembre enero "
    "febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"
)
_DAYS = "monday tuesday wednesday thursday friday saturday sunday lundi mardi mercredi jeudi vendredi samedi dimanche"
_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million "
    "billion dozen deux trois quatre cinq sept huit neuf dix cent mille dos tres cuatro cinco seis siete ocho nueve "
    "diez cien mil millones first second third fourth fifth sixth seventh eighth ninth tenth premier première deuxième "
    "primero primera segundo segunda tercero"
)
_DETERMINERS = (
    "the a an this that these those its their his her our my your each every some any le la les un une des ce cette "
    "ces son sa ses leur leurs el los las una unos unas este esta estos estas su sus"
)
_PRONOUNS = (
    "i you he she it we they him them me us who which whom il elle ils elles nous vous qui que lui él ella ellos"
)
_PREPOSITIONS = (
    "of in on at by for with from to into over under between among through during about against within without across "
    "de du dans sur par pour avec sous entre vers chez en con por para sobre desde hasta del al"
)
_AUXILIARIES = (
    "is are was were be been being has have had do does did will would can could may might must should shall est sont "
    "était étaient être a ont avait peut es son fue fueron era eran ser está están ha han había puede"
)
_CONJUNCTIONS = "and or but nor so yet because although while whereas if et ou mais donc car ni y o pero aunque porque"
_KEYWORDS = (
    "def class return if elif else for while in not and or is None True False import from as with try except finally "
    "raise lambda yield pass break continue global nonlocal assert del async await self"
)
_LANGUAGES = {"en": "English", "fr": "French", "es": "Spanish", "de": "German", "it": "Italian", "pt": "Portuguese"}


def _among(words: str) -> Callable[[str], bool]:
    known = frozenset(words.split())
    return lambda text: text.lower() in known


def _like(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


# From the narrow to the wide; where two fit equally, the first wins.
WORD_KINDS: dict[str, Callable[[str], bool]] = {
    "numbers: years": _like(r"1[0-9]{3}|20[0-9]{2}"),
    "numbers": _like(r"\d+"),
    "dates: months": _among(_MONTHS),
    "dates: days of the week": _among(_DAYS),
    "number words": _among(_NUMBER_WORDS),
    "ordinals and decades": _like(r"\d+(?:st|nd|rd|th|s)"),
    "determiners": _among(_DETERMINERS),
    "pronouns": _among(_PRONOUNS),
    "prepositions": _among(_PREPOSITIONS),
    "auxiliary verbs": _among(_AUXILIARIES),
    "conjunctions": _among(_CONJUNCTIONS),
    "names in CamelCase": _like(r"[A-Z]+[a-z0-9]+[A-Z]\w*"),
    "words in capitals": _like(r"[A-Z]{2,}"),
    "sentence ends": _like(r"[.!?]+"),
    "commas and colons": _like(r"[,;:]+"),
    "quotation marks": _like(r"[\"'«»“”‘’`]+"),
    "brackets": _like(r"[()\[\]{}<>]+"),
    "operators": _like(r"[-=+*/%&|^~<>!@\\]+"),
    "punctuation": _like(r"[^\w\s]+"),
    "line breaks and indentation": _like(r"\s+"),
}


@dataclass(frozen=True)
class Kinds:
    """For each token, which kinds hold, as a table [tokens, kinds] of bits; and how common each kind is."""

    names: list[str]
    holds: np.ndarray
    share: np.ndarray
    in_share: np.ndarray
    groups: list[str]
    group: np.ndarray
    group_share: np.ndarray


def kinds_of(store: TokenStore, words: Words) -> Kinds:
    """Say for every token of a store which kinds it belongs to, and which language or source its document has."""
    names = [
        *WORD_KINDS,
        "capitalised names",
        "Python keywords",
        "the start of a text",
        "ends of words",
        "chat template",
    ]
    table = np.array([[test(text) for test in WORD_KINDS.values()] for text in words.surfaces], bool)
    surface = words.surface[words.of_token]
    group, groups = _groups(store)
    document = words.document[words.of_token]
    columns = list(table[surface].T) if len(table) else []
    columns += [_named(words)[words.of_token], _keywords(store, words, surface, document)]
    columns.append(np.arange(len(surface)) - store.offsets.numpy()[document] < 3)
    columns.append(np.arange(len(surface)) > words.first[words.of_token])
    columns.append(store.template.numpy())
    holds = np.stack(columns, axis=1)
    of_group = group[document]
    in_share = np.stack([holds[of_group == number].sum(0) for number in range(len(groups))]) / max(1, len(surface))
    group_share = np.bincount(of_group, minlength=len(groups)) / max(1, len(surface))
    return Kinds(names, holds, in_share.sum(0), in_share, groups, of_group, group_share)


def _named(words: Words) -> np.ndarray:
    capital = np.array([text[:1].isupper() and text[1:2].islower() for text in words.surfaces], bool)[words.surface]
    ends = np.array([text in ".!?\n" for text in words.surfaces], bool)[words.surface]
    inside = np.zeros(len(capital), bool)
    inside[1:] = ~ends[:-1] & (words.document[1:] == words.document[:-1])
    return capital & inside


def _keywords(store: TokenStore, words: Words, surface: np.ndarray, document: np.ndarray) -> np.ndarray:
    known = np.array([_among(_KEYWORDS)(text) or text in _KEYWORDS.split() for text in words.surfaces], bool)
    return known[surface] & is_code(store)[document]


def is_code(store: TokenStore) -> np.ndarray:
    """Which documents are code."""
    language = np.asarray(store.documents["language"].to_pylist(), dtype=object)
    source = np.asarray(store.documents["source"].to_pylist(), dtype=object)
    return np.array(
        ["python" in (a or "") or "python" in (b or "") for a, b in zip(language, source, strict=True)], bool
    )


def _groups(store: TokenStore) -> tuple[np.ndarray, list[str]]:
    names = []
    for language, code in zip(store.documents["language"].to_pylist(), is_code(store).tolist(), strict=True):
        names.append("Python code" if code else f"{_LANGUAGES.get(language, language or 'other')} text")
    found: dict[str, int] = {}
    group = np.array([found.setdefault(name, len(found)) for name in names], np.int64)
    return group, list(found)
