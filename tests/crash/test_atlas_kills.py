"""A build killed again and again: the old atlas is served all the while, the new one appears whole, the desk stays."""

import random
import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path

import crash_workers
import pytest
from test_kills import _run

from monoscope.atlas.query import Atlas

OLD, NEW = {"text": "old", "dictionary_digest": "same"}, {"text": "new", "dictionary_digest": "same"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_store, toy_shards, toy_trained) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for name, part in (("text", toy_store), ("activations", toy_shards), ("dictionary", toy_trained)):
        shutil.copytree(part.folder, folder / name)
    return folder


@pytest.fixture(scope="module")
def oracle(children: ForkServerContext, run: Path) -> tuple[Path, float]:
    killed, seconds = _run(children, crash_workers.build, (run, NEW, run / "oracle"), delay=None, kill=None)
    assert not killed
    return run / "oracle", seconds


def _rows(folder: Path) -> list[str]:
    atlas = Atlas.open(folder)
    found = [repr(row) for row in atlas.rows("*")]
    atlas.close()
    return found


def _killed_builds(children: ForkServerContext, run: Path, oracle: tuple[Path, float], kills: int) -> None:
    folder, stream = run / "atlas" / "toy", random.Random(kills)
    shutil.rmtree(run / "atlas", ignore_errors=True)
    assert not _run(children, crash_workers.build, (run, OLD, folder), delay=None, kill=None)[0]
    served, wanted = Atlas.open(folder), _rows(oracle[0])
    served.desk.label(3, "kept", score=0.99, method="person")
    before = served.features(range(8))
    done = notes = 0
    while notes < kills:
        by_call = stream.random() < 0.6
        kill = (stream.randint(1, 30), stream.random() < 0.5) if by_call else None
        killed, _ = _run(
            children,
            crash_workers.build,
            (run, NEW, folder),
            delay=None if by_call else stream.uniform(0.05, 1.0) * oracle[1],
            kill=kill,
        )
        found = Atlas.open(folder)
        assert found.manifest["request"] in (OLD, NEW)
        assert served.features(range(8)) == before
        found.desk.note(5, f"note {notes}")
        found.close()
        done += not killed
        notes += killed
    assert not _run(children, crash_workers.build, (run, NEW, folder), delay=None, kill=None)[0]
    served.close()
    atlas = Atlas.open(folder)
    assert atlas.manifest["request"] == NEW
    assert atlas.desk.notes(5)[:1] == ["note 0"] and len(atlas.desk.notes(5)) == kills + done
    assert atlas.feature(3).label == "kept"
    atlas.close()
    assert _rows(folder) == wanted
    assert sorted(path.name for path in folder.parent.iterdir()) == [".toy.desk.lock", "toy"]


def test_five_kills_during_a_build(children: ForkServerContext, run: Path, oracle: tuple[Path, float]) -> None:
    _killed_builds(children, run, oracle, 5)


@pytest.mark.slow
def test_fifty_kills_during_builds(children: ForkServerContext, run: Path, oracle: tuple[Path, float]) -> None:
    _killed_builds(children, run, oracle, 50)
