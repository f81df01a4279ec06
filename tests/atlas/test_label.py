"""Labels are recovered from planted features over a text written here, and noise is scored as noise."""

import numpy as np
import pytest
import torch

from monoscope.atlas.candidates import Corpus, Rule
from monoscope.atlas.examples import Counts, Gathering
from monoscope.atlas.label import balanced_accuracy, label_features, label_one
from monoscope.core.sparse import SparseCode
from monoscope.harvest.tokenise import write_store
from monoscope.model.transformer import load_model
from monoscope.text.corpus import Document, Part

_ENGLISH = (
    "The king and the queen saw {a} in {year}, near the river.",
    "We raise {a} and we see {b}; they raise {b} in {year}.",
    "Some {a} (and {b}) are here, said the {b} on {n} days.",
)
_FRENCH = "Le roi est dans la maison avec {a} et {b}, mais il ne voit pas {a}."
_WORDS = "bridge bridges bread cheese violin piano acid carbon comet planet soldier sword basket river".split()  # noqa: SIM905


def documents():
    stream = np.random.default_rng(3)
    for number in range(160):
        a, b = stream.choice(_WORDS, 2, replace=False)
        facts = {"a": a, "b": b, "year": int(stream.integers(1500, 2020)), "n": int(stream.integers(2, 90))}
        french = number % 4 == 3
        text = _FRENCH.format(**facts) if french else " ".join(line.format(**facts) for line in _ENGLISH)
        yield Document(text, title=f"{a} {number}", source="written", language="fr" if french else "en", topic=str(a))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    part = Part("written", 1.0, list(documents()))
    return write_store(
        tmp_path_factory.mktemp("text") / "t", [part], load_model("toy"), name="t", tokens=9000, held_min=100
    )


@pytest.fixture(scope="module")
def corpus(store):
    return Corpus(store)


def label_of(corpus, fires, seed=0):
    """Run a feature that fires on the marked tokens through the pass and label it."""
    store = corpus.store
    strength = np.random.default_rng(seed).uniform(1, 5, len(fires)).astype(np.float32)
    gathering = Gathering(store, np.array([5.0], np.float32))
    dense = torch.from_numpy(np.where(fires, strength, 0).astype(np.float32))[:, None]
    gathering.add(torch.arange(len(fires)), SparseCode.from_dense(dense))
    return label_features(corpus, gathering.examples(), gathering.counts())[0]


def words_at(corpus):
    words = corpus.words
    return np.array(words.surfaces, dtype=object)[words.surface[words.of_token]]


def test_a_feature_of_a_word_is_named_by_it_and_its_forms(corpus):
    label = label_of(corpus, np.isin(words_at(corpus), ["bridge", "bridges"]))
    assert set(label.text.split(", ")) == {"bridge", "bridges"}
    assert label.score > 0.95


def test_a_feature_of_years_is_named_numbers(corpus):
    found = label_of(corpus, np.array([word.isdigit() and len(word) == 4 for word in words_at(corpus)]))
    assert found.text.startswith("numbers: years")
    assert found.score > 0.9


def test_a_feature_of_a_language_is_named_by_it(corpus):
    language = np.array(corpus.store.documents["language"].to_pylist())
    found = label_of(corpus, language[corpus.words.document[corpus.words.of_token]] == "fr")
    assert "French" in found.text
    assert found.score > 0.9


def test_a_feature_of_what_follows_a_word_says_after(corpus):
    words = corpus.words
    after = np.array([i >= 0 and words.stems[i] == "rais" for i in words.previous[words.of_token]])
    found = label_of(corpus, after)
    assert found.text == "after ‘raise’"
    assert found.score > 0.9


def test_commas_and_brackets_are_named(corpus):
    assert "‘(’" in label_of(corpus, words_at(corpus) == "(").text
    assert "‘,’" in label_of(corpus, words_at(corpus) == ",").text


def test_a_feature_that_fires_anywhere_scores_near_chance(corpus):
    scores = [
        label_of(corpus, np.random.default_rng(i).random(corpus.store.n_tokens) < 0.05, i).score for i in range(8)
    ]
    assert abs(np.mean(scores) - 0.5) < 0.15


def test_a_silent_feature_says_so(corpus):
    label = label_one(corpus, np.zeros(0, np.int64), np.zeros(0, np.float32), 0.0)
    assert (label.text, label.score, label.kind) == ("never fires", 0.5, "silent")


def test_one_context_is_too_few_to_score(corpus):
    assert label_one(corpus, np.array([5]), np.array([2.0], np.float32), 1e-4).score == 0.5


def test_balanced_accuracy_by_hand():
    # Holds for 3 of the 4 scored contexts and for 10 % of all tokens; the feature fires on 2 % of them, so
    # 0.1 - 0.75 * 0.02 = 0.085 of all tokens hold without firing, out of 0.98.
    rule = Rule("word", "x", np.array([True, False, True, True, False]), 0.1)
    scoring = np.array([True, False, True, True, True])
    assert balanced_accuracy(rule, scoring, 0.02) == pytest.approx((0.75 + 1 - 0.085 / 0.98) / 2)


def test_every_feature_of_an_atlas_is_labelled(world, atlas):
    texts = [record.label for record in atlas.features(range(25))]
    assert all(texts)
    music = atlas.feature(world.names.index("music"))
    assert set(music.label.split(" (")[0].removeprefix("near ").split(", ")) <= {
        *"song piano violin drum opera bass pipe keyboard record music".split(),  # noqa: SIM905
    }


def test_counts_need_no_tokens():
    nothing = np.zeros(1, np.int64)
    assert Counts(nothing, nothing, nothing, nothing, nothing, 0).tokens == 0
