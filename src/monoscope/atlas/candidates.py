"""Rules that may say when a feature fires, made from some of its contexts.

A rule is a test on a token: being of a kind, being in some words, standing after some words, standing near some words.
Each knows how often it holds on the whole text, so that how much it tells can be weighed.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from monoscope.atlas.kinds import Kinds, kinds_of
from monoscope.atlas.words import Words
from monoscope.core.runtime import numpy_stream
from monoscope.harvest.token_store import TokenStore

NEAR = 12
_BACKGROUND = 4000
_MOST_WORDS, _LEAST_LIFT, _LEAST_SHARE = 6, 3.0, 0.08
# Words more common than this say nothing about a topic.
_COMMON = 0.002


@dataclass(frozen=True)
class Test:
    """How a rule is tried on a window: some token of it has one of `values` in `column`, and `also` holds there."""

    column: str
    values: tuple[int, ...]
    also: "Test | None" = None


@dataclass(frozen=True)
class Rule:
    """What a candidate says, for which of the feature's contexts it holds, its share of tokens, and how to try it."""

    kind: str
    text: str
    holds: np.ndarray
    share: float
    test: Test


class Corpus:
    """What rules are weighed against: the words, kinds and topics of a whole text. Built once, then only read."""

    def __init__(self, store: TokenStore) -> None:
        self.store, self.words = store, Words.of_store(store)
        self.kinds: Kinds = kinds_of(store, self.words)
        words, n_tokens = self.words, max(1, store.n_tokens)
        self.ids = store.ids.numpy()
        self.token_share = np.bincount(self.ids, minlength=len(store.vocabulary)) / n_tokens
        before = words.previous[words.of_token]
        self.before_share = np.bincount(before[before >= 0], minlength=len(words.stems)) / n_tokens
        self.topics = [(topic or "").strip() for topic in store.documents["topic"].to_pylist()]
        lengths = np.diff(store.offsets.numpy())
        self.topic_number = {topic: number for number, topic in enumerate(dict.fromkeys(self.topics))}
        self.topic_share: Counter[str] = Counter()
        for topic, length in zip(self.topics, lengths.tolist(), strict=True):
            self.topic_share[topic] += length / n_tokens
        self.window_of = np.searchsorted(store.windows.start.numpy(), np.arange(n_tokens), side="right") - 1
        self.window_stop = (store.windows.start + store.windows.length).numpy()
        self.window_start = store.windows.start.numpy()
        self._learn_background()

    def around(self, token: int) -> set[int]:
        """The stems of the words within `NEAR` tokens of one, and of no other window."""
        window = self.window_of[token]
        first, last = max(self.window_start[window], token - NEAR), min(self.window_stop[window], token + NEAR + 1)
        return set(self.words.near(int(first), int(last)).tolist())

    def _learn_background(self) -> None:
        """Where each stem is near some tokens drawn evenly from the text."""
        drawn = numpy_stream(0, "label background").integers(0, max(1, self.store.n_tokens), _BACKGROUND)
        self.places: dict[int, list[int]] = {}
        for number, token in enumerate(drawn.tolist() if self.store.n_tokens else []):
            for found in self.around(token):
                self.places.setdefault(found, []).append(number)
        draws = np.full(len(self.words.stems), 0.5)
        for found, places in self.places.items():
            draws[found] = len(places)
        self.near_one = (draws / _BACKGROUND).tolist()
        telling = self.words.is_word & (self.words.stem_share <= _COMMON)
        self.telling = telling.tolist()

    def near_share(self, stems: Sequence[int]) -> float:
        """The share of tokens that have one of the stems near them. A stem never drawn counts half a draw."""
        seen = set().union(*(self.places.get(one, ()) for one in stems))
        unseen = sum(one not in self.places for one in stems)
        return min(1.0, (len(seen) + 0.5 * unseen) / _BACKGROUND)


