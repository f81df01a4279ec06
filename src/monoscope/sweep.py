"""Many small trainings of equal FLOPs, and the laws through them: `docs/formats/sweep.md`, `docs/scaling.md`.

Each training is one small file, so a sweep that was stopped goes on with the training it was at.
"""

import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from monoscope.core.artifact import check_request, holding, read_json, write_json
from monoscope.core.artifact import sweep as remove_leftovers
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run, checked_name
from monoscope.evaluate.fidelity import fidelity
from monoscope.harvest.excerpt import Excerpt
from monoscope.harvest.feed import Feed
from monoscope.harvest.shards import ShardStore
from monoscope.render.chart import can_draw
from monoscope.sweep_cells import Cell, SweepRequest, cells_of
from monoscope.sweep_picture import draw
from monoscope.train.finish import finish
from monoscope.train.law import Point, RateLaw, flops_per_token
from monoscope.train.law_fit import advised_rates, best_rate, rate_law, speed_law
from monoscope.train.law_trust import bootstrap, fit_laws, hold_back, interval
from monoscope.train.loop import train
from monoscope.train.recipes import Recipe

VERSION = 1
_STATISTICS_ROWS = 8192
_CHECKPOINT_SECONDS = 60.0
_DRAWS = 100
_WALK = 2


class Stopwatch:
    """Tells a training's progress as part of the sweep's, and takes the time of its steps."""

    def __init__(self, progress: Progress, units_a_token: float) -> None:
        self._progress, self._units, self._owed = progress, units_a_token, 0.0
        self._last: float | None = None
        self.steps: list[float] = []

    def start(self, stage: str, total: int | None, unit: str, already: int = 0) -> None:  # noqa: ARG002  the contract
        """The sweep is one stage; its parts are not told."""

    def advance(self, amount: int, **facts: float) -> None:
        """A step is done."""
        now = time.perf_counter()
        if self._last is not None:
            self.steps.append(now - self._last)
        self._last = now
        self._owed += amount * self._units
        told = int(self._owed)
        self._owed -= told
        self._progress.advance(told, **facts)

    def finish(self) -> None:
        """The training is over."""

    def undisturbed(self) -> float | None:
        """Seconds of a step that nothing else on the machine held up: a fifth of the steps were shorter."""
        return float(torch.tensor(self.steps, dtype=torch.float64).quantile(0.2)) if len(self.steps) > 4 else None


