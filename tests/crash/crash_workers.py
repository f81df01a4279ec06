"""What the children do until they are killed."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import monoscope.atlas.build
import monoscope.cli
import monoscope.stages
from monoscope.atlas import spool
from monoscope.core import artifact
from monoscope.core.run import Run
from monoscope.dictionary.shelf import load_dictionary
from monoscope.harvest.feed import Feed, Rows
from monoscope.harvest.pairs import PairedRows
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore
from monoscope.train.loop import train
from monoscope.train.recipes import RULES, Recipe

SITE, TOLD = "resid_post.2", "mlp_out.2"
TEXT = monoscope.stages.TextRequest("toy", 12_000, context=8)
RECIPE = Recipe(
    arch="batchtopk", latents=48, k=3, tokens=60 * 256, batch_rows=256, learning_rate=0.01, dead_tokens=1000
)


def die_at(call: int, *, after: bool) -> None:
    """Kill this process at its nth flush or rename, before or after it is done."""
    seen = 0

    def deadly(function: Callable) -> Callable:
        def called(*args: object, **kwargs: object) -> object:
            nonlocal seen
            seen += 1
            if seen == call and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = function(*args, **kwargs)
            if seen == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return called

    for name in ("fsync", "replace", "rename"):
        setattr(os, name, deadly(getattr(os, name)))
    artifact.exchanged = deadly(artifact.exchanged)


def harvest(folder: Path, started: Connection, kill: tuple[int, bool] | None, site: str = SITE) -> None:
    if kill is not None:
        die_at(kill[0], after=kill[1])
    started.send("started")
    monoscope.stages.harvest(Run(folder), "toy", site, TEXT, name="toy")


def harvest_told(folder: Path, started: Connection, kill: tuple[int, bool] | None) -> None:
    harvest(folder, started, kill, TOLD)


def rows_for(arch: str, run: Run) -> Rows:
    reads = ShardStore.load(run.activations(f"{SITE}@toy"))
    return PairedRows(reads, ShardStore.load(run.activations(f"{TOLD}@toy"))) if RULES[arch].two_sites else reads


def learn(run: Path, arch: str, folder: Path, started: Connection, kill: tuple[int, bool] | None) -> None:
    recipe = replace(RECIPE, arch=arch, resample_tokens=10 * RECIPE.batch_rows)
    feed = Feed(rows_for(arch, Run(run)), batch_rows=recipe.batch_rows, seed=0)
    if kill is not None:
        die_at(kill[0], after=kill[1])
    started.send("started")
    train(feed, recipe, folder, request={"of": "toy"}, checkpoint_seconds=0.0)


def build(run: Path, request: dict[str, str], folder: Path, started: Connection, kill: tuple[int, bool] | None) -> None:
    """Build an atlas in small pieces, in place of the one that is there."""
    spool._COMMIT_ROWS, monoscope.atlas.build._CHUNK_ROWS = 3000, 1500
    store, shards = TokenStore.load(run / "text"), ShardStore.load(run / "activations")
    dictionary = load_dictionary(run / "dictionary")
    if kill is not None:
        die_at(kill[0], after=kill[1])
    started.send("started")
    monoscope.atlas.build.build_atlas(folder, shards.blocks("all"), dictionary, store, request=request, replace=True)


def command(words: list[str]) -> None:
    sys.exit(monoscope.cli.run_command(words))
