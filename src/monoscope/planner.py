"""Which dictionary a budget buys: the advice of a sweep's laws, with what they do not know said beside it."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from monoscope.core.artifact import read_json
from monoscope.core.errors import Ambiguous, ArtifactNotFound, BadRequest, Damaged
from monoscope.core.run import Run
from monoscope.harvest.shards import ShardStore
from monoscope.train.law import Ensemble, JointLaw, RateLaw, SpeedLaw, cheapest_loss, flops_per_token
from monoscope.train.law_trust import interval

VERSION = 1
SHIPPED = "smollm2-135m.json"
_BEYOND = 4.0
_FAR, _MANY_EPOCHS, _MANY_ALIVE = 4.0, 1.5, 0.95
_SECONDS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "minutes": 60.0, "h": 3600.0, "hours": 3600.0}
_BUDGET = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """What may be spent: training `flops`, or `seconds` of a quiet machine; the other is None."""

    flops: float | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """`30min`, `2h`, `90s`, or FLOPs as `1e15`.

        Raises
            BadRequest  it is neither.
        """
        found = _BUDGET.fullmatch(text.strip())
        amount, unit = (float(found[1]), found[2].lower()) if found else (0.0, "")
        if amount > 0 and unit in _SECONDS:
            return cls(seconds=amount * _SECONDS[unit])
        if amount >= 1e6 and unit in ("", "flop", "flops"):
            return cls(flops=amount)
        raise BadRequest(f"The budget {text!r} is not understood; write minutes as 30min or 2h, or FLOPs as 1e15.")


def plan(run: Run | None, budget: str, *, name: str | None = None) -> dict[str, Any]:
    """Width, tokens, batch, learning rate, expected loss and time for a budget, and the command that trains it.

    Without a run, or where it has no sweep, the fit that is shipped with monoscope answers, and says so.

    Raises
        ArtifactNotFound  there is no fit to go by.
        Ambiguous         the run has several sweeps and none was named.
        BadRequest        the budget cannot be read, or is too small for one step.
    """
    wanted = Budget.parse(budget)
    fit, notes = _fit_for(run, name)
    return advice(fit, wanted, run=run, rows=_rows_of(run, fit), notes=notes)


def advice(
    fit: dict[str, Any], budget: Budget, *, run: Run | None, rows: int, notes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The advice of one fit.json; `rows` is how many different training rows there are."""
    request, d_model, measured = fit["request"], fit["provenance"]["d_model"], fit["measured"]
    laws, rate, speed = _laws(fit)
    flops = lambda latents: flops_per_token(request["arch"], d_model, latents, request["k"])  # noqa: E731
    latents, tokens = _best(laws, speed, flops, budget, rows, measured)
    batch = int(request["batch_rows"])
    tokens = math.floor(tokens / batch) * batch
    if tokens < batch:
        raise BadRequest(f"This budget is too small for one step of {batch:,} rows; ask for more.")
    least = rate.at(latents, tokens)
    expected = float(laws.loss(latents, tokens, rows))
    low, high = interval([_drawn(draw, latents, tokens, rows) for draw in fit["draws"]])
    found = {
        "arch": request["arch"],
        "k": request["k"],
        "latents": latents,
        "tokens": tokens,
        "batch": batch,
        "learning_rate": float(f"{least * request.get('share', 1.0):.3g}"),
        "least_loss_rate": float(f"{least:.3g}"),
        "epochs": tokens / rows,
        "flops": tokens * flops(latents),
        "minutes": None if speed is None else tokens * float(speed.at(latents)) / 60,
        "fvu": expected,
        "fvu_low": min(low, expected),
        "fvu_high": max(high, expected),
    }
    found["command"] = _command(found, run, request["seed"])
    found["notes"] = [*notes, *_warnings(found, fit)]
    told = ("fit", "intervals", "held_back", "speed", "measured", "provenance")
    return {"recommended": found, "fit": {**{key: fit[key] for key in told}, "request": request}}


def _laws(fit: dict[str, Any]) -> tuple[Ensemble, RateLaw, SpeedLaw | None]:
    """The laws with and without a floor: they agree within the sweep, and far beyond it the middle is safer."""
    try:
        speed = None if fit["speed"] is None else SpeedLaw(**fit["speed"])
        ends = tuple(JointLaw(**fit["fit"][name]) for name in ("without_floor", "with_floor"))
        return Ensemble(ends), RateLaw(**fit["fit"]["rate"]), speed
    except (KeyError, TypeError) as error:
        raise Damaged(f"The fit lacks {error}; run monoscope sweep again with --replace.") from error


def _best(  # noqa: PLR0913
    laws: Ensemble,
    speed: SpeedLaw | None,
    flops: Callable[[float], float],
    budget: Budget,
    rows: int,
    measured: dict[str, Any],
) -> tuple[int, int]:
    """Width and tokens with the smallest expected loss that the budget pays for."""
    span = (measured["latents"][0] / _BEYOND, measured["latents"][1] * _BEYOND)
    if budget.flops is not None:
        amount, cost = budget.flops, flops
    elif speed is None:
        raise BadRequest("This sweep has no times, so a budget in minutes cannot be planned; give FLOPs, as 1e15.")
    else:
        amount, cost = budget.seconds or 0.0, speed.at
    width, _, _ = cheapest_loss(laws, amount, cost, rows, span)
    latents = max(64, round(width / 64) * 64)
    return latents, int(amount / cost(latents))


