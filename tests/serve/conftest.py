"""A small run on disk, and the explorer over it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from monoscope.atlas.build import build_atlas
from monoscope.serve.app import create_app
from monoscope.serve.library import Library
from monoscope.steer.presets import Preset, save_preset

from .client import PORT, Client
from .toy_map import lay_map


@pytest.fixture(scope="session")
def run(toy, toy_store, toy_shards, toy_trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "myrun"
    shutil.copytree(toy_trained.folder, folder / "dictionaries" / "toy")
    build_atlas(
        folder / "atlas" / "toy",
        toy_shards.blocks("all"),
        toy_trained.dictionary,
        toy_store,
        unembedding=toy.unembedding(),
        request={"dictionary": "toy", "model": "toy"},
    )
    lay_map(folder / "atlas" / "toy")
    return folder


@pytest.fixture(scope="session")
def books(run, toy) -> Iterator[Library]:
    library = Library(run)
    library.give_model(toy)
    found = library.atlas().highlights(1) or [library.atlas().feature(int(library.atlas().densities.argmax()))]
    save_preset(run, Preset("first", "toy", library.digest("toy"), (f"{found[0].feature} add 0.3r",)))
    yield library
    library.close()


@pytest.fixture
def lone(run, toy) -> Iterator[Client]:
    """A server of its own, with a batcher and counts that nobody else touches; its library is `books`."""
    library = Library(run)
    library.give_model(toy)
    client = Client(create_app(run, library=library, port=PORT))
    client.books = library
    yield client
    library.close()


@pytest.fixture(scope="session")
def feature(books) -> int:
    """A feature that fires often enough to have examples."""
    atlas = books.atlas()
    return int((atlas.column("label_score") * (atlas.densities > 0.001)).argmax())


@pytest.fixture(scope="session")
def client(run, books) -> Client:
    return Client(create_app(run, library=books, port=PORT))
