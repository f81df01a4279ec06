"""One toy world for all tests, built once through the public functions."""

# ruff: noqa: E402  what comes first must come before torch is imported

import os

# One thread each, set before torch and numba are imported: the toy is far too small to share out, and on a busy machine
# two threads that wait for each other take a hundred times longer.
for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings

from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary, save_dictionary
from monoscope.harvest.feed import Feed
from monoscope.harvest.shards import ShardStore, write_shards
from monoscope.harvest.token_store import TokenStore
from monoscope.harvest.tokenise import write_store
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.text.sources import open_documents
from monoscope.train.finish import finish
from monoscope.train.learner import Learner, Scaling
from monoscope.train.loop import train
from monoscope.train.recipes import Recipe

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("house")

TOY_SITE = Site(2)
TOY_RECIPE = Recipe(latents=96, k=3, tokens=150_000, batch_rows=512, learning_rate=1e-2, dead_tokens=20_000)


CHROMIUM = next(
    (
        path
        for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
        if Path(path).exists()
    ),
    None,
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"]


@dataclass(frozen=True)
class Trained:
    """A small dictionary as it lies on disk, and what training handed over."""

    folder: Path
    dictionary: Dictionary
    learner: Learner
    scaling: Scaling
    probe: torch.Tensor
    log: list[dict[str, float]]


@pytest.fixture(autouse=True)
def _no_wheels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the slow tests may fetch."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("MONOSCOPE_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def toy() -> LanguageModel:
    return load_model("toy")


@pytest.fixture(scope="session")
def toy_store(toy: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """20,000 tokens in windows of at most 64."""
    folder = tmp_path_factory.mktemp("toy") / "text"
    return write_store(folder, open_documents("toy"), toy, tokens=20_000, held_min=2_000, context=64)


@pytest.fixture(scope="session")
def toy_shards(toy: LanguageModel, toy_store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> ShardStore:
    folder = tmp_path_factory.mktemp("toy") / "activations"
    return write_shards(folder, toy, toy_store, TOY_SITE, request={"site": str(TOY_SITE), "text": "toy"})


@pytest.fixture(scope="session")
def toy_trained(toy_shards: ShardStore, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A BatchTopK dictionary of 96 latents after about 300 steps."""
    folder = tmp_path_factory.mktemp("toy") / "dictionary"
    feed = Feed(toy_shards, batch_rows=TOY_RECIPE.batch_rows, seed=0)
    found = train(feed, TOY_RECIPE, folder / "checkpoint", request={"recipe": "toy"})
    assert found is not None
    learner, scaling, log = found
    dictionary, probe = finish(learner, scaling, TOY_RECIPE, toy_shards, name="toy")
    save_dictionary(folder, dictionary, probe=probe, request={"recipe": "toy"}, provenance={"model": "toy"})
    return Trained(folder, load_dictionary(folder), learner, scaling, probe, log)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A real browser, one for the tests of a file."""
    if CHROMIUM is None:
        pytest.skip("NO CHROMIUM ON THIS MACHINE: the browser tests did not run; install the package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()
