"""Rules that may say when a feature fires, made from some of its contexts.

A rule is a test on a token: being of a kind, being in some words, standing after some words, standing near some words.
Each knows how often it holds on the whole text, so that how much it tells can be weighed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from monoscope.atlas.kinds import Kinds, kinds_of
from monoscope.atlas.ranges import any_of, ranges
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

    def around(self, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The words within `NEAR` tokens of each of some tokens, and of no other window: (place in `token`, word)."""
        window, of_token = self.window_of[token], self.words.of_token
        first = of_token[np.maximum(self.window_start[window], token - NEAR)]
        last = of_token[np.minimum(self.window_stop[window], token + NEAR + 1) - 1]
        return ranges(first, last + 1)

    def stems_around(self, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The stems of those words, each once a place: (place in `token`, stem), sorted."""
        place, word = self.around(token)
        pair = np.unique(place * len(self.words.stems) + self.words.stem[word])
        return pair // len(self.words.stems), pair % len(self.words.stems)

    def _learn_background(self) -> None:
        """Where each stem is near some tokens drawn evenly from the text."""
        n_tokens = self.store.n_tokens
        drawn = numpy_stream(0, "label background").integers(0, max(1, n_tokens), _BACKGROUND if n_tokens else 0)
        number, stem = self.stems_around(drawn)
        order = np.argsort(stem, kind="stable")
        draws = np.bincount(stem, minlength=len(self.words.stems))
        self.places = dict(enumerate(np.split(number[order], np.cumsum(draws)[:-1]))) if len(draws) else {}
        self.near_one = np.maximum(draws, 0.5) / _BACKGROUND
        self.telling = self.words.is_word & (self.words.stem_share <= _COMMON)

    def near_share(self, stems: Sequence[int]) -> float:
        """The share of tokens that have one of the stems near them. A stem never drawn counts half a draw."""
        drawn = [self.places[one] for one in stems]
        unseen = sum(not len(one) for one in drawn)
        return min(1.0, (len(np.unique(np.concatenate(drawn))) + 0.5 * unseen) / _BACKGROUND)


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
    return Rule("word", text, any_of(stems, chosen), share, Test("stem", tuple(chosen)))


def forms_of(words: Words, word: np.ndarray, weight: np.ndarray, stems: list[int], most: int = 5) -> list[str]:
    """How the words of some stems are written, the commonest first, differences of case left out."""
    seen: dict[str, str] = {}
    for text, _ in _written(words, word, weight, stems):
        seen.setdefault(text.lower(), text)
    return list(seen.values())[:most]


def form_of_each(words: Words, word: np.ndarray, weight: np.ndarray, stems: list[int]) -> list[str]:
    """How the words of each stem are mostly written; what does not occur is left out, and no writing comes twice."""
    best: dict[int, str] = {}
    for text, stem in _written(words, word, weight, stems):
        best.setdefault(stem, text)
    return list(dict.fromkeys(best[one] for one in stems if one in best))


def _written(words: Words, word: np.ndarray, weight: np.ndarray, stems: list[int]) -> list[tuple[str, int]]:
    """Each writing of the words of some stems, as shown, with its stem; the heaviest first, of equals the first met."""
    inside = np.flatnonzero(any_of(words.stem[word], stems))
    surface = words.surface[word[inside]]
    kinds, first, number = np.unique(surface, return_index=True, return_inverse=True)
    order = np.lexsort((first, -np.bincount(number, weights=weight[inside], minlength=len(kinds))))
    stem = words.stem[word[inside[first[order]]]]
    return [(shown(words.surfaces[one]), its) for one, its in zip(kinds[order].tolist(), stem.tolist(), strict=True)]


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
    holds = any_of(ids, chosen)
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
    return Rule("after", f"after {text}", any_of(before, chosen), share, Test("before", tuple(chosen)))


def _near_rule(
    corpus: Corpus, token: np.ndarray, word: np.ndarray, weight: np.ndarray, making: np.ndarray
) -> Rule | None:
    """Being near words that are far commoner there than elsewhere; the words peaked on are no news."""
    place, stem = corpus.stems_around(token)
    made = making[place]
    found, number = np.unique(stem[made], return_inverse=True)
    amount, often = np.bincount(number, weights=weight[place[made]]), np.bincount(number)
    lift = amount / weight[making].sum() / corpus.near_one[found]
    own = np.unique(corpus.words.stem[word])
    usable = (often > 1) & (lift > _LEAST_LIFT) & corpus.telling[found] & ~np.isin(found, own)
    found, score = found[usable], amount[usable] * np.log(lift[usable])
    chosen = found[np.lexsort((found, score))[::-1][:_MOST_WORDS]].tolist()
    if not chosen:
        return None
    holds = np.zeros(len(token), bool)
    holds[place[any_of(stem, chosen)]] = True
    about, near = corpus.around(token[making])
    text = ", ".join(form_of_each(corpus.words, near, np.ones(len(about)), chosen))
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