def rules_for(corpus: Corpus, token: np.ndarray, weight: np.ndarray, making: np.ndarray) -> list[Rule]:
    """The candidates for a feature whose contexts peak at `token`; only contexts marked `making` shape them."""
    word = corpus.words.of_token[token]
    spoken = _word_rule(corpus, word, weight, making)
    near = _near_rule(corpus, token, word, weight, making)
    found = [
        *_kind_rules(corpus, token, weight, making),
        spoken,
        _token_rule(corpus, token, word, weight, making),
        _before_rule(corpus, word, weight, making),
        _topic_rule(corpus, word, making, _first_words(near.text, 4) if near else ""),
    ]
    if near is not None:
        found.append(replace(near, text=f"near {near.text}"))
    if near is not None and spoken is not None:
        text = f"{spoken.text} (near {_first_words(near.text, 3)})"
        test = replace(spoken.test, also=near.test)
        found.append(Rule("both", text, spoken.holds & near.holds, spoken.share * near.share, test))
    return [rule for rule in found if rule is not None]


def _first_words(text: str, count: int) -> str:
    return ", ".join(text.split(", ")[:count])


def _kind_rules(corpus: Corpus, token: np.ndarray, weight: np.ndarray, making: np.ndarray) -> list[Rule]:
    kinds = corpus.kinds
    holds, group = kinds.holds[token], kinds.group[token]
    mass = (weight * making) @ holds
    best = np.argsort(-mass, kind="stable")[:4]
    rules = [
        Rule("kind", kinds.names[i], holds[:, i], float(kinds.share[i]), Test("kind", (int(i),)))
        for i in best
        if mass[i] > 0
    ]
    common = np.bincount(group[making], weights=weight[making], minlength=len(kinds.groups))
    main = int(common.argmax())
    inside = group == main
    spoken = Test("group", (main,))
    rules.append(Rule("language", kinds.groups[main], inside, float(kinds.group_share[main]), spoken))
    rules += [
        Rule(
            "kind",
            f"{kinds.names[i]} in {kinds.groups[main]}",
            holds[:, i] & inside,
            float(kinds.in_share[main, i]),
            Test("kind", (int(i),), spoken),
        )
        for i in best[:2]
        if mass[i] > 0 and kinds.names[i] not in ("Python keywords",)
    ]
    return rules


def _heaviest(ids: np.ndarray, weight: np.ndarray, share: np.ndarray) -> list[int]:
    """Ids that carry much of the weight and much more than their share of the text; one seen once needs to be alone."""
    total = weight.sum()
    mass: Counter[int] = Counter()
    for one, amount in zip(ids.tolist(), weight.tolist(), strict=True):
        mass[one] += amount
    often = Counter(ids.tolist())
    kept = [
        one
        for one, amount in mass.most_common()
        if one >= 0
        and amount >= _LEAST_SHARE * total
        and amount / total >= _LEAST_LIFT * share[one]
        and (often[one] > 1 or len(ids) < 6)
    ]
    return kept[:_MOST_WORDS]


def _word_rule(corpus: Corpus, word: np.ndarray, weight: np.ndarray, making: np.ndarray) -> Rule | None:
    words = corpus.words
    stems = words.stem[word]
    chosen = _heaviest(stems[making], weight[making], words.stem_share)
    if not chosen:
        return None
    text = ", ".join(forms_of(words, word[making], weight[making], chosen))
    share = float(words.stem_share[chosen].sum())
    return Rule("word", text, np.isin(stems, chosen), share, Test("stem", tuple(chosen)))


def forms_of(words: Words, word: np.ndarray, weight: np.ndarray, stems: list[int], most: int = 5) -> list[str]:
    """How the words of some stems are written, the commonest first, differences of case left out."""
    mass: Counter[str] = Counter()
    for one, amount in zip(word.tolist(), weight.tolist(), strict=True):
        if words.stem[one] in stems:
            mass[shown(words.surfaces[words.surface[one]])] += amount
    seen: dict[str, str] = {}
    for text, _ in mass.most_common():
        seen.setdefault(text.lower(), text)
    return list(seen.values())[:most]


def shown(text: str) -> str:
    """A word as a label shows it: signs in quotation marks, white space by its name."""
    if not text.strip():
        return "line break" if "\n" in text else "space"
    return text if any(letter.isalnum() for letter in text) else f"‘{text}’"


