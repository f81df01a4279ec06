"""A sweep on the toy: resumed to the bit, refused under other settings, and advice that follows from it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from monoscope.core.artifact import read_json
from monoscope.core.errors import ArtifactNotFound, BadRequest, RequestDiffers
from monoscope.core.run import Run
from monoscope.harvest.excerpt import Excerpt
from monoscope.harvest.shards import ShardStore
from monoscope.planner import Budget, advice, plan
from monoscope.sweep import sweep
from monoscope.sweep_cells import SweepRequest, cells_of
from monoscope.train.law import RateLaw, flops_per_token

WANTED = SweepRequest(
    k=3,
    smallest=5e7,
    budgets=4,
    widths=3,
    batch_rows=256,
    rate=1e-2,
    rate_budgets=1,
    reuse=(4,),
    held_rows=1500,
    tokens_per_latent=200,
)
_TIMES = ("seconds", "seconds_per_token")


def _run(path: Path, shards: ShardStore) -> Run:
    run = Run(path)
    shutil.copytree(shards.folder, run.activations("resid_post.2@toy"))
    return run


def _points(run: Run) -> dict[str, dict]:
    paths = sorted((run.path / "sweeps" / "toy" / "points").glob("*.json"))
    found = {path.name: read_json(path) for path in paths}
    return {name: {key: value for key, value in point.items() if key not in _TIMES} for name, point in found.items()}


@pytest.fixture(scope="module")
def swept(toy_shards: ShardStore, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = _run(tmp_path_factory.mktemp("sweep") / "run", toy_shards)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monoscope.sweep._DRAWS", 20)
        sweep(run, WANTED, name="toy")
    return run


def test_a_sweep_that_was_stopped_ends_the_same(
    swept: Run, toy_shards: ShardStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cheap trainings are there; the others are made anew, with stops between, from the checkpoints they leave."""
    monkeypatch.setattr("monoscope.sweep._DRAWS", 20)
    monkeypatch.setattr("monoscope.sweep.can_draw", lambda: False)
    run, calls, stops = _run(tmp_path / "run", toy_shards), 0, (25, 90, 300)
    folder = run.path / "sweeps" / "toy"
    shutil.copytree(swept.path / "sweeps" / "toy", folder)
    (folder / "fit.json").unlink()
    for path in (folder / "points").glob("*.json"):
        if read_json(path)["budget"] > 5 * WANTED.smallest:
            path.unlink()

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls in stops

    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            sweep(run, WANTED, name="toy", should_stop=stop)
        assert list((folder / "running").rglob("state.safetensors"))
    sweep(run, WANTED, name="toy", should_stop=stop)
    assert _points(run) == _points(swept)
    fits = [read_json(r.path / "sweeps" / "toy" / "fit.json") for r in (run, swept)]
    assert fits[0]["fit"] == fits[1]["fit"]
    assert not (folder / "running").exists()


def test_the_same_request_is_left_and_another_refused(swept: Run) -> None:
    again = sweep(swept, WANTED, name="toy")
    assert again["skipped"]
    with pytest.raises(RequestDiffers, match="budgets was 4 and is now 5"):
        sweep(swept, replace(WANTED, budgets=5), name="toy")


def test_a_sweep_measures_what_was_asked(swept: Run, toy_shards: ShardStore) -> None:
    rows = toy_shards.rows("train")
    points = list(_points(swept).values())
    whole = [point for point in points if point["rows"] == rows]
    assert len({point["budget"] for point in points}) == 4
    for point in points:
        spent = point["tokens"] * flops_per_token("batchtopk", toy_shards.d_model, point["latents"], 3)
        assert spent == pytest.approx(point["budget"], rel=0.03)
        assert 0 < point["loss"] < 1
    for budget in {point["budget"] for point in whole}:
        assert len({point["latents"] for point in whole if point["budget"] == budget}) == 3
    dearest = [point for point in points if point["budget"] == max(point["budget"] for point in points)]
    assert len(dearest) == 3, "the dearest budget takes its rates from the law"
    law = RateLaw(**read_json(swept.path / "sweeps" / "toy" / "fit.json")["fit"]["rate"])
    for point in dearest:
        advised = WANTED.share * law.at(point["latents"], point["tokens"])
        assert point["rate"] == pytest.approx(advised, rel=5e-3)
    assert (swept.path / "sweeps" / "toy" / "fit.svg").read_text().startswith("<svg")