def sweep(
    run: Run,
    wanted: SweepRequest,
    *,
    name: str | None = None,
    activations: str | None = None,
    replacing_it: bool = False,
    progress: Progress = SILENT,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train what the request asks for, or what is still missing of it, and fit the laws.

    Raises
        KeyboardInterrupt  `should_stop` said so; finished trainings and a checkpoint of the last are kept.
        RequestDiffers     the sweep of this name was made with other settings.
    """
    source = run.choose_activations(activations)
    name = checked_name(name or f"{wanted.arch}-k{wanted.k}")
    folder = run.path / "sweeps" / name
    with holding(run.path):
        if replacing_it:
            run.forget(folder)
        shards = ShardStore.load(run.activations(source))
        request = {**asdict(wanted), "activations": source, "activations_digest": shards.digest}
        if (folder / "request.json").is_file():
            check_request(f"The sweep in {folder}", read_json(folder / "request.json"), request)
        else:
            write_json(folder / "request.json", request)
        skipped = (folder / "fit.json").is_file()
        if not skipped:
            _Bench(folder, wanted, shards, progress, should_stop).measure()
            fit_points(folder, provenance={**shards.manifest["request"], "activations": source})
    return {**read_json(folder / "fit.json"), "name": name, "skipped": skipped}


class _Bench:
    """Trains the cells one after another."""

    def __init__(
        self,
        folder: Path,
        wanted: SweepRequest,
        shards: ShardStore,
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> None:
        self._folder, self._wanted, self._shards = folder, wanted, shards
        self._progress, self._should_stop = progress, should_stop
        self._held = Excerpt.take(shards, train=0, held=wanted.held_rows)
        self._sample = Excerpt.take(shards, train=_STATISTICS_ROWS, held=0)
        self._feed: tuple[int, Feed] | None = None
        self._done: list[Point] = []
        self._unit = 1e9

    def measure(self) -> None:
        cells = cells_of(self._wanted, self._shards.d_model, self._shards.rows("train"))
        remove_leftovers(self._folder / "points")
        total = sum(cell.budget * (3 if cell.swept else 1) for cell in cells)
        already = sum(found["budget"] for found in read_points(self._folder))
        self._unit, told = (1e9, "GFLOP") if total > 1e12 else (1e6, "MFLOP")
        self._progress.start("sweep", round(total / self._unit), told, round(already / self._unit))
        for cell in cells:
            if cell.swept:
                self._rates(cell)
            else:
                self._point(cell, self._law().at(cell.latents, cell.tokens) * self._wanted.share)
        self._progress.finish()

    def _law(self) -> RateLaw:
        return rate_law(self._done)

    def _rates(self, cell: Cell) -> list[Point]:
        """Three rates, and on from an edge as long as the loss falls, a few steps at most."""
        centre = self._centre(cell)
        points = [self._point(cell, centre * factor) for factor in (0.5, 1.0, 2.0)]
        for _ in range(_WALK):
            points.sort(key=lambda point: point.rate)
            best = min(range(len(points)), key=lambda number: points[number].loss)
            if 0 < best < len(points) - 1:
                break
            points.append(self._point(cell, points[best].rate * (0.5 if best == 0 else 2.0)))
        return points

    def _centre(self, cell: Cell) -> float:
        """The best rate so far at the nearest width, on a ladder of factors of 2 from the rate that was asked for."""
        tried: dict[tuple[float, int], list[Point]] = {}
        for point in self._done:
            tried.setdefault((point.budget, point.latents), []).append(point)
        cells = [points for points in tried.values() if len(points) > 1]
        if not cells:
            return self._wanted.rate
        near = min(cells, key=lambda points: (abs(math.log(points[0].latents / cell.latents)), -points[0].budget))
        return self._wanted.rate * 2.0 ** round(math.log2(best_rate(near).rate / self._wanted.rate))

    def _point(self, cell: Cell, rate: float) -> Point:
        rate = float(f"{rate:.3g}")
        key = f"c{cell.budget:.3e}-f{cell.latents}-u{cell.rows}-lr{rate:.3e}".replace("+", "")
        path = self._folder / "points" / f"{key}.json"
        if not path.is_file():
            self._train(path, key, cell, rate)
        point = _point_of(read_json(path))
        self._done.append(point)
        return point

    def _train(self, path: Path, key: str, cell: Cell, rate: float) -> None:
        recipe = recipe_of(self._wanted, cell.latents, cell.tokens, rate)
        running = self._folder / "running" / key
        flops = flops_per_token(self._wanted.arch, self._shards.d_model, cell.latents, self._wanted.k)
        watch, began = Stopwatch(self._progress, flops / self._unit), time.perf_counter()
        found = train(
            self._feed_of(cell.rows),
            recipe,
            running,
            request={"sweep": key, **asdict(recipe)},
            progress=watch,
            should_stop=self._should_stop,
            checkpoint_seconds=_CHECKPOINT_SECONDS,
        )
        if found is None:
            raise KeyboardInterrupt
        learner, scaling, log = found
        seconds = time.perf_counter() - began
        dictionary, _ = finish(learner, scaling, recipe, self._sample, name="point", learnt_from=self._shards)
        seen = fidelity(dictionary, self._held)
        step = watch.undisturbed()
        point = Point(cell.budget, cell.latents, cell.tokens, cell.rows, rate, seen.fvu, self._wanted.share)
        told = {
            "version": VERSION,
            **asdict(point),
            "l0": seen.l0,
            "alive": int((seen.fires > 0).sum()),
            "train_fvu": log[-1]["fvu"],
            "threads": torch.get_num_threads(),
            "seconds": seconds,
            "seconds_per_token": None if step is None else step / recipe.batch_rows,
        }
        write_json(path, told)
        shutil.rmtree(self._folder / "running", ignore_errors=True)

    def _feed_of(self, rows: int) -> Feed:
        if self._feed is None or self._feed[0] != rows:
            self._feed = None  # the rows of the last one are freed first
            part = Excerpt.take(self._shards, train=rows)
            self._feed = (rows, Feed(part, batch_rows=self._wanted.batch_rows, seed=self._wanted.seed))
        return self._feed[1]


def recipe_of(wanted: SweepRequest, latents: int, tokens: int, rate: float) -> Recipe:
    """The recipe of one training."""
    return Recipe(
        arch=wanted.arch,
        latents=latents,
        k=wanted.k,
        tokens=tokens,
        batch_rows=wanted.batch_rows,
        learning_rate=rate,
        seed=wanted.seed,
    )


def _point_of(found: dict[str, Any]) -> Point:
    return Point(**{field.name: found[field.name] for field in fields(Point)})


def read_points(folder: Path) -> Iterator[dict[str, Any]]:
    """The finished trainings of a sweep, by name."""
    for path in sorted((folder / "points").glob("*.json")):
        yield read_json(path)


def fit_points(folder: Path, *, provenance: dict[str, Any]) -> None:
    """Fit the laws to the finished trainings of a sweep; writes fit.json and, where it can be drawn, fit.svg."""
    measured = list(read_points(folder))
    request = read_json(folder / "request.json")
    points = [_point_of(found) for found in measured]
    d_model = int(provenance.get("d_model") or ShardStore.load(_activations_of(folder, request)).d_model)
    cost = lambda latents: flops_per_token(request["arch"], d_model, latents, request["k"])  # noqa: E731
    fit = fit_laws(points, cost)
    draws = bootstrap(points, fit, cost, draws=_DRAWS, seed=request["seed"])
    timed = [found for found in measured if found["seconds_per_token"]]
    best = advised_rates(points)
    held_back = hold_back(points, cost) if len(fit.optima) > 3 else None
    whole = {
        "version": VERSION,
        "request": request,
        "provenance": {
            **provenance,
            "d_model": d_model,
            "rows": max(point.rows for point in points),
            **_machine(measured),
        },
        "fit": fit,
        "intervals": {
            "width_exponent": interval([drawn.width_exponent for drawn in draws]),
            "token_exponent": interval([drawn.token_exponent for drawn in draws]),
            "loss_exponent": interval([drawn.loss_exponent for drawn in draws]),
        },
        "held_back": held_back,
        "speed": speed_law([found["latents"] for found in timed], [found["seconds_per_token"] for found in timed])
        if timed
        else None,
        "measured": {
            "budgets": [min(p.budget for p in best), max(p.budget for p in best)],
            "latents": [min(p.latents for p in best), max(p.latents for p in best)],
            "tokens": [min(p.tokens for p in best), max(p.tokens for p in best)],
            "epochs": max(p.tokens / p.rows for p in best),
            "l0": [min(found["l0"] for found in measured), max(found["l0"] for found in measured)],
            "alive_in_widest": _alive_in_widest(measured),
            "trainings": len(points),
            "flops": sum(point.budget for point in points),
        },
        "draws": [{**asdict(drawn.joint), "residual": drawn.residual} for drawn in draws],
        "points": measured,
    }
    write_json(folder / "fit.json", whole)
    if can_draw():
        draw(folder / "fit.svg", fit, points, held_back, cost)


def _alive_in_widest(measured: list[dict[str, Any]]) -> float:
    """The share of latents that fire on the held-out rows, in the widest training at its best rate."""
    widest = max(found["latents"] for found in measured)
    best = min((found for found in measured if found["latents"] == widest), key=lambda found: found["loss"])
    return best["alive"] / widest


def _activations_of(folder: Path, request: dict[str, Any]) -> Path:
    return Run(folder.parents[1]).activations(request["activations"])


def _machine(measured: list[dict[str, Any]]) -> dict[str, Any]:
    threads = max(found.get("threads", 1) for found in measured)
    return {"threads": threads, "cores": os.cpu_count(), "machine": platform.machine()}
