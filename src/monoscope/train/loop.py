"""The only training loop. It calls back; it never evaluates and never prints."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from monoscope.core.progress import SILENT, Progress
from monoscope.harvest.feed import Feed
from monoscope.train import checkpoint
from monoscope.train.checkpoint import Progressed
from monoscope.train.learner import Learner, Scaling, StepFigures, learn
from monoscope.train.recipes import Recipe
from monoscope.train.schedule import learning_rate

LOG_EVERY = 25
CHECKPOINT_SECONDS = 20.0
SAMPLE_ROWS = 65_536


def train(
    feed: Feed,
    recipe: Recipe,
    folder: Path,
    *,
    request: dict[str, Any],
    progress: Progress = SILENT,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[Learner, Scaling, list[dict[str, float]]] | None:
    """Train, or go on from the checkpoint in `folder`. None when `should_stop` said so; a checkpoint was written then.

    How often a checkpoint is written depends on the clock, what is learnt does not.

    Raises
        RequestDiffers  the checkpoint belongs to another request.
        BadNumbers      NaN or infinity in activations or loss.
    """
    rule = recipe.rule()
    sample = feed.sample(SAMPLE_ROWS)
    scaling = Scaling.measure(sample, mean_square=1.0 if rule.unit_decoder else sample.shape[1])
    found = checkpoint.load(folder, recipe, request, "The training")
    learner, progressed = found or (Learner.begin(rule, recipe, scaling.apply(sample)), Progressed())
    del sample
    steps = max(1, round(recipe.tokens / recipe.batch_rows))
    progress.start("train", steps * recipe.batch_rows, "tokens", already=progressed.step * recipe.batch_rows)
    log, saved = list(progressed.log), time.monotonic()
    step, cursor = progressed.step, progressed.cursor
    batches = feed.batches(cursor)
    with torch.no_grad():
        while step < steps:
            rows, cursor = next(batches)
            rate = learning_rate(
                recipe.learning_rate, step, steps, warmup=recipe.warmup_steps, decay_share=recipe.decay_share
            )
            for group in learner.optimiser.param_groups:
                group["lr"] = rate
            figures = learn(learner, rule, recipe, scaling.apply(rows), share=step / steps)
            step += 1
            progress.advance(len(rows), fvu=figures.fvu, l0=figures.l0, dead=figures.dead)
            if step % LOG_EVERY == 0 or step == steps:
                log.append(_row(step, step * recipe.batch_rows, rate, figures))
            stop = should_stop()
            if stop or (time.monotonic() - saved > checkpoint_seconds and step < steps):
                checkpoint.save(folder, learner, Progressed(step, cursor, tuple(log)), request)
                saved = time.monotonic()
            if stop:
                return None
    checkpoint.save(folder, learner, Progressed(step, cursor, tuple(log)), request)
    progress.finish()
    return learner, scaling, log


def _row(step: int, tokens: int, rate: float, figures: StepFigures) -> dict[str, float]:
    return {"step": step, "tokens": tokens, "learning_rate": rate, **asdict(figures)}
