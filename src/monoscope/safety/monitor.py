"""A monitor as it lies on the disk: `docs/formats/monitor.md`."""

import glob
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.artifact import digest_file, digest_of, read_json, read_tensors, write_json, write_tensors
from monoscope.core.errors import BadRequest, Damaged, RequestDiffers
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.safety.baselines import BagOfWords, Lottery, Rivals
from monoscope.safety.detector import LONGEST, STATISTICS, Detector
from monoscope.safety.logistic import Linear
from monoscope.safety.reading import PARTS

VERSION = 1
RULE = "rule"
MOST_REFERENCE = 2000


@dataclass(frozen=True)
class Monitor:
    """A detector with its threshold and where both come from. A text is flagged when its score is above `threshold`.

    `fpr` is the false-alarm rate that the threshold was set for, on `calibrated_on`; None for a threshold that somebody
    wrote. `reference` are the scores of calibration texts, for the drift check. `part` is what of a talk is read.
    """

    name: str
    kind: str
    detector: Detector
    threshold: float
    dictionary: str
    dictionary_digest: str
    site: Site
    model: str = ""
    part: str = "said"
    fpr: float | None = None
    calibrated_on: str = ""
    reference: Float[Tensor, "texts"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.double))
    labels: Mapping[int, str] = field(default_factory=dict)
    rivals: Rivals | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)

    def without(self, features: Sequence[int]) -> "Monitor":
        """The same with some features struck out by hand; its threshold is then a guess and says so. What was measured
        of the former detector (scores of calibration texts, figures) is gone.

        Raises
            BadRequest  it has no such feature.
        """
        have = self.detector.features.tolist()
        missing = [feature for feature in features if feature not in have]
        if missing:
            raise BadRequest(f"Monitor {self.name} has no feature {missing[0]}; it has {', '.join(map(str, have))}.")
        keep = torch.tensor([feature not in features for feature in have], dtype=torch.bool)
        cut = replace(self.detector, features=self.detector.features[keep], weights=self.detector.weights[keep])
        nothing = torch.zeros(0, dtype=torch.double)
        return replace(self, detector=cut, fpr=None, calibrated_on="", reference=nothing, figures={})

    def check_dictionary(self, dictionary: Dictionary, digest: str) -> None:
        """Agree that the monitor was made for this dictionary.

        Raises
            RequestDiffers  it was made for another.
            FeatureNotFound  a feature is not one of the dictionary's.
        """
        if self.dictionary_digest and self.dictionary_digest != digest:
            raise RequestDiffers(
                f"Monitor {self.name} was made for another state of dictionary {self.dictionary}; fit it again."
            )
        for feature in self.detector.features.tolist():
            dictionary.check_feature(feature)