def _drawn(draw: dict[str, float], latents: int, tokens: int, rows: int) -> float:
    """What one resampled law says, at one point's distance from it."""
    law = JointLaw(**{name: value for name, value in draw.items() if name != "residual"})
    return float(law.loss(latents, tokens, rows)) * math.exp(draw["residual"])


def _command(found: dict[str, Any], run: Run | None, seed: int) -> str:
    place = "RUN" if run is None else str(run.path)
    return (
        f"monoscope train {place} --arch {found['arch']} --latents {found['latents']} --k {found['k']} "
        f"--tokens {found['tokens']} --batch {found['batch']} --lr {found['learning_rate']:g}"
        + (f" --seed {seed}" if seed else "")
    )


def _warnings(found: dict[str, Any], fit: dict[str, Any]) -> list[str]:
    measured, notes = fit["measured"], []
    largest = measured["budgets"][1]
    if found["flops"] > _FAR * largest:
        notes.append(
            f"The budget is {found['flops'] / largest:.0f} times the largest that was measured; the interval knows "
            "the scatter of the points, not whether the law holds that far."
        )
    if found["epochs"] > _MANY_EPOCHS * measured["epochs"]:
        notes.append(
            f"The rows would be read {found['epochs']:.1f} times; the law was measured at up to "
            f"{measured['epochs']:.1f} times. More text would serve better than more passes."
        )
    elif found["epochs"] > 1:
        notes.append(f"The rows are read {found['epochs']:.1f} times, which the law takes into account.")
    low, high = measured["latents"]
    if not low <= found["latents"] <= high:
        edge = found["latents"] >= _BEYOND * high - 64 or found["latents"] <= low / _BEYOND + 64
        held = "held at" if edge else "outside"
        notes.append(
            f"{found['latents']:,} latents are {held} the widths that were measured ({low:,} to {high:,}; "
            f"at most {_BEYOND:.0f} times beyond is advised)."
        )
    alive = measured.get("alive_in_widest", 1.0)
    if alive < _MANY_ALIVE:
        notes.append(
            f"In the sweep's widest training {100 * alive:.0f} % of the latents fired on its held-out rows; a longer "
            "training, or a slower rate, keeps more."
        )
    if found["minutes"] is not None:
        threads = fit["provenance"].get("threads")
        notes.append(
            f"Minutes count undisturbed steps on a machine like the sweep's ({threads} threads); reading, checkpoints "
            "and statistics come on top, a third more where it was tried."
        )
    return notes


def _fit_for(run: Run | None, name: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    if run is not None and not run.path.is_dir():
        raise ArtifactNotFound(f"There is no run folder {run.path}; make one with monoscope harvest or demo.")
    sweeps = [] if run is None else run.names("sweeps", "fit.json")
    if name is not None and name not in sweeps:
        there = f"there are {', '.join(sweeps)}" if sweeps else "there is none"
        raise ArtifactNotFound(f"There is no finished sweep named {name!r}; {there}.")
    if name is None and len(sweeps) > 1:
        raise Ambiguous(f"The run has several sweeps: {', '.join(sweeps)}; say which with --name.")
    if run is not None and sweeps:
        return _checked(read_json(run.path / "sweeps" / (name or sweeps[0]) / "fit.json")), ()
    shipped = _shipped()
    origin = shipped["provenance"]
    note = (
        f"By the fit that comes with monoscope: {origin['model']} at {origin['site']}, {origin['rows']:,} rows of the "
        "demo's text. Another model or text has other losses; monoscope sweep RUN measures them."
    )
    return shipped, (note,)


def _checked(fit: dict[str, Any]) -> dict[str, Any]:
    if fit.get("version") != VERSION:
        raise Damaged(f"The fit is of format version {fit.get('version')}; this monoscope reads {VERSION}.")
    return fit


def _shipped() -> dict[str, Any]:
    path = resources.files("monoscope").joinpath("train", "laws", SHIPPED)
    if not path.is_file():
        raise ArtifactNotFound("There is no sweep to go by; run monoscope sweep RUN first.")
    return _checked(json.loads(path.read_text()))


def _rows_of(run: Run | None, fit: dict[str, Any]) -> int:
    """The different rows that would be trained on: the run's own where it has some of the sweep's site."""
    if run is not None:
        wanted = fit["request"]["activations"]
        names = run.names("activations", "manifest.json")
        chosen = wanted if wanted in names else names[0] if len(names) == 1 else None
        if chosen is not None:
            return ShardStore.load(run.activations(chosen)).rows("train")
    return int(fit["provenance"]["rows"])


def write_shipped(fit: Path, target: Path) -> None:
    """Keep of a fit.json what advice needs, for shipping."""
    from monoscope.core.artifact import write_json

    whole = read_json(fit)
    write_json(target, {key: value for key, value in whole.items() if key != "points"})
