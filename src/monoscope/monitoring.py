"""A run and labelled texts joined: contrasts, and monitors fitted, asked and reported on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.atlas.query import Atlas
from monoscope.core.artifact import read_json
from monoscope.core.errors import BadRequest, MonoscopeError
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest
from monoscope.explore import open_pair
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel
from monoscope.safety.baselines import BagOfWords, fit_probe, random_features
from monoscope.safety.causal import CausalBench
from monoscope.safety.detector import Detector, Running, score_texts
from monoscope.safety.examples import Example, labelled, split_by_group, texts_of
from monoscope.safety.fitting import Manner, fit_detector
from monoscope.safety.monitor import Monitor, Rivals, load_monitors, save_monitor
from monoscope.safety.pooling import check_pool, columns_of, pool_features, pool_residual
from monoscope.safety.ranking import Ranked, rank_features
from monoscope.safety.reading import Reading, read_examples
from monoscope.safety.statistics import (
    area,
    area_interval,
    binomial_interval,
    conformal_threshold,
    drift,
    rate_above,
    rate_at_rate,
)
from monoscope.stages import HARVEST_DTYPE

CAUSAL_FEATURES, CAUSAL_TEXTS = 5, 48
ORDINARY_TEXTS, ORDINARY_TOKENS = 600, 48
_RANDOM = 20
_INNER_FOLDS = 4
DRIFTED = 0.01


@dataclass(frozen=True)
class Pair:
    """A run's dictionary with its model, ready to read texts."""

    model: LanguageModel
    dictionary: Dictionary
    name: str
    digest: str
    source: str


def open_reader(run: Run, name: str | None) -> Pair:
    """The dictionary that is meant, and its model in the dtype of the harvest.

    Raises
        BadRequest  the dictionary is a transcoder.
    """
    chosen = run.choose_dictionary(name)
    model, dictionary = open_pair(run, chosen, dtype=HARVEST_DTYPE)
    if dictionary.transcodes:
        raise BadRequest(
            f"{dictionary.name} is a transcoder, which reads {dictionary.site} and writes {dictionary.target}; "
            "contrasts and monitors need a dictionary of one site."
        )
    return Pair(model, dictionary, chosen, dictionary_digest(run.dictionary(chosen)), run.provenance(chosen)["model"])


def labels_for(run: Run, name: str, features: Sequence[int]) -> dict[int, str]:
    """What the features are called, where there is an atlas."""
    try:
        return Atlas.open(run.atlas(run.choose_atlas(name))).labels_of(features)
    except MonoscopeError:
        return {}


