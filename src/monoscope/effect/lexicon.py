"""The words of a feature's concept, chosen from the contexts it fires on: a lexical stand-in for a judge.

A word speaks for the feature if it is at the peak of enough of its contexts, or near the peak of more of them, each
context weighing as much as the feature fires there, and if it is near the peaks several times as often as near random
places of the text. Words are compared by their stems. Whoever reads "concept rate" reads the share of replies in which
one of these words stands; a reply can speak of a concept without them, and can hold one of them by chance, which is why
the rate of the plain replies stands beside it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from monoscope.atlas.contexts import REACH
from monoscope.atlas.records import Context
from monoscope.atlas.words import stem
from monoscope.core.runtime import numpy_stream
from monoscope.harvest.token_store import TokenStore

NEAR = 8
# A word at the peak of two of some thirty contexts is one of the feature's; near the peak the words of a whole sentence
# stand, so there it takes a fifth.
LEAST_PEAK_SHARE, LEAST_NEAR_SHARE = 0.06, 0.2
# Words near more than this share of random places are grammar. What merely stands near the peaks must be rarer: there
# are many of those words.
COMMON_AT_PEAK, COMMON_NEAR = 0.05, 0.005
# Below this a word is near the peaks by chance.
LEAST_LIFT = 5.0
# A word that more than one plain reply of six holds is said anyway.
MOST_PLAIN = 1 / 6
MOST_WORDS = 8
_SHORTEST = 3
_PLACES = 3000
_WORD = re.compile(r"[^\W\d_]+")
_MARK = re.compile(r"<\|[^|>]*\|>")


@dataclass(frozen=True)
class Lexicon:
    """The words of a concept, the most telling first: stem, and how it is mostly written."""

    words: dict[str, str]

    def heard_in(self, text: str) -> bool:
        """Whether a text holds one of the words."""
        return any(found in self.words for found, _ in _stems(text))

    def without(self, texts: Sequence[str]) -> "Lexicon":
        """The same without the words that too many of some plain texts hold."""
        counts = Counter(one for text in texts for one in {found for found, _ in _stems(text)})
        return Lexicon({one: form for one, form in self.words.items() if counts[one] <= MOST_PLAIN * len(texts)})

    @property
    def forms(self) -> tuple[str, ...]:
        """The words as they are written."""
        return tuple(self.words.values())


@dataclass(frozen=True)
class Background:
    """Random places of a text: the share of them that has each stem near, and the tokens around some of them."""

    share: dict[str, float]
    places: int
    contexts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, store: TokenStore, *, seed: int = 0, places: int = _PLACES, contexts: int = 64) -> "Background":
        """Draw the places evenly from the tokens of a text. Cost: a tenth of a second, whatever the text's length."""
        drawn = numpy_stream(seed, "random places").integers(0, max(1, store.n_tokens), places if store.n_tokens else 0)
        counts: Counter[str] = Counter()
        for start, stop in _around(store, drawn, NEAR):
            counts.update({one for one, _ in _stems(store.text_of(start, stop))})
        around = [tuple(store.ids[start:stop].tolist()) for start, stop in _around(store, drawn[:contexts], REACH)]
        return cls({one: count / places for one, count in counts.items()}, places, tuple(around))

    def rate(self, word: str) -> float:
        """The share of random places that have a stem near; one never seen counts half a place."""
        return self.share.get(word, 0.5 / max(1, self.places))


def _around(store: TokenStore, tokens: np.ndarray, reach: int) -> Iterator[tuple[int, int]]:
    """The tokens within `reach` of each of some tokens, in the same document."""
    document = store.document_of(torch.from_numpy(tokens)).numpy()
    offsets = store.offsets.numpy()
    for token, number in zip(tokens.tolist(), document.tolist(), strict=True):
        yield max(int(offsets[number]), token - reach), min(int(offsets[number + 1]), token + reach + 1)


def concept_words(contexts: Sequence[Context], background: Background) -> Lexicon:
    """The words that a feature's contexts share and the text lacks; none where it peaks on signs or on common words."""
    firing = [(context, context.activations[context.peak]) for context in contexts]
    total = sum(value for _, value in firing)
    at: dict[str, float] = defaultdict(float)
    near: dict[str, float] = defaultdict(float)
    often: Counter[str] = Counter()
    written: dict[str, Counter[str]] = defaultdict(Counter)
    for context, value in firing:
        spoken = _peak_word(context)
        around = dict(_stems("".join(context.tokens[max(0, context.peak - NEAR) : context.peak + NEAR + 1])))
        if spoken is not None:
            around[spoken[0]] = spoken[1]
            at[spoken[0]] += value / total
        for one, form in around.items():
            near[one] += value / total
            often[one] += 1
            written[one][form] += 1
    score = {}
    for one, share in near.items():
        rate = background.rate(one)
        if often[one] > 1 and share >= LEAST_LIFT * rate and _speaks(at[one], share, rate):
            score[one] = max(at[one], share / 2)
    best = sorted(score, key=lambda one: (-score[one], one))[:MOST_WORDS]
    return Lexicon({one: written[one].most_common(1)[0][0] for one in best})


def _speaks(at: float, near: float, rate: float) -> bool:
    """Whether a word that is at this share of peaks, near this one, and near this share of random places is telling."""
    if at >= LEAST_PEAK_SHARE:
        return rate <= COMMON_AT_PEAK
    return near >= LEAST_NEAR_SHARE and rate <= COMMON_NEAR


def _peak_word(context: Context) -> tuple[str, str] | None:
    """Stem and writing of the word that the peak token is part of."""
    text = _MARK.sub(lambda mark: " " * len(mark[0]), "".join(context.tokens))
    first = len("".join(context.tokens[: context.peak]))
    last = first + max(1, len(context.tokens[context.peak]))
    for found in _WORD.finditer(text):
        if found.start() < last and found.end() > first and len(found[0]) >= _SHORTEST:
            return stem(found[0]), found[0]
    return None


def _stems(text: str) -> Iterator[tuple[str, str]]:
    for word in _WORD.findall(_MARK.sub(" ", text)):
        if len(word) >= _SHORTEST:
            yield stem(word), word
