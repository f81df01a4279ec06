"""The monitor on the disk: what is written comes back, what is broken is refused with one sentence."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from monoscope.core.errors import ArtifactNotFound, BadRequest, Damaged, FeatureNotFound, MonoscopeError, RequestDiffers
from monoscope.core.site import Site
from monoscope.safety import monitor as room
from monoscope.safety.baselines import BagOfWords, Lottery, Rivals
from monoscope.safety.detector import Detector
from monoscope.safety.logistic import Linear
from monoscope.safety.monitor import MOST_REFERENCE, Monitor, load_monitors, save_monitor

DIGEST = "d" * 64


def made(kind: str = "both", **settings) -> Monitor:
    """A monitor of two features, of a probe, or of both."""
    features = torch.tensor([3, 1]) if kind != "probe" else torch.zeros(0, dtype=torch.long)
    probe = {"probe": torch.linspace(-1, 1, 48), "probe_bias": 0.1, "probe_weight": 0.7} if kind != "features" else {}
    weights = torch.tensor([1.0 / 3, 2.0], dtype=torch.double)[: len(features)]
    found = Monitor(
        name="m",
        kind=kind,
        detector=Detector(features, weights, -0.1, "rolling", 7, 3, True, **probe),
        threshold=0.123456789012345,
        dictionary="planted",
        dictionary_digest=DIGEST,
        site=Site(1),
        model="toy",
        part="reply",
        fpr=0.05,
        calibrated_on="40 texts",
        reference=torch.tensor([3.0, 1.0, 2.0], dtype=torch.double),
        labels={3: "cities", 1: ""},
        rivals=Rivals(
            BagOfWords(("a", "b"), Linear(torch.tensor([0.5, -0.5]).double(), 0.2)),
            Linear(torch.ones(48).double(), 1.5),
            Lottery((4, 2), (1, -1)),
        ),
        request={"seed": 4},
        figures={"auroc": 0.9},
    )
    return replace(found, **settings)


def alike(one, other) -> bool:
    """Equal to the last bit, tensors and records inside too."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if hasattr(one, "__dataclass_fields__") and not isinstance(one, Site):
        return all(alike(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return one == other


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "monitors" / "m.json"


@pytest.fixture
def load(path, dictionary):
    return lambda: load_monitors(path, dictionary=dictionary, name="planted", digest=DIGEST)


def tensors_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.safetensors"))


@pytest.mark.parametrize("kind", ["features", "probe", "both"])
def test_what_is_saved_comes_back(path, load, kind: str) -> None:
    save_monitor(path, made(kind))
    (found,) = load()
    assert alike(found, made(kind, reference=torch.tensor([1.0, 2.0, 3.0]).double(), labels=found.labels))
    assert found.labels == ({} if kind == "probe" else {3: "cities", 1: ""})
    assert len(tensors_of(path)) == 1
    shown = json.loads(path.read_text())
    assert [row["feature"] for row in shown["features"]] == ([] if kind == "probe" else [3, 1]), "people can read it"


def test_a_monitor_without_threshold_rivals_or_reference(path, load) -> None:
    nothing = torch.zeros(0, dtype=torch.double)
    save_monitor(path, made(threshold=math.inf, rivals=None, reference=nothing, fpr=None))
    (found,) = load()
    assert (found.threshold, found.rivals, found.fpr, len(found.reference)) == (math.inf, None, None, 0)


def test_many_reference_scores_are_thinned_evenly(path, load) -> None:
    scores = torch.randperm(9_000).double()
    save_monitor(path, made(reference=scores))
    reference = load()[0].reference
    assert len(reference) == MOST_REFERENCE
    assert (float(reference[0]), float(reference[-1])) == (0.0, 8999.0)
    assert (reference.diff() - 4.5).abs().max() <= 1


def test_saving_over_an_older_one_leaves_no_stale_tensors(path, load) -> None:
    save_monitor(path, made())
    other = path.with_name("m.2.json")
    save_monitor(other, made(name="m.2"))
    (first,) = [each for each in tensors_of(path) if not each.name.startswith("m.2.")]
    save_monitor(path, made(reference=torch.arange(5.0)))
    assert not first.exists()
    assert len(tensors_of(path)) == 2, "the neighbour's stay"
    assert len(load()[0].reference) == 5
    save_monitor(path, made(reference=torch.arange(5.0), threshold=9.0))
    assert load()[0].threshold == 9.0


@pytest.mark.parametrize("dies_in", ["write_tensors", "write_json", "digest_file"])
@pytest.mark.parametrize("fresh", [True, False])
def test_whoever_dies_while_saving_leaves_the_older_one_whole(
    path, load, monkeypatch, dies_in: str, fresh: bool
) -> None:
    if not fresh:
        save_monitor(path, made())

    def dies(*_args, **_settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(room, dies_in, dies)
    with pytest.raises(KeyboardInterrupt):
        save_monitor(path, made(threshold=5.0, reference=torch.arange(4.0)))
    monkeypatch.undo()
    if fresh:
        assert not path.exists()
    else:
        assert load()[0].threshold == made().threshold
    save_monitor(path, made(threshold=5.0, reference=torch.arange(4.0)))
    assert load()[0].threshold == 5.0
    assert len(tensors_of(path)) == 1, "what was left behind is gone with the next save"


def refused(load, kind: type[MonoscopeError]) -> str:
    with pytest.raises(kind) as refusal:
        load()
    told = str(refusal.value)
    assert "\n" not in told
    assert len(told) < 300
    return told


def test_damaged_tensors(path, load) -> None:
    save_monitor(path, made())
    (tensors,) = tensors_of(path)
    whole = tensors.read_bytes()
    for content in (whole[:-8], whole[:20], b"", whole[:-1] + b"\x01"):
        tensors.write_bytes(content)
        assert "its bytes differ from the digest in its manifest" in refused(load, Damaged)
    tensors.unlink()
    assert "There is no file" in refused(load, ArtifactNotFound)


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"version": 2}, "is no monitor of version 1"),
        ({"features": None}, "is no whole monitor"),
        ({"features": [{"feature": 1}]}, "is no whole monitor (KeyError: 'weight')"),
        ({"features": [{"feature": 1.5, "weight": 1, "label": ""}]}, "1.5 is no whole number"),
        ({"features": [{"feature": -1, "weight": 1, "label": ""}]}, "-1 is no whole number"),
        ({"features": [{"feature": 10**30, "weight": 1, "label": ""}]}, "is no whole number"),
        ({"features": [{"feature": 1, "weight": math.nan, "label": ""}]}, "nan is no finite number"),
        ({"features": [{"feature": 1, "weight": 1, "label": ""}] * 2}, "each feature once"),
        ({"threshold": math.nan}, "nan is no finite number"),
        ({"threshold": "high"}, "'high' is no finite number"),
        ({"bias": math.inf}, "inf is no finite number"),
        ({"statistic": "median"}, "There is no statistic 'median'"),
        ({"window": 0}, "numbers of tokens from 1 to 100,000"),
        ({"window": 10**9}, "numbers of tokens from 1 to 100,000"),
        ({"fpr": "1 %"}, "is no finite number"),
        ({"probe": {"bias": 1}}, "KeyError: 'weight'"),
        ({"site": 3}, "is no whole monitor"),
        ({"site": "attic.2"}, "Site 'attic.2' is not understood"),
        ({"part": "first"}, "There is no part 'first'"),
        ({"tensors": {}}, "KeyError: 'file'"),
        ({"tensors": None}, "is no whole monitor"),
        ({"rivals": {"words": []}}, "is no whole monitor"),
        ({"figures": 3}, "is no whole monitor"),
    ],
)
def test_a_json_that_was_changed(path, load, values: dict, sentence: str) -> None:
    save_monitor(path, made())
    change(path, **values)
    assert sentence in refused(load, Damaged)