def contrast(  # noqa: PLR0913
    run: Run,
    positive: Path,
    negative: Path,
    *,
    pool: str = "max",
    part: str = "said",
    limit: int = 20,
    causal: bool = True,
    save: str | None = None,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Features that tell two sets of texts apart, proved on texts that did not choose them, beside baselines.

    `ablation_effect` and `amplified_effect` are differences in nats a token (see `safety.causal`), measured on proving
    texts for the first few features. `save` puts the list on the desk of the atlas under this name.

    Raises
        BadRequest  a set is too small, or a setting makes no sense.
    """
    if not 1 <= limit <= 1000:
        raise BadRequest(f"--limit {limit} must lie between 1 and 1000.")
    check_pool(pool)
    examples = labelled(positive, negative)
    if save is not None:
        run.choose_atlas(run.choose_dictionary(name))  # a list without a desk is refused before the model reads
    pair = open_reader(run, name)
    reading = read_examples(pair.model, pair.dictionary, examples, part=part, progress=progress)
    ranking = rank_features(reading, examples, pool=pool, limit=limit, seed=seed)
    effects = _effects(pair, examples, ranking.features, seed, progress) if causal else {}
    labels = labels_for(run, pair.name, [found.feature for found in ranking.features])
    if save is not None:
        Atlas.open(run.atlas(run.choose_atlas(pair.name))).desk.put_list(
            save, [found.feature for found in ranking.features]
        )
    return {
        "results": [_ranked_values(found, labels, effects) for found in ranking.features],
        "baselines": {
            "linear_probe": round(ranking.linear_probe.value, 4),
            "bag_of_words": round(ranking.bag_of_words.value, 4),
            "random_feature": round(ranking.random_feature, 4),
            "all_features": round(ranking.all_features.value, 4),
        },
        "intervals": {
            "linear_probe": ranking.linear_probe.to_json(),
            "bag_of_words": ranking.bag_of_words.to_json(),
            "all_features": ranking.all_features.to_json(),
        },
        "pool": pool,
        "part": part,
        "chosen_on": list(ranking.chosen_on),
        "proved_on": list(ranking.proved_on),
        "fvu": round(reading.fvu, 4),
        "list": save,
        "seed": seed,
    }


def _effects(
    pair: Pair, examples: Sequence[Example], ranked: Sequence[Ranked], seed: int, progress: Progress
) -> dict[int, dict[str, Any]]:
    """The causal side of the first few features, on texts of the proving half."""
    half = split_by_group(examples, 2, seed=seed)
    proving = [example for example, side in zip(examples, half, strict=True) if side == 1]
    some = [
        example
        for label in (True, False)
        for example in [one for one in proving if one.positive == label][: CAUSAL_TEXTS // 2]
    ]
    chosen = [found.feature for found in ranked[:CAUSAL_FEATURES]]
    progress.start("effects", 3 * len(chosen), "edits")
    bench = CausalBench(pair.model, pair.dictionary, some)
    found = {feature: bench.try_feature(feature, seed=seed, progress=progress).to_json() for feature in chosen}
    progress.finish()
    return found


def _ranked_values(found: Ranked, labels: dict[int, str], effects: dict[int, dict[str, Any]]) -> dict[str, Any]:
    effect = effects.get(found.feature)
    return {
        "feature": found.feature,
        "label": labels.get(found.feature, ""),
        "auroc_heldout": round(found.auroc.value, 4),
        "interval": [round(found.auroc.low, 4), round(found.auroc.high, 4)],
        "q": found.q,
        "direction": found.direction,
        "rate_positive": round(found.rate_positive, 4),
        "rate_negative": round(found.rate_negative, 4),
        "mean_positive": round(found.mean_positive, 4),
        "mean_negative": round(found.mean_negative, 4),
        "ablation_effect": None if effect is None else effect["ablated"]["value"],
        "effects": effect,
    }


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
        rivals=_rivals(inner, mine, folds, seed),
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


def ordinary_texts(run: Run, name: str) -> list[Example]:
    """Pieces of documents that no dictionary was trained on, evenly over all of them: what a monitor should be quiet
    about."""
    store = TokenStore.load(run.text(run.provenance(name)["text"]))
    held = torch.nonzero(store.windows.held).flatten()
    places = torch.linspace(0, len(held) - 1, min(len(held), ORDINARY_TEXTS)).round().long()
    found = []
    for window in held[places].tolist():
        first = int(store.windows.start[window])
        tokens = min(int(store.windows.length[window]), ORDINARY_TOKENS)
        text = store.text_of(first, first + tokens).strip()
        if len(text) > 20:
            found.append(Example(f"held-out {window}", False, text, group=f"held-out {window}"))
    return found


def _rivals(inner: Reading, examples: Sequence[Example], folds: Sequence[int], seed: int) -> Rivals:
    positive = torch.tensor([example.positive for example in examples])
    bag = BagOfWords([example.words for example in examples], positive, folds)
    probe = fit_probe(pool_residual(inner), positive, folds)
    pooled = pool_features(inner, "mean")
    drawn = random_features(pooled, positive, _RANDOM, seed=seed)
    table = columns_of(pooled, torch.tensor(drawn, dtype=torch.long))
    signs = [1 if area(table[:, place], positive) >= 0.5 else -1 for place in range(len(drawn))]
    words, model = bag.parts
    return Rivals(words, model.weights, model.bias, probe.weights, probe.bias, tuple(drawn), tuple(signs))


def figures_of(monitor: Monitor, reading: Reading, examples: Sequence[Example], *, seed: int = 0) -> dict[str, Any]:
    """AUROC, false alarms and hits of a monitor on labelled texts, beside its baselines on the same texts."""
    positive = torch.tensor([example.positive for example in examples])
    groups = [example.group for example in examples]
    scores = score_texts(monitor.detector, reading)
    hits, alarms = scores[positive], scores[~positive]
    hard = torch.tensor([example.hard for example in examples])[~positive]
    moved = drift(monitor.reference, alarms)
    return {
        "auroc": round(area(scores, positive), 4),
        "auroc_interval": area_interval(scores, positive, groups, seed=seed).to_json(),
        "fpr": round(rate_above(alarms, monitor.threshold), 4),
        "fpr_interval": _rate_interval(alarms, monitor.threshold),
        "fpr_hard": round(rate_above(alarms[hard], monitor.threshold), 4) if hard.any() else None,
        "tpr": round(rate_above(hits, monitor.threshold), 4),
        "tpr_interval": _rate_interval(hits, monitor.threshold),
        "tpr_at_fpr": {f"{rate:g}": round(rate_at_rate(scores, positive, rate), 4) for rate in (0.01, 0.05)},
        "threshold": round(monitor.threshold, 6) if math.isfinite(monitor.threshold) else None,
        "stated_fpr": monitor.fpr,
        "calibrated_on": monitor.calibrated_on,
        "texts": [int(positive.sum()), int((~positive).sum())],
        "features": [
            {"feature": feature, "weight": round(weight, 5), "label": monitor.labels.get(feature, "")}
            for feature, weight in zip(
                monitor.detector.features.tolist(), monitor.detector.weights.tolist(), strict=True
            )
        ],
        "baselines": _baseline_values(monitor.rivals, reading, examples, groups, seed),
        "drift": {"distance": round(moved.distance, 4), "p": moved.p, "moved": moved.p < DRIFTED},
        "fvu": round(reading.fvu, 4),
    }


def _rate_interval(scores: Float[Tensor, "texts"], threshold: float) -> list[float]:
    count = int((~(scores <= threshold)).sum())
    return [round(end, 4) for end in binomial_interval(count, len(scores))]


def _baseline_values(
    rivals: Rivals | None, reading: Reading, examples: Sequence[Example], groups: Sequence[str], seed: int
) -> dict[str, Any]:
    if rivals is None:
        return {}
    positive = torch.tensor([example.positive for example in examples])
    pooled = pool_features(reading, "mean")
    drawn = columns_of(pooled, torch.tensor(rivals.random_features, dtype=torch.long))
    lots = [area(drawn[:, place] * sign, positive) for place, sign in enumerate(rivals.random_signs)]
    probe = pool_residual(reading).double() @ rivals.probe + rivals.probe_bias
    bag = BagOfWords.of(rivals.words, rivals.word_weights, rivals.word_bias).score([each.words for each in examples])
    return {
        "linear_probe": round(area(probe, positive), 4),
        "bag_of_words": round(area(bag, positive), 4),
        "random_feature": round(float(torch.tensor(lots).median()), 4),
        "intervals": {
            "linear_probe": area_interval(probe, positive, groups, seed=seed).to_json(),
            "bag_of_words": area_interval(bag, positive, groups, seed=seed).to_json(),
        },
    }


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
