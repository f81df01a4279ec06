"""The only training loop. It calls back; it never evaluates and never prints.

Several dictionaries may learn from one feed: each batch is read and scaled once and given to all of them. What each
learns is what it would have learnt alone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.rule import TrainingRule
from monoscope.harvest.feed import Batches
from monoscope.train import checkpoint
from monoscope.train.checkpoint import Progressed
from monoscope.train.guard import Guard
from monoscope.train.learner import Learner, Spaces, StepFigures, learn, resample
from monoscope.train.recipes import Recipe
from monoscope.train.schedule import learning_rate

LOG_EVERY = 25
CHECKPOINT_SECONDS = 20.0
SAMPLE_ROWS = 65_536


@dataclass(frozen=True)
class Job:
    """One dictionary to be learnt, the folder of its checkpoint, and a finished one to go on from, if any."""

    recipe: Recipe
    folder: Path
    request: dict[str, Any]
    start: Dictionary | None = None


@dataclass(frozen=True)
class Learnt:
    """What training hands over: the weights, the spaces they live in, the log, and what the guard had to say."""

    learner: Learner
    spaces: Spaces
    log: list[dict[str, float]]
    warnings: tuple[str, ...]


@dataclass
class _Running:
    """A job under way. Mutable."""

    job: Job
    rule: TrainingRule
    learner: Learner
    steps: int
    step: int
    cursor: Any
    log: list[dict[str, float]]
    guard: Guard
    saved: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        return self.step >= self.steps

    def take(self, x: Tensor, target: Tensor, cursor: Any) -> StepFigures:
        recipe = self.job.recipe
        rate = learning_rate(
            recipe.learning_rate, self.step, self.steps, warmup=recipe.warmup_steps, decay_share=recipe.decay_share
        )
        for group in self.learner.optimiser.param_groups:
            group["lr"] = rate * group["pace"]
        if self._is_time_to_resample():
            resample(self.learner, self.rule, recipe, x, target, step=self.step)
        found = learn(self.learner, self.rule, recipe, x, target, share=self.step / self.steps)
        self.step, self.cursor = self.step + 1, cursor
        self.guard.see(found, share=self.step / self.steps)
        if self.step % LOG_EVERY == 0 or self.over:
            tokens = self.step * recipe.batch_rows
            self.log.append({"step": self.step, "tokens": tokens, "learning_rate": rate, **asdict(found)})
        return found

    def _is_time_to_resample(self) -> bool:
        recipe = self.job.recipe
        if not recipe.resample_tokens or self.step == 0 or self.step / self.steps > 1 - recipe.decay_share:
            return False
        every = max(1, recipe.resample_tokens // recipe.batch_rows)
        return self.step % every == 0

    def save(self) -> None:
        progressed = Progressed(self.step, self.cursor, tuple(self.log), self.guard.memory())
        checkpoint.save(self.job.folder, self.learner, progressed, self.job.request)
        self.saved = time.monotonic()


def train(
    feed: Batches,
    recipe: Recipe,
    folder: Path,
    *,
    request: dict[str, Any],
    **how: Any,
) -> tuple[Learner, Spaces, list[dict[str, float]]] | None:
    """One dictionary; see `train_all`."""
    found = train_all(feed, [Job(recipe, folder, request)], **how)
    return None if found is None else (found[0].learner, found[0].spaces, found[0].log)


def train_all(
    feed: Batches,
    jobs: Sequence[Job],
    *,
    progress: Progress = SILENT,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> list[Learnt] | None:
    """Train, or go on from the checkpoints. None when `should_stop` said so; checkpoints were written then.

    All jobs have the feed's batches, so their recipes share seed and batch size. How often a checkpoint is written
    depends on the clock, what is learnt does not.

    Raises
        RequestDiffers  a checkpoint belongs to another request.
        BadNumbers      NaN or infinity in activations or loss.
    """
    sample = feed.sample(SAMPLE_ROWS)
    spaces = Spaces.measure(sample, feed.d_in)
    running = [_open(job, feed, spaces, sample) for job in jobs]
    del sample
    rows_in_all = sum(each.steps * each.job.recipe.batch_rows for each in running)
    already = sum(each.step * each.job.recipe.batch_rows for each in running)
    progress.start("train", rows_in_all, "tokens", already=already)
    with torch.no_grad():
        if not _run(feed, running, spaces, progress, should_stop, checkpoint_seconds):
            return None
    progress.finish()
    return [Learnt(each.learner, spaces, each.log, each.guard.warnings) for each in running]


def _open(job: Job, feed: Batches, spaces: Spaces, sample: Tensor) -> _Running:
    recipe, rule = job.recipe, job.recipe.rule()
    found = checkpoint.load(job.folder, recipe, job.request, "The training", feed.cursor)
    if found is None:
        x, target = spaces.apply(sample)
        if job.start is not None:
            learner = Learner.begin_from(rule, recipe, job.start, spaces)
        else:
            learner = Learner.begin(rule, recipe, x, target if rule.two_sites else None)
        found = learner, Progressed(cursor=feed.beginning)
    learner, progressed = found
    steps = max(1, round(recipe.tokens / recipe.batch_rows))
    guard = Guard.watching(recipe, feed, sample).remembering(progressed.guard)
    return _Running(job, rule, learner, steps, progressed.step, progressed.cursor, list(progressed.log), guard)


def _run(  # noqa: PLR0913  what the loop needs
    feed: Batches,
    running: list[_Running],
    spaces: Spaces,
    progress: Progress,
    should_stop: Callable[[], bool],
    checkpoint_seconds: float,
) -> bool:
    """Batch after batch until all are over; False when asked to stop. Jobs that are further wait for the others."""
    unfinished = [each for each in running if not each.over]
    if unfinished:
        behind = min(unfinished, key=lambda each: each.step)
        step, batches = behind.step, feed.batches(behind.cursor)
    while unfinished:
        rows, cursor = next(batches)
        x, target = spaces.apply(rows)
        stop = False
        for each in [each for each in unfinished if each.step == step]:
            figures = each.take(x, target, cursor)
            progress.advance(len(rows), fvu=figures.fvu, l0=figures.l0, dead=figures.dead)
            stop = should_stop() or stop
            if each.over or time.monotonic() - each.saved > checkpoint_seconds:
                each.save()
        step += 1
        unfinished = [each for each in unfinished if not each.over]
        if stop and unfinished:
            for each in unfinished:
                each.save()
            return False
    return True
