from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from monoscope.core.errors import Damaged, RequestDiffers
from monoscope.harvest.feed import Feed
from monoscope.harvest.shards import ShardStore
from monoscope.train import guard
from monoscope.train.learner import Learner
from monoscope.train.loop import LOG_EVERY, Job, train, train_all
from monoscope.train.recipes import RULES, Recipe

STEPS, ROWS = 60, 256
ARCHES = sorted(name for name, rule in RULES.items() if not rule.two_sites)


def _recipe(arch: str) -> Recipe:
    return Recipe(
        arch=arch,
        latents=48,
        k=3,
        tokens=STEPS * ROWS,
        batch_rows=ROWS,
        learning_rate=0.01,
        warmup_steps=5,
        dead_tokens=1000,
    )


def _train(shards: ShardStore, recipe: Recipe, folder: Path, **more: object):  # noqa: ANN202
    # A buffer that does not hold all shards would be the same here: there is one training shard.
    feed = Feed(shards, batch_rows=recipe.batch_rows, seed=recipe.seed)
    return train(feed, recipe, folder, request={"arch": recipe.arch, "seed": recipe.seed}, **more)


def _stop_at(steps: int) -> Callable[[], bool]:
    counter = count(1)
    return lambda: next(counter) == steps


def assert_same(found: Learner, wanted: Learner) -> None:
    one, other = found.tensors(), wanted.tensors()
    assert one.keys() == other.keys() and len(one) > 10
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("arch", ARCHES)
def test_a_stopped_training_goes_on_as_if_it_had_not(arch: str, toy_shards: ShardStore, tmp_path: Path) -> None:
    recipe = _recipe(arch)
    wanted, _, wanted_log = _train(toy_shards, recipe, tmp_path / "undisturbed")
    for stop in (1, 2, LOG_EVERY, LOG_EVERY + 7, STEPS - 1):
        folder = tmp_path / f"stopped-{stop}"
        assert _train(toy_shards, recipe, folder, should_stop=_stop_at(stop)) is None
        found, _, log = _train(toy_shards, recipe, folder)
        assert_same(found, wanted)
        assert log == wanted_log
    folder = tmp_path / "stopped-often"
    while (done := _train(toy_shards, recipe, folder, should_stop=_stop_at(11))) is None:
        pass
    assert_same(done[0], wanted)
    assert done[2] == wanted_log


def test_the_guard_remembers_what_it_saw_before_the_stop(toy_shards: ShardStore, tmp_path: Path, monkeypatch) -> None:
    # How far a rate that is too high throws the loss back depends on the processor; that it rises at all does not.
    monkeypatch.setattr(guard, "_WORSE", 1.01)
    recipe = replace(_recipe("topk"), learning_rate=0.9, warmup_steps=40, decay_share=0.1)
    feed = Feed(toy_shards, batch_rows=recipe.batch_rows, seed=0)
    (wanted,) = train_all(feed, [Job(recipe, tmp_path / "undisturbed", {})])
    assert any("rose from" in sentence for sentence in wanted.warnings)
    job = Job(recipe, tmp_path / "stopped", {})
    assert train_all(feed, [job], should_stop=_stop_at(50)) is None
    (found,) = train_all(feed, [job])
    assert found.warnings == wanted.warnings


def test_how_often_a_checkpoint_is_written_changes_nothing(toy_shards: ShardStore, tmp_path: Path) -> None:
    recipe = _recipe("batchtopk")
    often, _, log = _train(toy_shards, recipe, tmp_path / "often", checkpoint_seconds=0.0)
    seldom, _, other_log = _train(toy_shards, recipe, tmp_path / "seldom", checkpoint_seconds=1e9)
    assert_same(often, seldom)
    assert log == other_log
    names = [path.name for path in (tmp_path / "often").iterdir()]
    assert names == ["state.safetensors"]


def test_the_log_has_a_row_for_every_25_steps_and_the_last(toy_shards: ShardStore, tmp_path: Path) -> None:
    learner, scaling, log = _train(toy_shards, _recipe("topk"), tmp_path)
    assert [row["step"] for row in log] == [25, 50, 60]
    assert [row["tokens"] for row in log] == [25 * ROWS, 50 * ROWS, 60 * ROWS]
    assert log[0]["learning_rate"] == pytest.approx(0.01)
    assert log[-1]["learning_rate"] == pytest.approx(0.01 / 24)
    assert log[-1]["fvu"] < log[0]["fvu"] < 1 and all(row["l0"] == 3 for row in log)
    assert int(learner.silent_rows.min()) == 0 and scaling.reads.scale > 0


def test_a_finished_training_is_not_done_again(toy_shards: ShardStore, tmp_path: Path) -> None:
    recipe = _recipe("topk")
    first, _, log = _train(toy_shards, recipe, tmp_path)
    written = (tmp_path / "state.safetensors").stat().st_mtime_ns
    steps = []

    class _Listener:
        def start(self, *_: object, already: int = 0) -> None:
            steps.append(already)

        def advance(self, *_: object, **__: object) -> None:
            steps.append("trained")

        def finish(self) -> None: ...

    second, _, other_log = _train(toy_shards, recipe, tmp_path, progress=_Listener())
    assert steps == [STEPS * ROWS] and log == other_log
    assert_same(first, second)
    assert written <= (tmp_path / "state.safetensors").stat().st_mtime_ns


def test_another_request_does_not_go_on(toy_shards: ShardStore, tmp_path: Path) -> None:
    assert _train(toy_shards, _recipe("topk"), tmp_path, should_stop=_stop_at(3)) is None
    with pytest.raises(RequestDiffers, match="seed was 0 and is now 1"):
        _train(toy_shards, replace(_recipe("topk"), seed=1), tmp_path)


def test_a_damaged_checkpoint_is_refused(toy_shards: ShardStore, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    assert _train(toy_shards, _recipe("topk"), tmp_path, should_stop=_stop_at(3)) is None
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged, match=r"state.safetensors"):
            _train(toy_shards, _recipe("topk"), tmp_path)


def test_another_seed_gives_another_dictionary(toy_shards: ShardStore, tmp_path: Path) -> None:
    recipe = _recipe("topk")
    first, _, _ = _train(toy_shards, recipe, tmp_path / "a")
    second, _, _ = _train(toy_shards, replace(recipe, seed=1), tmp_path / "b")
    assert not torch.equal(first.decoder, second.decoder)
