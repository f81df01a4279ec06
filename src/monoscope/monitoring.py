"""A run and labelled texts joined: monitors fitted, asked and reported on."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.core.artifact import read_json
from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.pairing import Pair, labels_for, open_reader, ordinary_texts
from monoscope.safety.baselines import Rivals
from monoscope.safety.detector import Detector, Running, score_texts
from monoscope.safety.examples import Example, labelled, split_by_group, texts_of
from monoscope.safety.figures import figures_of
from monoscope.safety.fitting import Manner, fit_detector
from monoscope.safety.monitor import Monitor, load_monitors, save_monitor
from monoscope.safety.reading import Reading, read_examples
from monoscope.safety.statistics import conformal_threshold

_INNER_FOLDS = 4


def fit(  # noqa: PLR0913
    run: Run,
    positive: Path,
    negative: Path,
    out: Path,
    *,
    fpr: float = 0.01,
    benign: Path | None = None,
    manner: Manner = Manner(),
    part: str = "said",
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Fit a monitor, set its threshold for a false-alarm rate, prove it on texts that did neither, and save it.

    Of the groups of both sets half fit, a quarter of the negatives calibrate, and a quarter proves. The threshold is a
    conformal quantile: it holds for new texts of the kind it was calibrated on. Those are the negatives of the
    calibrating quarter where there are enough for the rate asked for, else the texts of `benign`, else pieces of the
    run's held-out text; `calibrated_on` says which.

    Raises
        BadRequest  a set is too small, or a setting makes no sense.
    """
    if not 0 < fpr < 1:
        raise BadRequest(f"--fpr {fpr} must lie between 0 and 1, as 0.01.")
    if out.suffix != ".json":
        raise BadRequest(f"--out {out} must end in .json; its tensors lie beside it under the same name.")
    examples = labelled(positive, negative)
    quiet = None if benign is None else texts_of(benign)
    quarter = torch.tensor(split_by_group(examples, 4, seed=seed))
    fitting, calibrating, proving = (
        torch.nonzero(torch.isin(quarter, torch.tensor(part_))).flatten() for part_ in ([0, 1], [2], [3])
    )
    positive_mask = torch.tensor([example.positive for example in examples])
    _check_parts(positive_mask, fitting, proving)
    pair = open_reader(run, name)
    reading = read_examples(pair.model, pair.dictionary, examples, part=part, progress=progress)
    mine, folds = (
        [examples[i] for i in fitting],
        split_by_group([examples[i] for i in fitting], _INNER_FOLDS, seed=seed),
    )
    inner = reading.choose(fitting)
    detector = fit_detector(inner, positive_mask[fitting], folds, manner)
    if not detector.channels:
        raise BadRequest("No feature speaks for the positive texts; give more texts, or use --kind probe.")
    scores = score_texts(detector, reading)
    negatives = scores[calibrating][~positive_mask[calibrating]]
    reference, origin = _reference(run, pair, detector, negatives, fpr, quiet, benign, part, progress)
    monitor = Monitor(
        name=out.stem,
        kind=manner.kind,
        detector=detector,
        threshold=conformal_threshold(reference, fpr),
        dictionary=pair.name,
        dictionary_digest=pair.digest,
        site=pair.dictionary.site,
        model=pair.source,
        part=part,
        fpr=fpr,
        calibrated_on=origin,
        reference=reference,
        labels=labels_for(run, pair.name, detector.features.tolist()),
        rivals=Rivals.fit(inner, mine, folds, seed=seed),
        request={"positive": str(positive), "negative": str(negative), "benign": str(benign or ""), "seed": seed},
    )
    figures = figures_of(monitor, reading.choose(proving), [examples[i] for i in proving], seed=seed)
    save_monitor(out, replace(monitor, figures=figures))
    return {"monitor": str(out), "kind": manner.kind, "fitted_on": len(fitting), **figures}


def _check_parts(positive: Bool[Tensor, "texts"], *parts: Tensor) -> None:
    for rows in parts:
        if not positive[rows].any() or positive[rows].all():
            raise BadRequest("A monitor needs at least four texts, or groups of texts, of each kind; give more.")