def test_an_excerpt_is_the_first_rows(toy_shards: ShardStore) -> None:
    part = Excerpt.take(toy_shards, train=700, held=10)
    assert (part.rows("train"), part.rows("held")) == (700, 10)
    first = toy_shards.read(toy_shards.shards("train")[0]).x
    assert part.read(part.shards("train")[0]).x[:200].equal(first[:200])
    assert sum(len(block.x) for block in part.blocks("train")) == 700


def test_a_plan_spends_its_budget(swept: Run, toy_shards: ShardStore) -> None:
    found = plan(swept, "1e9")["recommended"]
    assert found["flops"] == pytest.approx(1e9, rel=0.05)
    assert found["fvu_low"] <= found["fvu"] <= found["fvu_high"]
    assert found["learning_rate"] == pytest.approx(WANTED.share * found["least_loss_rate"], rel=1e-2)
    assert found["epochs"] == found["tokens"] / toy_shards.rows("train")
    assert found["command"].startswith(f"monoscope train {swept.path} --arch batchtopk --latents {found['latents']} ")
    json.dumps(found)
    timed = plan(swept, "1min")["recommended"]
    assert timed["minutes"] == pytest.approx(1, rel=0.02)


def test_a_plan_says_what_it_does_not_know(swept: Run) -> None:
    fit = read_json(swept.path / "sweeps" / "toy" / "fit.json")
    found = advice(fit, Budget(flops=1e14), run=None, rows=1000)["recommended"]
    told = " ".join(found["notes"])
    assert "times the largest that was measured" in told
    assert "The rows would be read" in told
    assert found["latents"] <= 4 * fit["measured"]["latents"][1] + 64
    assert found["command"].startswith("monoscope train RUN ")
    with pytest.raises(BadRequest, match="one step"):
        advice(fit, Budget(flops=1e6), run=None, rows=1000)


def test_without_a_sweep_the_shipped_fit_answers_and_says_so(toy_shards: ShardStore, tmp_path: Path) -> None:
    found = plan(None, "5min")
    assert found["recommended"]["notes"][0].startswith("By the fit that comes with monoscope: smollm2-135m")
    assert abs(found["fit"]["held_back"]["relative_error"]) < 0.02
    run = _run(tmp_path / "run", toy_shards)
    on_toy = plan(run, "5min")["recommended"]
    assert on_toy["epochs"] == on_toy["tokens"] / toy_shards.rows("train"), "the rows are the run's own"
    assert "More text would serve better" in " ".join(on_toy["notes"])


@pytest.mark.parametrize(
    ("text", "seconds", "flops"),
    [
        ("30min", 1800, None),
        ("2h", 7200, None),
        ("90s", 90, None),
        ("1e15", None, 1e15),
        ("2.5e14 FLOPs", None, 2.5e14),
    ],
)
def test_budgets_are_read(text: str, seconds: float | None, flops: float | None) -> None:
    assert Budget.parse(text) == Budget(flops=flops, seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "0min", "-5min", "30 bananas", "12"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="not understood"):
        Budget.parse(text)


def test_what_cannot_be_swept_is_refused(swept: Run) -> None:
    with pytest.raises(BadRequest, match="does not fix"):
        SweepRequest(arch="relu")
    with pytest.raises(BadRequest, match="too few"):
        SweepRequest(budgets=2)
    with pytest.raises(BadRequest, match="larger smallest budget"):
        cells_of(replace(WANTED, smallest=1e6), 32, 10_000)
    with pytest.raises(ArtifactNotFound, match="no finished sweep named 'other'"):
        plan(swept, "1e9", name="other")