def save_monitor(path: Path, monitor: Monitor) -> None:
    """Write PATH and, beside it, its tensors in a file whose name holds their digest; each whole or not at all.

    The tensors go first and those of an older state last, so that whichever JSON is there finds its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(monitor)
    marks = {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}
    beside = path.with_name(f"{path.stem}.{digest_of(marks)[:12]}.safetensors")
    write_tensors(beside, tensors)
    detector, rivals = monitor.detector, monitor.rivals
    write_json(
        path,
        {
            "version": VERSION,
            "name": monitor.name,
            "kind": monitor.kind,
            "dictionary": monitor.dictionary,
            "dictionary_digest": monitor.dictionary_digest,
            "site": str(monitor.site),
            "model": monitor.model,
            "part": monitor.part,
            "statistic": detector.statistic,
            "window": detector.window,
            "warm_up": detector.warm_up,
            "squash": detector.squash,
            "bias": detector.bias,
            "probe": None if detector.probe is None else {"bias": detector.probe_bias, "weight": detector.probe_weight},
            "features": [
                {"feature": feature, "weight": weight, "label": monitor.labels.get(feature, "")}
                for feature, weight in zip(detector.features.tolist(), detector.weights.tolist(), strict=True)
            ],
            "threshold": monitor.threshold if math.isfinite(monitor.threshold) else None,
            "fpr": monitor.fpr,
            "calibrated_on": monitor.calibrated_on,
            "rivals": None
            if rivals is None
            else {
                "words": list(rivals.words.words),
                "word_bias": rivals.words.model.bias,
                "probe_bias": rivals.probe.bias,
                "random_features": list(rivals.lots.features),
                "random_signs": list(rivals.lots.signs),
            },
            "request": monitor.request,
            "figures": monitor.figures,
            "tensors": {"file": beside.name, "sha256": digest_file(beside)},
        },
    )
    for old in path.parent.glob(f"{glob.escape(path.stem)}.{'[0-9a-f]' * 12}.safetensors"):
        if old != beside:
            old.unlink(missing_ok=True)


def _tensors(monitor: Monitor) -> dict[str, Tensor]:
    found = {"reference": _thinned(monitor.reference.double())}
    if monitor.detector.probe is not None:
        found["probe"] = monitor.detector.probe.float()
    if monitor.rivals is not None:
        found["rival_words"] = monitor.rivals.words.model.weights.double()
        found["rival_probe"] = monitor.rivals.probe.weights.double()
    return found


def _thinned(scores: Float[Tensor, "texts"]) -> Float[Tensor, "some"]:
    """At most so many, evenly from the smallest to the largest."""
    ordered = scores.sort().values
    if len(ordered) <= MOST_REFERENCE:
        return ordered
    return ordered[torch.linspace(0, len(ordered) - 1, MOST_REFERENCE).round().long()]


def load_monitors(path: Path, *, dictionary: Dictionary, name: str, digest: str) -> list[Monitor]:
    """The monitors of a file: one that was fitted, or the rules that somebody wrote.

    Raises
        ArtifactNotFound  there is no such file.
        Damaged           it is no monitor, or not whole.
        BadRequest        a rule makes no sense.
        RequestDiffers    it was made for another dictionary.
        FeatureNotFound   it names a feature that the dictionary has not.
    """
    values = read_json(path)
    if values.get("version") != VERSION:
        raise Damaged(f"{path} is no monitor of version {VERSION}; fit it again, or write its version.")
    found = _rules(path, values, dictionary, name, digest) if "rules" in values else [_fitted(path, values)]
    for monitor in found:
        monitor.check_dictionary(dictionary, digest)
    return found


def _fitted(path: Path, values: dict[str, Any]) -> Monitor:
    try:
        beside = path.parent / Path(values["tensors"]["file"]).name
        tensors = read_tensors(beside, str(values["tensors"]["sha256"]))
        rivals, threshold = values["rivals"], values["threshold"]
        if values["part"] not in PARTS:
            raise ValueError(f"There is no part {values['part']!r} of a text")
        probe = values["probe"]
        detector = Detector(
            torch.tensor([_whole(each["feature"]) for each in values["features"]], dtype=torch.long),
            torch.tensor([_finite(each["weight"]) for each in values["features"]], dtype=torch.double),
            _finite(values["bias"]),
            values["statistic"],
            _whole(values["window"]),
            _whole(values["warm_up"]),
            bool(values["squash"]),
            None if probe is None else tensors["probe"],
            0.0 if probe is None else _finite(probe["bias"]),
            0.0 if probe is None else _finite(probe["weight"]),
        )
        return Monitor(
            name=str(values["name"]),
            kind=str(values["kind"]),
            detector=detector,
            threshold=math.inf if threshold is None else _finite(threshold),
            dictionary=str(values["dictionary"]),
            dictionary_digest=str(values["dictionary_digest"]),
            site=Site.parse(values["site"]),
            model=str(values["model"]),
            part=str(values["part"]),
            fpr=None if values["fpr"] is None else _finite(values["fpr"]),
            calibrated_on=str(values["calibrated_on"]),
            reference=tensors["reference"],
            labels={each["feature"]: str(each["label"]) for each in values["features"]},
            rivals=None if rivals is None else _rivals(rivals, tensors),
            request=dict(values["request"]),
            figures=dict(values["figures"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, BadRequest) as error:
        told = " ".join(str(error).split()).rstrip(".")
        raise Damaged(f"{path} is no whole monitor ({type(error).__name__}: {told}); fit it again.") from error


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"{value!r} is no whole number from 0")
    return value


def _finite(value: Any) -> float:
    """Whoever compares with what is no number is never told of an alarm, or always."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _rivals(values: dict[str, Any], tensors: Mapping[str, Tensor]) -> Rivals:
    return Rivals(
        BagOfWords(tuple(values["words"]), Linear(tensors["rival_words"], float(values["word_bias"]))),
        Linear(tensors["rival_probe"], float(values["probe_bias"])),
        Lottery(tuple(values["random_features"]), tuple(values["random_signs"])),
    )


