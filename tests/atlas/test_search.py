import sqlite3

import pytest
import torch

from monoscope.atlas.matching import query_terms
from monoscope.atlas.query import Atlas
from monoscope.atlas.search import search_prompt, search_words
from monoscope.core.errors import BadRequest

from .conftest import SITE


@pytest.mark.parametrize(
    ("query", "concept"),
    [
        ("music", "music"),
        ("violin and piano", "music"),
        ("Bridges", "bridges"),
        ("weather", "weather"),
        ("chemical acid", "chemistry"),
        ("planets", "space"),
        ("kings", "royalty"),
        ("numbers", "numbers"),
    ],
)
def test_words_find_the_planted_feature_first(world, atlas, query, concept):
    hit = search_words(atlas, query, 3)[0]
    assert world.names[hit.feature] == concept
    assert hit.label == atlas.feature(hit.feature).label
    assert hit.example is not None
    assert hit.why


def test_hits_are_ranked_and_limited(atlas):
    hits = search_words(atlas, "animals", 4)
    assert len(hits) <= 4
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_nothing_known_is_nothing_found(atlas):
    assert search_words(atlas, "zygomorphic") == []


@pytest.mark.parametrize("query", ["", "  ", "?!", '"*'])
def test_a_query_without_words_is_refused(atlas, query):
    with pytest.raises(BadRequest):
        search_words(atlas, query)


@pytest.mark.parametrize("query", ['music" OR "', "music*", "NEAR(music)", "label:music", "music -piano"])
def test_signs_of_the_index_language_are_only_words(world, atlas, query):
    assert any(world.names[hit.feature] == "music" for hit in search_words(atlas, query))


def test_small_words_are_left_out_unless_they_are_all():
    assert query_terms("countries of the world") == ["country", "world"]
    assert query_terms("of the") == ["of", "the"]


def test_a_broken_or_foreign_index_is_made_again(atlas, atlas_folder):
    wanted = [hit.feature for hit in search_words(atlas, "music")]
    path = atlas_folder / "words.sqlite"
    path.write_bytes(b"no database")
    assert [hit.feature for hit in search_words(atlas, "music")] == wanted
    with sqlite3.connect(path) as index:
        index.execute("UPDATE origin SET digest = 'another'")
        index.execute("DELETE FROM evidence")
    index.close()
    assert [hit.feature for hit in search_words(atlas, "music")] == wanted


def test_a_folder_that_cannot_be_written_is_searched_all_the_same(atlas_folder, tmp_path, monkeypatch):
    other = Atlas.open(atlas_folder)
    other.folder = tmp_path / "file" / "atlas"
    (tmp_path / "file").write_text("not a folder")
    assert search_words(other, "music")
    other.close()


def test_a_prompt_finds_what_fires_on_it_and_says_where(world, atlas):
    model = world.model
    ids = [model.prefix_id, *model.encode_text("The doctor sees the piano.")]
    x = model.residual(torch.tensor([ids]), SITE)[0, 1:].float()
    pieces = [model.vocabulary[i].decode() for i in ids[1:]]
    hits = search_prompt(atlas, world.dictionary, x, pieces)
    assert {"music", "medicine"} <= {world.names[hit.feature] for hit in hits}
    music = next(hit for hit in hits if world.names[hit.feature] == "music")
    assert "piano" in music.why
    alone = search_prompt(atlas, world.dictionary, x, pieces, token=pieces.index(" doctor"))
    assert world.names[alone[0].feature] == "medicine"
    with pytest.raises(BadRequest, match="no token 99"):
        search_prompt(atlas, world.dictionary, x, pieces, token=99)