def test_a_json_that_is_none(path, load) -> None:
    assert "There is no file" in refused(load, ArtifactNotFound)
    save_monitor(path, made())
    for content in ("", "[1]", "{", path.read_text()[:-30]):
        path.write_text(content)
        refused(load, Damaged)


def test_a_digest_that_was_taken_out_is_missed(path, load) -> None:
    save_monitor(path, made())
    change(path, tensors={"file": tensors_of(path)[0].name, "sha256": None})
    assert "differ from the digest" in refused(load, Damaged)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/outside.safetensors", "..", "", "a/b/outside.safetensors"]
)
def test_tensors_lie_beside_the_json_whatever_it_says(path, load, name: str) -> None:
    save_monitor(path, made())
    outside = path.parent.parent / "outside.safetensors"
    outside.write_bytes(tensors_of(path)[0].read_bytes())
    change(path, tensors={"file": name, "sha256": json.loads(path.read_text())["tensors"]["sha256"]})
    told = refused(load, ArtifactNotFound)
    assert told.startswith(f"There is no file {path.parent}")


def test_another_dictionary(path, dictionary) -> None:
    save_monitor(path, made())
    with pytest.raises(
        RequestDiffers, match="Monitor m was made for another state of dictionary planted; fit it again"
    ):
        load_monitors(path, dictionary=dictionary, name="planted", digest="e" * 64)
    save_monitor(path, made("features", detector=Detector(torch.tensor([999]), torch.ones(1), 0.0), labels={}))
    with pytest.raises(FeatureNotFound, match="has no feature 999"):
        load_monitors(path, dictionary=dictionary, name="planted", digest=DIGEST)


