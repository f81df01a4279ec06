import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.atlas.records import Context
from monoscope.atlas.words import stem
from monoscope.core.toy_text import toy_concepts
from monoscope.effect.lexicon import MOST_WORDS, NEAR, Background, Lexicon, concept_words


def context(text: str, peak: str, value: float = 1.0) -> Context:
    """A context with one token a word, firing on `peak` alone."""
    words = text.split()
    tokens = tuple(f" {word}" if place else word for place, word in enumerate(words))
    at = words.index(peak)
    activations = tuple(value if place == at else 0.0 for place in range(len(words)))
    return Context(tokens, tuple(t.encode() for t in tokens), activations, at, "top", 0, "", "", "en", 0)


BACKGROUND = Background({"the": 0.4, "of": 0.3, "river": 0.001, "bridge": 0.001, "other": 0.017}, 1000, ())


def test_words_at_the_peaks_and_rare_words_near_them_are_listened_for():
    found = concept_words(
        [
            context("the old bridge over the river", "bridge", 2.0),
            context("two Bridges of the other river", "Bridges", 1.0),
            context("the arch of other stones by the river", "arch", 1.0),
        ],
        BACKGROUND,
    )
    assert found.words == {"bridg": "bridge", "river": "river"}
    assert found.heard_in("They crossed many BRIDGES.") and found.heard_in("rivers")
    assert not found.heard_in("abridged, a rive, an arch") and not found.heard_in("")


def test_the_peak_word_is_put_together_from_its_tokens():
    tokens = ("<|im_start|>", "a", " chem", "ist", "ry", " set")
    at_end = Context(tokens, (), (0, 0, 0.5, 1.0, 0, 0), 3, "top", 0, "", "", "en", 0)
    assert concept_words([at_end] * 2, BACKGROUND).forms[0] == "chemistry"
    assert "im_start" not in "".join(concept_words([at_end] * 2, BACKGROUND).forms)


def test_signs_common_words_and_lone_contexts_give_nothing():
    signs = [context("the , of", ","), context("of , the", ",")]
    assert not concept_words(signs, BACKGROUND).words
    assert not concept_words([context("seen the", "the"), context("with the", "the")], BACKGROUND).words
    assert not concept_words([context("one bridge", "bridge")], BACKGROUND).words
    assert not concept_words([], BACKGROUND).words


@given(st.lists(st.sampled_from(["moon", "tree", "salt", "blue"])), st.sampled_from(["Bridge", "bridges", "RIVER"]))
def test_a_text_is_heard_if_and_only_if_a_word_is_in_it(filler, word):
    lexicon = Lexicon({"bridg": "bridge", "river": "river"})
    text = " ".join(filler)
    assert not lexicon.heard_in(text)
    assert lexicon.heard_in(f"{text}, {word}; {text}")


def test_words_that_plain_texts_hold_are_left_out():
    lexicon = Lexicon({"bridg": "bridge", "river": "river"})
    texts = ["a river, a river", "the rivers", *["nothing"] * 9]
    assert lexicon.without(texts).forms == ("bridge",)
    assert lexicon.without([*texts, "nothing"]).forms == ("bridge", "river")
    assert lexicon.without([]) == lexicon


def test_random_places_know_how_common_words_are(opened):
    found = Background.of(opened.store, places=500, contexts=5)
    words = {stem(word) for group in toy_concepts().values() for word in group}
    assert all(0 < share <= 1 for share in found.share.values())
    # Every sentence has an article; each of some two hundred words of content is rare.
    assert found.rate("the") > 0.3
    assert sum(found.rate(word) for word in words) / len(words) < 0.1
    assert found.rate("never-written") == pytest.approx(0.5 / 500)
    assert found == Background.of(opened.store, places=500, contexts=5)
    assert len(found.contexts) == 5 and all(NEAR < len(one) <= 49 for one in found.contexts)


def test_a_planted_concept_is_heard_by_its_own_words(opened, planted):
    background = Background.of(opened.store)
    for name in ("music", "law", "weather"):
        found = concept_words(opened.feature(planted.numbers[name]).contexts, background)
        assert 2 <= len(found.words) <= MOST_WORDS
        assert set(found.words) <= {stem(word) for word in toy_concepts()[name]}