_RULE_KEYS = {"name", "feature", "statistic", "window", "threshold", "warm_up", "part"}


def _rules(path: Path, values: dict[str, Any], dictionary: Dictionary, name: str, digest: str) -> list[Monitor]:
    rules = values["rules"]
    if not isinstance(rules, list) or not rules or not all(isinstance(rule, dict) for rule in rules):
        raise BadRequest(f"{path}: `rules` must be a list of at least one rule.")
    return [_rule(path, number, rule, dictionary, name, digest) for number, rule in enumerate(rules)]


def _rule(path: Path, number: int, rule: dict[str, Any], dictionary: Dictionary, name: str, digest: str) -> Monitor:  # noqa: PLR0913
    where = f"{path}, rule {rule.get('name', number + 1)}"
    unknown = sorted(set(rule) - _RULE_KEYS)
    if unknown:
        raise BadRequest(f"{where}: there is no setting {unknown[0]!r}; a rule has {', '.join(sorted(_RULE_KEYS))}.")
    feature, statistic, part = rule.get("feature"), rule.get("statistic", "max"), rule.get("part", "said")
    if isinstance(feature, bool) or not isinstance(feature, int):
        raise BadRequest(f"{where}: `feature` must be the number of a feature.")
    dictionary.check_feature(feature)
    if statistic not in STATISTICS or part not in PARTS:
        raise BadRequest(f"{where}: `statistic` is one of {', '.join(STATISTICS)}, `part` one of {', '.join(PARTS)}.")
    lengths = {key: rule.get(key, usual) for key, usual in (("window", 16), ("warm_up", 1))}
    for key, value in lengths.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST:
            raise BadRequest(f"{where}: `{key}` must be a number of tokens from 1 to {LONGEST:,}.")
    detector = Detector(
        torch.tensor([feature]), torch.ones(1, dtype=torch.double), 0.0, statistic, squash=False, **lengths
    )
    return Monitor(
        name=str(rule.get("name", f"{feature} {statistic}")),
        kind=RULE,
        detector=detector,
        threshold=_rule_threshold(where, rule.get("threshold"), feature, dictionary),
        dictionary=name,
        dictionary_digest=digest,
        site=dictionary.site,
        part=part,
    )


def _rule_threshold(where: str, value: Any, feature: int, dictionary: Dictionary) -> float:
    """In activation units, or as "0.5x" in multiples of the largest activation in the training text."""
    factor = 1.0
    if isinstance(value, str) and value.endswith("x"):
        factor, value = float(dictionary.stats.max[feature]), value[:-1]
        if factor <= 0:
            raise BadRequest(f"{where}: feature {feature} never fired in the training text, so it has no multiples.")
    try:
        number = float(value) * factor
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise BadRequest(f'{where}: `threshold` must be a number of activation units, or multiples as "0.5x".')
    return number
