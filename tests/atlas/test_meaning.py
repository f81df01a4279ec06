"""The table of meanings: near vectors are kin, and search says by which word it found a feature."""

import numpy as np
import pytest

from monoscope.atlas import meaning
from monoscope.atlas.concept import coherence
from monoscope.atlas.evidence import Evidence
from monoscope.atlas.matching import match_term
from monoscope.atlas.meaning import Meaning, kin_of, spoken_words
from monoscope.atlas.search import search_words


@pytest.fixture
def table():
    vectors = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1], [0.6, 0.8, 0]], np.float16)
    return Meaning({"fox": 0, "vulpin": 1, "stone": 2, "wolf": 3}, vectors, np.zeros(3, np.float16))


def test_kin_are_near_in_meaning_and_weigh_by_how_near(table):
    kin = table.kin(np.array([1.0, 0, 0]), without="fox")
    assert list(kin) == ["vulpin", "wolf"]
    assert kin["vulpin"] == pytest.approx(0.7 * 0.3 / 0.5, abs=0.01)
    assert kin["wolf"] < kin["vulpin"] < 1


def test_the_table_is_kept_for_its_atlas_only(table, tmp_path):
    table.save(tmp_path, "digest")
    again = Meaning.open(tmp_path, "digest")
    assert again is not None and again.words == table.words
    np.testing.assert_array_equal(again.vectors, table.vectors)
    assert Meaning.open(tmp_path, "other") is None
    assert Meaning.open(tmp_path / "nowhere", "digest") is None


def test_without_a_table_only_the_known_spellings_are_kin(atlas):
    assert kin_of(atlas, "fox") == {}
    assert "error" in kin_of(atlas, "exception")


def test_a_word_the_text_has_not_finds_what_means_the_same(atlas, table, monkeypatch):
    assert not search_words(atlas, "vulpine")
    monkeypatch.setattr(meaning, "_table", lambda folder, digest: table)
    hits = search_words(atlas, "vulpine")
    assert hits and hits[0].feature == search_words(atlas, "fox")[0].feature
    assert "fox" in hits[0].why or "wolf" in hits[0].why


def test_the_word_itself_beats_its_kin():
    own = Evidence(1, "", "word", peak={"fox": 0.5})
    kin = Evidence(2, "", "word", peak={"wolf": 0.5})
    assert match_term("fox", own, {"wolf": 0.6}).weight > match_term("fox", kin, {"wolf": 0.6}).weight > 0


def test_spoken_words_sum_their_shares():
    found = spoken_words(
        [
            Evidence(1, "", "word", peak={"fox": 0.5}, forms={"fox": "foxes"}),
            Evidence(2, "", "word", about={"fox": 0.2}),
        ]
    )
    assert found == {"fox": ("foxes", 0.7)}


def test_words_of_one_meaning_are_coherent_and_forms_of_one_word_are_not_many():
    vectors = {
        "fox": np.array([1.0, 0]),
        "wolf": np.array([0.8, 0.6]),
        "stone": np.array([0, 1.0]),
        "foxes": np.array([1.0, 0]),
    }
    assert coherence({"fox": 0.5, "wolf": 0.5}, vectors) == pytest.approx(0.8)
    assert coherence({"fox": 0.5, "stone": 0.5}, vectors) == 0
    assert coherence({"fox": 0.5}, vectors) == coherence({"unknown": 0.5, "fox": 0.5}, vectors) == 0
    assert coherence({"musical": 0.5, "música": 0.5}, {"musical": np.ones(2), "música": np.ones(2)}) == 0
