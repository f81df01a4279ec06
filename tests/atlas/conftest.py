"""A toy text, the toy model's activations on it, and a dictionary whose features are the planted directions."""

from dataclasses import dataclass

import pytest
import torch

from monoscope.atlas.build import build_atlas
from monoscope.atlas.query import Atlas
from monoscope.core.blocks import ActivationBlock
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.jumprelu import JumpReluDictionary
from monoscope.harvest.read import calibrate, groups_of_windows, live_blocks
from monoscope.harvest.token_store import TokenStore
from monoscope.harvest.tokenise import write_store
from monoscope.model.toy import planted_directions
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.text.corpus import Part
from monoscope.text.sources import open_documents

SITE = Site(1)
THRESHOLD = 1.2


@dataclass(frozen=True)
class World:
    model: LanguageModel
    store: TokenStore
    blocks: list[ActivationBlock]
    dictionary: Dictionary
    names: list[str]
    folder: object


def planted_dictionary(x, sink_limit, extra_dead=1) -> tuple[list[str], Dictionary]:
    """One feature for each planted concept, and one that can never fire."""
    names, rows = planted_directions()
    rows = torch.cat([rows, torch.nn.functional.normalize(torch.ones(extra_dead, rows.shape[1]), dim=1)])
    threshold = torch.full((len(rows),), THRESHOLD)
    threshold[-extra_dead:] = 1e6
    weights = Weights(rows.T.contiguous(), torch.zeros(len(rows)), rows, torch.zeros(rows.shape[1]), threshold)
    pre = torch.where(x @ rows.T > threshold, x @ rows.T, 0.0)
    stats = Stats(
        max=pre.amax(0),
        p999=pre.amax(0),
        density=(pre > 0).float().mean(0),
        mean_vector=x.mean(0),
        tokens=len(x),
        mean_norm=float(x.norm(dim=1).mean()),
        sink_limit=sink_limit,
    )
    return [*names, *["dead"] * extra_dead], JumpReluDictionary(
        weights, site=SITE, name="planted", stats=stats, settings={}
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    model = load_model("toy")
    part = Part("toy", 1.0, open_documents("toy"))
    store = write_store(folder / "text", [part], model, name="toy", tokens=20_000, held_min=1000)
    gate = calibrate(model, store, SITE, seed=0)
    groups = [*groups_of_windows(store, held=False, seed=0), *groups_of_windows(store, held=True, seed=0)]
    blocks = list(live_blocks(model, store, SITE, gate, groups))
    names, dictionary = planted_dictionary(torch.cat([block.x for block in blocks]), gate.sink_limit)
    return World(model, store, blocks, dictionary, names, folder)


@pytest.fixture(scope="session")
def atlas_folder(world):
    folder = world.folder / "atlas" / "planted"
    build_atlas(
        folder,
        world.blocks,
        world.dictionary,
        world.store,
        unembedding=world.model.unembedding(),
        vocabulary=world.model.vocabulary,
        request={"dictionary": "planted", "model": "toy"},
    )
    return folder


@pytest.fixture(scope="session")
def atlas(atlas_folder):
    return Atlas.open(atlas_folder)
