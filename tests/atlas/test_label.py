"""Labels are recovered from planted features over a text written here, and noise is scored as noise."""

import numpy as np
import pytest
import torch

from monoscope.atlas.candidates import Corpus
from monoscope.atlas.examples import Gathering
from monoscope.atlas.label import Labeller, label_features
from monoscope.atlas.sample import Sampling
from monoscope.atlas.trying import balanced_accuracy
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
        tmp_path_factory.mktemp("text") / "t", [part], load_model("toy"), name="t", tokens=9000, held_min=3000
    )


@pytest.fixture(scope="module")
def corpus(store):
    return Corpus(store)


def label_of(corpus, fires, seed=0):
    """Run a feature that fires on the marked tokens through the pass and label it."""
    return labels_of(corpus, [fires], seed).labels[0]


def labels_of(corpus, marked, seed=0):
    """The same for several features."""
    store, stream = corpus.store, np.random.default_rng(seed)
    dense = np.stack([np.where(fires, stream.uniform(1, 5, len(fires)), 0) for fires in marked], 1).astype(np.float32)
    code = SparseCode.from_dense(torch.from_numpy(dense))
    piece = np.arange(len(dense)), code.indices.numpy(), code.values.numpy(), code.counts.numpy()
    gathering, sampling = Gathering(store, dense.max(0)), Sampling(store, len(marked))
    gathering.add(*piece)
    sampling.add(piece[0], piece[3], piece[1], piece[2])
    labeller = Labeller(corpus, sampling.sample(), store.held_documents.numpy())
    return label_features(labeller, gathering.examples(), gathering.counts(), np.arange(len(marked)))


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
    label = label_of(corpus, np.zeros(corpus.store.n_tokens, bool))
    assert (label.text, label.score, label.kind) == ("never fires", 0.5, "silent")


def test_one_firing_is_too_few_to_score(corpus):
    assert label_of(corpus, np.arange(corpus.store.n_tokens) == 5).score == 0.5


def test_several_words_of_one_meaning_are_all_named(corpus):
    words = ["violin", "piano", "soldier", "sword"]
    label = label_of(corpus, np.isin(words_at(corpus), words))
    assert set(words) <= set(label.text.split(", "))
    assert label.score > 0.9


def test_the_control_of_good_labels_is_chance(corpus):
    marked = [np.isin(words_at(corpus), [word]) for word in ("bridge", "bread", "acid", "comet", "sword", "river")]
    labels = labels_of(corpus, marked).labels
    assert np.mean([label.score for label in labels]) > 0.9
    assert abs(np.mean([label.control for label in labels]) - 0.5) < 0.1


def test_balanced_accuracy_by_hand():
    predicted = np.array([True, False, True, True, False, False])
    fires = np.array([True, True, True, True, False, False])
    assert balanced_accuracy(predicted, fires) == pytest.approx((0.75 + 1) / 2)
    assert balanced_accuracy(predicted[:4], fires[:4]) == 0.5
