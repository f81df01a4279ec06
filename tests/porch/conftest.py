"""A run with a dictionary of planted concepts and its atlas, over a text that holds what nobody should trust."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch

from atlas.conftest import SITE, planted_dictionary
from monoscope.atlas.build import build_atlas
from monoscope.atlas.query import Atlas
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest, save_dictionary
from monoscope.harvest.read import calibrate, groups_of_windows, live_blocks
from monoscope.harvest.tokenise import write_store
from monoscope.porch.origin import Origin
from monoscope.text.corpus import Document, Part
from monoscope.text.sources import open_documents

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\"'&\u2028\u200b"
LABELLED = 3


@dataclass(frozen=True)
class Planted:
    """The run, the numbers of the concepts, and what the dictionary was made of."""

    run: Run
    numbers: dict[str, int]
    dictionary: Dictionary


def hostile_documents() -> Iterator[Document]:
    """The toy's documents with markup between their words, and titles that are no better."""
    for number, found in enumerate(open_documents("toy", seed=1)):
        middle = found.text.find(".") + 1
        text = f"{found.text[:middle]} {HOSTILE} é fox {HOSTILE} bear{found.text[middle:]}"
        yield replace(found, text=text, title=f"{HOSTILE} {number}", source="wiki-en", group="", id="")


@pytest.fixture(scope="session")
def planted(toy, tmp_path_factory) -> Planted:
    folder = tmp_path_factory.mktemp("exported")
    parts = [Part("toy", 0.6, open_documents("toy")), Part("wiki-en", 0.4, hostile_documents())]
    store = write_store(folder / "text", parts, toy, name="mixed", tokens=16_000, held_min=3_000)
    gate = calibrate(toy, store, SITE, seed=0)
    groups = [*groups_of_windows(store, held=False, seed=0), *groups_of_windows(store, held=True, seed=0)]
    blocks = list(live_blocks(toy, store, SITE, gate, groups))
    x = torch.cat([block.x for block in blocks])
    names, dictionary = planted_dictionary(x, gate.sink_limit)
    run = Run(folder / "run")
    place = run.dictionary("planted")
    save_dictionary(place, dictionary, probe=x, request={}, provenance={"model": "toy"})
    build_atlas(
        run.atlas("planted"),
        blocks,
        dictionary,
        store,
        unembedding=toy.unembedding(),
        request={"dictionary": "planted", "dictionary_digest": dictionary_digest(place), "model": "toy"},
    )
    Atlas.open(run.atlas("planted")).desk.label(LABELLED, f"cables {HOSTILE}", score=1.0, method="judge:somebody")
    return Planted(run, {name: number for number, name in enumerate(names)}, dictionary)


@pytest.fixture(scope="session")
def origin(planted) -> Origin:
    """All features, with vectors."""
    atlas = Atlas.open(planted.run.atlas("planted"))
    return Origin(atlas, tuple(range(atlas.n_features)), planted.dictionary)