def _reference(  # noqa: PLR0913
    run: Run,
    pair: Pair,
    detector: Detector,
    negatives: Float[Tensor, "texts"],
    fpr: float,
    quiet: Sequence[Example] | None,
    benign: Path | None,
    part: str,
    progress: Progress,
) -> tuple[Float[Tensor, "texts"], str]:
    """Scores that a threshold may be set by, and what they are scores of."""
    needed = math.ceil(1 / fpr - 1 - 1e-9)
    if quiet is not None and benign is not None:
        texts = quiet
        origin = f"the {len(texts)} texts of {benign.name}"
    elif len(negatives) >= needed:
        return negatives, f"{len(negatives)} negatives that fitted nothing"
    else:
        texts = ordinary_texts(run, pair.name)
        origin = f"{len(texts)} pieces of the run's held-out text"
    if len(texts) < needed:
        raise BadRequest(f"A false-alarm rate of {fpr:g} needs {needed} benign texts; there are {len(texts)}.")
    read = read_examples(
        pair.model, pair.dictionary, texts, part="said" if part == "reply" else part, progress=progress
    )
    return score_texts(detector, read), origin


def score(run: Run, monitor: Path, path: Path, *, tokens: bool = True, progress: Progress = SILENT) -> dict[str, Any]:
    """The score of each text of a file by each monitor, whether it is flagged, and after which token it first was.

    Raises
        RequestDiffers  the monitor was made for another dictionary.
    """
    pair, monitors = _opened(run, monitor)
    examples = texts_of(path, least=1)
    found = []
    readings = {
        part: read_examples(pair.model, pair.dictionary, examples, part=part, progress=progress)
        for part in sorted({each.part for each in monitors})
    }
    for place, example in enumerate(examples):
        verdicts = [_verdict(pair, each, readings[each.part], place, tokens) for each in monitors]
        worst = max(verdicts, key=lambda verdict: (verdict["flagged"], verdict["score"]))
        found.append({"id": example.id, **worst} | ({"rules": verdicts} if len(verdicts) > 1 else {}))
    return {
        "monitor": str(monitor),
        "texts": found,
        "flagged": sum(each["flagged"] for each in found),
        "threshold": [each.threshold if math.isfinite(each.threshold) else None for each in monitors],
    }


def _verdict(pair: Pair, monitor: Monitor, reading: Reading, place: int, tokens: bool) -> dict[str, Any]:
    first, last = int(reading.starts[place]), int(reading.starts[place + 1])
    running = Running(monitor.detector)
    channels = monitor.detector.read(reading.choose([place]))
    scores = running.advance(channels)
    flagged = not running.score <= monitor.threshold
    due = min(monitor.detector.warm_up, len(scores)) - 1
    over = torch.nonzero(~(scores[due:] <= monitor.threshold)).flatten() + due
    # What is told is why the score is what it is: the channels as they were where it was largest.
    highest = Running(monitor.detector)
    highest.advance(channels[: due + int(scores[due:].nan_to_num(nan=torch.inf).argmax()) + 1])
    verdict: dict[str, Any] = {
        "monitor": monitor.name,
        "score": round(running.score, 6),
        "flagged": flagged,
        "first_token": int(over[0]) if flagged and len(over) else None,
        "why": [[feature, round(share, 4)] for feature, share in monitor.detector.shares(highest.pooled)[:5] if share],
    }
    if tokens:
        pieces = [pair.model.decode([i]) for i in reading.ids[first:last].tolist()]
        verdict["tokens"] = [[piece, round(value, 4)] for piece, value in zip(pieces, scores.tolist(), strict=True)]
    return verdict


def report(
    run: Run, monitor: Path, positive: Path, negative: Path, *, seed: int = 0, progress: Progress = SILENT
) -> dict[str, Any]:
    """The figures of a monitor on labelled texts that it has never seen, such as those of another source.

    Of a file of rules each has its figures under `monitors`; those of the first stand outside too.

    Raises
        RequestDiffers  the monitor was made for another dictionary.
    """
    pair, monitors = _opened(run, monitor)
    examples = labelled(positive, negative)
    found = []
    for each in monitors:
        reading = read_examples(pair.model, pair.dictionary, examples, part=each.part, progress=progress)
        found.append({"monitor": each.name, "kind": each.kind, **figures_of(each, reading, examples, seed=seed)})
    return found[0] if len(found) == 1 else {"monitors": found, **found[0]}


def _opened(run: Run, path: Path) -> tuple[Pair, list[Monitor]]:
    """The monitors of a file, with the dictionary that they name, or the run's only one for rules."""
    named = read_json(path).get("dictionary") or None
    pair = open_reader(run, named)
    return pair, load_monitors(path, dictionary=pair.dictionary, name=pair.name, digest=pair.digest)
