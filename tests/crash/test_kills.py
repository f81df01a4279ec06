"""Killed at the worst moments and at any moment, started again, and in the end as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

import crash_workers
import pytest
import safetensors
import torch

from monoscope.core.artifact import read_tensors
from monoscope.core.run import Run
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore
from monoscope.train.recipes import RULES, Recipe
from monoscope.training import train_dictionary

PATIENCE = 60


@dataclass(frozen=True)
class Oracle:
    """A folder that nobody disturbed, and how long it took from the first line of work."""

    folder: Path
    seconds: float


def _run(
    children: ForkServerContext, work: Callable, args: tuple, *, delay: float | None, kill: tuple[int, bool] | None
) -> tuple[bool, float]:
    """One child; whether it was killed, and how long it worked."""
    heard, started = children.Pipe(duplex=False)
    with heard, started:
        child = children.Process(target=work, args=(*args, started, kill))
        child.start()
        assert heard.poll(PATIENCE)
    began = time.monotonic()
    child.join(PATIENCE if delay is None else delay)
    if child.is_alive():
        assert delay is not None, "a child did not come to an end"
        os.kill(child.pid, signal.SIGKILL)
        child.join(PATIENCE)
    seconds, status = time.monotonic() - began, child.exitcode
    child.close()
    assert status in (0, -signal.SIGKILL)
    return status != 0, seconds


def _kill_until_done(  # noqa: PLR0913
    children: ForkServerContext,
    work: Callable,
    args: tuple,
    *,
    plan: list[tuple[float | None, tuple[int, bool] | None]],
    check: Callable[[], None],
    restart: Callable[[], None],
) -> None:
    """Kill as often as planned. Work that gets done in between is checked and begun anew."""
    for delay, kill in plan:
        for attempt in range(8):
            # Work that was done before its moment came is killed sooner the next time.
            sooner = None if delay is None else delay * 0.6**attempt
            killed, _ = _run(children, work, args, delay=sooner, kill=kill)
            if killed:
                break
            check()
            restart()
        else:
            raise AssertionError(f"never killed with {delay=} {kill=}")
    assert not _run(children, work, args, delay=None, kill=None)[0]
    check()


# --- harvest


@pytest.fixture(scope="module")
def harvested(children: ForkServerContext, tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    folder = tmp_path_factory.mktemp("oracle") / "run"
    killed, seconds = _run(children, crash_workers.harvest, (folder,), delay=None, kill=None)
    assert not killed
    return Oracle(folder, seconds)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _check_harvest(folder: Path, oracle: Path) -> None:
    found, wanted = _files(folder), _files(oracle)
    assert [name for name in found if name.endswith(".part")] == []
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name] and name != ".lock"] == []
    name = f"{crash_workers.SITE}@toy"
    shards = ShardStore.load(Run(folder).activations(name))
    assert len(shards.manifest["shards"]) >= 4
    tokens = torch.cat([block.token for block in shards.blocks("all")])
    wanted_tokens = torch.cat([b.token for b in ShardStore.load(Run(oracle).activations(name)).blocks("all")])
    assert torch.equal(tokens, wanted_tokens) and len(tokens.unique()) == len(tokens)
    assert len(tokens) + shards.manifest["sinks"] == TokenStore.load(Run(folder).text("toy")).n_tokens


@pytest.mark.parametrize("moment", ["at a flush or a rename", "at any time"])
def test_a_harvest_killed_ten_times_ends_with_the_same_bytes(
    moment: str, children: ForkServerContext, harvested: Oracle, tmp_path: Path
) -> None:
    dice, folder = random.Random(7), tmp_path / "run"
    if moment == "at any time":
        plan = [(dice.uniform(0, 1.1 * harvested.seconds), None) for _ in range(10)]
    else:
        plan = [(None, (call, dice.random() < 0.5)) for call in (1, 2, 3, 5, 8, 4, 6, 2, 7, 3)]
    _kill_until_done(
        children,
        crash_workers.harvest,
        (folder,),
        plan=plan,
        check=lambda: _check_harvest(folder, harvested.folder),
        restart=lambda: shutil.rmtree(folder),
    )


# --- training


def _state(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    path = folder / "state.safetensors"
    with safetensors.safe_open(str(path), "pt") as stream:
        note = json.loads(stream.metadata()["progress"])
    return read_tensors(path), note


@pytest.fixture(scope="module")
def both_sites(children: ForkServerContext, harvested: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The harvest with a second site beside it, for transcoders."""
    folder = Path(shutil.copytree(harvested.folder, tmp_path_factory.mktemp("sites") / "run"))
    assert not _run(children, crash_workers.harvest_told, (folder,), delay=None, kill=None)[0]
    return folder


