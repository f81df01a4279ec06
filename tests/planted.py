"""A run whose dictionary reads the planted concepts of the toy model, with its atlas; and fixtures over it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from atlas.conftest import SITE, planted_dictionary
from monoscope.atlas.build import build_atlas
from monoscope.atlas.query import Atlas
from monoscope.core.run import Run
from monoscope.dictionary.shelf import dictionary_digest, save_dictionary
from monoscope.harvest.read import calibrate, groups_of_windows, live_blocks
from monoscope.harvest.tokenise import write_store
from monoscope.text.sources import open_documents


@dataclass(frozen=True)
class Planted:
    """The folder of a run with one dictionary and atlas, and the numbers of the concepts."""

    folder: Path
    numbers: dict[str, int]


@pytest.fixture(scope="session")
def planted(toy, tmp_path_factory) -> Planted:
    folder = tmp_path_factory.mktemp("planted") / "run"
    store = write_store(folder / "text" / "toy", open_documents("toy"), toy, tokens=20_000, held_min=4_000)
    gate = calibrate(toy, store, SITE, seed=0)
    groups = [*groups_of_windows(store, held=False, seed=0), *groups_of_windows(store, held=True, seed=0)]
    blocks = list(live_blocks(toy, store, SITE, gate, groups))
    x = torch.cat([block.x for block in blocks])
    names, dictionary = planted_dictionary(x, gate.sink_limit)
    at = folder / "dictionaries" / "planted"
    at.mkdir(parents=True)
    save_dictionary(at, dictionary, probe=x, request={}, provenance={"model": "toy", "text": "toy"})
    build_atlas(
        folder / "atlas" / "planted",
        blocks,
        dictionary,
        store,
        unembedding=toy.unembedding(),
        request={"dictionary": "planted", "dictionary_digest": dictionary_digest(at), "model": "toy"},
    )
    return Planted(folder, {name: number for number, name in enumerate(names)})


@pytest.fixture
def run(planted, tmp_path) -> Run:
    """A copy with an empty desk."""
    return Run(Path(shutil.copytree(planted.folder, tmp_path / "run")))


@pytest.fixture
def opened(run) -> Iterator[Atlas]:
    atlas = Atlas.open(run.atlas("planted"))
    yield atlas
    atlas.close()
