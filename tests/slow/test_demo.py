"""The demo on the real model, and what it promises. Needs the wheels; about a quarter of an hour the first time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run() -> Path:
    """Where the demo lies; a finished one is used again. MONOSCOPE_DEMO_RUN names another place."""
    return Path(os.environ.get("MONOSCOPE_DEMO_RUN", ROOT / "runs" / "demo"))


def told(*words: object) -> dict:
    command = [sys.executable, "-c", "from monoscope.cli import main; main()", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_demo_keeps_its_figures(run: Path) -> None:
    metrics = told("demo", "--no-serve", "--out", run)["metrics"]
    assert metrics["n_latents"] >= 8192
    assert metrics["tokens"] >= 200_000
    assert 31 <= metrics["l0"] <= 33
    assert metrics["fvu"] <= 0.17
    assert metrics["ce_recovered"] >= 0.97
    assert metrics["dead_fraction"] <= 0.01
    assert metrics["dense"] <= 15


def test_the_second_call_skips_everything(run: Path) -> None:
    stages = told("demo", "--no-serve", "--out", run)["stages"]
    assert [stage["name"] for stage in stages] == ["model", "text", "harvest", "train", "evaluate", "atlas", "presets"]
    assert all(stage["skipped"] for stage in stages)
    assert sum(stage["seconds"] for stage in stages) < 20


# A word that the label or the strongest context of one of the first three features must hold.
WANTED = {
    "golden gate bridge": ("golden", "gate", "bridge"),
    "chemistry": ("chemi",),
    "countries of the world": ("countr", "world"),
    "python exceptions": ("exception", "error"),
    "religion": ("religio",),
    "music": ("music",),
    "numbers and dates": ("number", "date", "month", "year"),
}


def test_searches_find_what_is_asked(run: Path) -> None:
    found = 0
    for query, words in WANTED.items():
        hits = told("search", run, query, "--limit", 3)["results"]
        found += any(word in (hit["label"] + hit["why"]).lower() for hit in hits for word in words)
    assert found >= 6


def test_saelens_reads_the_folder_as_it_is(run: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "saelens_load.py"), "--run", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