def _kill_a_training(  # noqa: PLR0913
    children: ForkServerContext, run: Path, arch: str, folder: Path, *, at_calls: int, at_times: int, seed: int
) -> None:
    """Kills at flushes and renames and at any moment; weights, moments, counters and log end as if undisturbed."""
    killed, seconds = _run(children, crash_workers.learn, (run, arch, folder / "oracle"), delay=None, kill=None)
    assert not killed
    wanted, wanted_note = _state(folder / "oracle")
    assert wanted_note["step"] == 60 and [row["step"] for row in wanted_note["log"]] == [25, 50, 60]

    def check() -> None:
        found, note = _state(folder / "killed")
        assert note == wanted_note
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
        assert os.listdir(folder / "killed") == ["state.safetensors"]

    dice = random.Random(seed)
    # Three calls make one checkpoint: flush of the file, rename, flush of the folder.
    plan: list = [(None, (dice.choice((7, 8, 9, 40, 41)), dice.random() < 0.5)) for _ in range(at_calls)]
    plan += [(dice.uniform(0, 0.9 * seconds), None) for _ in range(at_times)]
    dice.shuffle(plan)
    _kill_until_done(
        children,
        crash_workers.learn,
        (run, arch, folder / "killed"),
        plan=plan,
        check=check,
        restart=lambda: shutil.rmtree(folder / "killed"),
    )


def test_a_training_killed_ten_times_learns_the_same(
    children: ForkServerContext, both_sites: Path, tmp_path: Path
) -> None:
    _kill_a_training(children, both_sites, "batchtopk", tmp_path, at_calls=3, at_times=7, seed=11)


@pytest.mark.parametrize("arch", sorted(RULES))
def test_every_architecture_survives_kills(
    arch: str, children: ForkServerContext, both_sites: Path, tmp_path: Path
) -> None:
    _kill_a_training(children, both_sites, arch, tmp_path, at_calls=1, at_times=1, seed=5)


@pytest.mark.slow
@pytest.mark.parametrize("arch", sorted(RULES))
def test_a_hundred_kills_over_all_architectures(
    arch: str, children: ForkServerContext, both_sites: Path, tmp_path: Path
) -> None:
    each = -(-100 // len(RULES))
    _kill_a_training(children, both_sites, arch, tmp_path, at_calls=each // 3, at_times=each - each // 3, seed=17)


def test_asked_to_stop_the_command_leaves_a_checkpoint_and_goes_on(
    children: ForkServerContext, harvested: Oracle, tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(harvested.folder, tmp_path / "run")))
    words = [
        "train",
        str(run.path),
        "--latents",
        "48",
        "--k",
        "3",
        "--batch",
        "256",
        "--lr",
        "0.01",
        "--tokens",
        "512000",
    ]
    child = children.Process(target=crash_workers.command, args=(words,))
    child.start()
    folder, deadline = run.dictionary("batchtopk-48-k3"), time.monotonic() + PATIENCE
    while not _is_training(run.path / "progress.json"):
        assert child.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    child.terminate()
    child.join(PATIENCE)
    assert child.exitcode == 130
    child.close()
    assert not (folder / "monoscope.json").exists()
    _, note = _state(folder / "checkpoint")
    assert 0 < note["step"] < 2000

    recipe = Recipe("batchtopk", 48, 3, 512_000, 256, 0.01)
    steps: list[int] = []
    stopped = train_dictionary(run, recipe, measure=False, progress=_Counter(steps))
    assert steps[0] == note["step"] * 256 and not stopped["skipped"]
    undisturbed = train_dictionary(run, recipe, name="undisturbed", measure=False)
    one, other = (
        read_tensors(run.dictionary(told["name"]) / "sae_weights.safetensors") for told in (stopped, undisturbed)
    )
    assert all(torch.equal(one[name], other[name]) for name in other)


class _Counter:
    """Keeps how much of each stage was done when it began."""

    def __init__(self, already: list[int]) -> None:
        self._already = already

    def start(self, stage: str, total: int | None, unit: str, already: int = 0) -> None:
        self._already.append(already)

    def advance(self, amount: int, **facts: float) -> None: ...

    def finish(self) -> None: ...


def _is_training(path: Path) -> bool:
    try:
        stages = json.loads(path.read_text())["stages"]
    except (FileNotFoundError, ValueError):
        return False
    return any(stage["name"] == "train" and stage["done"] > 0 for stage in stages)
