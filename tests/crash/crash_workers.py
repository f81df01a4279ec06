"""What the children do until they are killed."""

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import monoscope.cli
import monoscope.stages
from monoscope.core.run import Run
from monoscope.harvest.feed import Feed
from monoscope.harvest.shards import ShardStore
from monoscope.train.loop import train
from monoscope.train.recipes import Recipe

SITE = "resid_post.2"
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


def harvest(folder: Path, started: Connection, kill: tuple[int, bool] | None) -> None:
    if kill is not None:
        die_at(kill[0], after=kill[1])
    started.send("started")
    monoscope.stages.harvest(Run(folder), "toy", SITE, TEXT, name="toy")


def learn(shards: Path, folder: Path, started: Connection, kill: tuple[int, bool] | None) -> None:
    store = ShardStore.load(shards)
    if kill is not None:
        die_at(kill[0], after=kill[1])
    started.send("started")
    train(
        Feed(store, batch_rows=RECIPE.batch_rows, seed=0), RECIPE, folder, request={"of": "toy"}, checkpoint_seconds=0.0
    )


def command(words: list[str]) -> None:
    sys.exit(monoscope.cli.run_command(words))