def _token_rule(
    corpus: Corpus, token: np.ndarray, word: np.ndarray, weight: np.ndarray, making: np.ndarray
) -> Rule | None:
    ids = corpus.ids[token]
    chosen = _heaviest(ids[making], weight[making], corpus.token_share)[:3]
    if not chosen:
        return None
    holds = np.isin(ids, chosen)
    pieces = [corpus.store.vocabulary[one].decode("utf-8", "replace") for one in chosen]
    pieces = [piece.strip() or shown(piece) for piece in pieces]
    surfaces = {corpus.words.surfaces[corpus.words.surface[one]] for one in word[making & holds].tolist()}
    longer = sorted(text for text in surfaces if text.strip() and text not in pieces)[:3]
    text = ", ".join(f"‘{piece}’" for piece in dict.fromkeys(pieces))
    if longer:
        text += f" in {', '.join(longer)}"
    return Rule("token", text, holds, float(corpus.token_share[chosen].sum()), Test("id", tuple(chosen)))


def _before_rule(corpus: Corpus, word: np.ndarray, weight: np.ndarray, making: np.ndarray) -> Rule | None:
    words = corpus.words
    before = words.previous[word]
    chosen = _heaviest(before[making], weight[making], corpus.before_share)[:3]
    if not chosen:
        return None
    earlier = np.where(before[making] >= 0, word[making] - 1, word[making])
    text = ", ".join(f"‘{form.strip('‘’')}’" for form in forms_of(words, earlier, weight[making], chosen, most=3))
    share = float(corpus.before_share[chosen].sum())
    return Rule("after", f"after {text}", np.isin(before, chosen), share, Test("before", tuple(chosen)))


def _near_rule(
    corpus: Corpus, token: np.ndarray, word: np.ndarray, weight: np.ndarray, making: np.ndarray
) -> Rule | None:
    """Being near words that are far commoner there than elsewhere; the words peaked on are no news."""
    around = [corpus.around(one) for one in token.tolist()]
    own = set(corpus.words.stem[word].tolist())
    mass: Counter[int] = Counter()
    often: Counter[int] = Counter()
    for number in np.flatnonzero(making).tolist():
        for one in around[number]:
            mass[one] += weight[number]
            often[one] += 1
    total = weight[making].sum()
    scored = []
    for one, amount in mass.items():
        lift = amount / total / corpus.near_one[one]
        if often[one] > 1 and lift > _LEAST_LIFT and corpus.telling[one] and one not in own:
            scored.append((amount * math.log(lift), one))
    chosen = [one for _, one in sorted(scored, reverse=True)[:_MOST_WORDS]]
    if not chosen:
        return None
    holds = np.array([not found.isdisjoint(chosen) for found in around])
    text = ", ".join(_near_forms(corpus, token[making], chosen))
    return Rule("near", text, holds, corpus.near_share(chosen), Test("stem", tuple(chosen)))


def _topic_rule(corpus: Corpus, word: np.ndarray, making: np.ndarray, near: str) -> Rule | None:
    """The topic that most of the documents have, told with the words `near`."""
    topics = [corpus.topics[one] for one in corpus.words.document[word].tolist()]
    main, count = Counter(topic for topic, made in zip(topics, making.tolist(), strict=True) if made).most_common(1)[0]
    if not main or count < 2:
        return None
    holds = np.array([topic == main for topic in topics])
    text, test = f"about {main}" + (f": {near}" if near else ""), Test("topic", (corpus.topic_number[main],))
    return Rule("topic", text, holds, float(corpus.topic_share[main]), test)


def _near_forms(corpus: Corpus, token: np.ndarray, stems: list[int]) -> list[str]:
    """The commonest writing of each stem near some tokens."""
    words = corpus.words
    forms: dict[int, Counter[str]] = {one: Counter() for one in stems}
    for one in token.tolist():
        first, last = max(0, one - NEAR), min(len(words.of_token), one + NEAR + 1)
        for number in range(int(words.of_token[first]), int(words.of_token[last - 1]) + 1):
            found = forms.get(int(words.stem[number]))
            if found is not None:
                found[words.surfaces[words.surface[number]]] += 1
    return [counts.most_common(1)[0][0] for counts in forms.values() if counts]