def test_features_struck_out_by_hand() -> None:
    cut = made().without([3])
    assert (cut.detector.features.tolist(), cut.detector.weights.tolist()) == ([1], [2.0])
    assert (cut.fpr, cut.calibrated_on, len(cut.reference), cut.figures) == (None, "", 0, {})
    assert cut.detector.probe is not None
    with pytest.raises(BadRequest, match="Monitor m has no feature 5; it has 3, 1."):
        made().without([1, 5])


def rules(path: Path, *found: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": 1, "rules": list(found)}))


def test_rules_written_by_hand(path, load, dictionary) -> None:
    rules(
        path,
        {"name": "snow", "feature": 2, "threshold": "0.5x", "statistic": "rolling", "window": 8, "warm_up": 4},
        {"feature": 5, "threshold": 1.5, "part": "reply"},
    )
    first, second = load()
    assert first.threshold == pytest.approx(0.5 * float(dictionary.stats.max[2]))
    assert (first.name, first.kind, first.part, second.name, second.part) == ("snow", "rule", "said", "5 max", "reply")
    assert (first.detector.statistic, first.detector.window, first.detector.warm_up) == ("rolling", 8, 4)
    assert (second.threshold, second.detector.statistic, second.detector.warm_up) == (1.5, "max", 1)
    assert not first.detector.squash, "a threshold is in the units of activations"
    assert first.dictionary_digest == DIGEST
    assert float(first.detector.weigh(torch.tensor([2.5]).double())) == 2.5


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"feature": 1, "threshold": 1, "thresh": 2}, "there is no setting 'thresh'; a rule has feature, name, part"),
        ({"threshold": 1}, "rule 1: `feature` must be the number of a feature"),
        ({"feature": True, "threshold": 1}, "`feature` must be the number of a feature"),
        ({"feature": "1", "threshold": 1}, "`feature` must be the number of a feature"),
        ({"feature": 1}, "`threshold` must be a number of activation units, or multiples as"),
        ({"feature": 1, "threshold": "high", "name": "n"}, "rule n: `threshold` must be a number"),
        ({"feature": 1, "threshold": "nanx"}, "`threshold` must be a number"),
        ({"feature": 1, "threshold": math.inf}, "`threshold` must be a number"),
        ({"feature": 1, "threshold": 10**400}, "`threshold` must be a number"),
        ({"feature": 1, "threshold": True}, "`threshold` must be a number"),
        ({"feature": 1, "threshold": [1]}, "`threshold` must be a number"),
        ({"feature": 1, "threshold": 1, "statistic": "ema"}, "`statistic` is one of max, mean, rolling"),
        ({"feature": 1, "threshold": 1, "part": "all"}, "`part` one of said, reply, last"),
        ({"feature": 1, "threshold": 1, "window": 0}, "`window` must be a number of tokens from 1 to 100,000"),
        ({"feature": 1, "threshold": 1, "warm_up": 2.5}, "`warm_up` must be a number of tokens"),
        ("snow", "`rules` must be a list of at least one rule"),
    ],
)
def test_rules_that_make_no_sense(path, load, rule: object, sentence: str) -> None:
    rules(path, rule)
    assert sentence in refused(load, BadRequest)


def test_rules_on_features_that_are_not_there_or_never_fired(path, load, planted) -> None:
    rules(path, {"feature": 999, "threshold": 1})
    assert "has no feature 999" in refused(load, FeatureNotFound)
    dead = planted.numbers["dead"]
    rules(path, {"feature": dead, "threshold": "0.5x"})
    assert f"feature {dead} never fired in the training text" in refused(load, BadRequest)
    rules(path)
    assert "`rules` must be a list of at least one rule" in refused(load, BadRequest)
