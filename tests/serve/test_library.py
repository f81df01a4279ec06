"""An atlas that was built again is noticed, and who reads the old one reads on."""

import shutil

import duckdb
import pytest

from monoscope.atlas.schema import DATABASE, MANIFEST
from monoscope.core.artifact import digest_file, exchanged, read_json, write_json
from monoscope.core.errors import MonoscopeError
from monoscope.serve.app import create_app
from monoscope.serve.library import Library

from .client import PORT, Client
from .toy_map import lay_map


@pytest.fixture
def folder(run, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    return copied


def rebuild(folder, label):
    """Another atlas in place of the one there, as a build puts it: in one step."""
    place, aside = folder / "atlas" / "toy", folder / "atlas" / ".toy.new"
    shutil.copytree(place, aside)
    with duckdb.connect(str(aside / DATABASE)) as database:
        database.execute("UPDATE features SET label = ?, label_score = 0.9", [label])
    manifest = read_json(aside / MANIFEST)
    manifest["digests"][DATABASE] = digest_file(aside / DATABASE)
    write_json(aside / MANIFEST, manifest)
    assert exchanged(aside, place)
    shutil.rmtree(aside)


def test_a_new_atlas_is_served_from_the_next_request(folder, toy):
    library = Library(folder)
    library.give_model(toy)
    client = Client(create_app(folder, library=library, port=PORT))
    first = client.get("/api/v1/features/toy/3?brief=true").json()["label"]
    assert client.get("/").status_code == 200
    assert library.atlas() is library.atlas()
    rebuild(folder, "wholly new")
    assert client.get("/api/v1/features/toy/3?brief=true").json()["label"] == "wholly new" != first
    assert "wholly new" in client.get("/f/toy/3").text


def test_who_holds_the_old_one_reads_on(folder):
    library = Library(folder)
    held = library.atlas()
    before = held.feature(3)
    rebuild(folder, "wholly new")
    assert library.atlas().feature(3).label == "wholly new" and held.feature(3) == before
    rebuild(folder, "newer still")
    assert library.atlas().feature(3).label == "newer still"


def test_a_map_made_meanwhile_is_seen(folder):
    atlas = folder / "atlas" / "toy"
    (atlas / "clusters.json").unlink()
    library = Library(folder)
    assert library.atlas().map is None
    lay_map(atlas)
    assert library.atlas().map is not None


def test_a_manifest_in_the_making_is_no_end(folder):
    library = Library(folder)
    assert library.atlas().feature(3)
    manifest = folder / "atlas" / "toy" / MANIFEST
    whole = manifest.read_text()
    manifest.write_text("{")
    with pytest.raises(MonoscopeError):
        library.atlas()
    manifest.write_text(whole)
    assert library.atlas().feature(3)


def test_a_dictionary_that_was_trained_again_is_read_again(folder):
    library = Library(folder)
    first = library.dictionary()
    assert library.dictionary() is first
    place = folder / "dictionaries" / "toy" / "monoscope.json"
    shutil.copy(place, place.with_suffix(".new"))
    place.with_suffix(".new").replace(place)
    assert library.dictionary() is not first
