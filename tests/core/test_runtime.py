"""Threads of the processor, given back."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monoscope.core import runtime
from monoscope.core.waiting import wait_briefly

_COUNT = """
import os, torch
from monoscope.core.runtime import release_threads
torch.set_num_threads(3)
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
total = torch.ones(1 << 20).sum()
during = threads()
release_threads()
after = threads()
again = torch.ones(1 << 20).sum()
print(during - before, after - before, threads() - before, bool(again == total))
"""


_GNU = sys.platform == "linux" and any((Path(torch.__file__).parent / "lib").glob("libgomp*"))


def test_the_way_to_let_helpers_go_is_found_where_torch_computes_with_gnus_threads() -> None:
    assert not _GNU or runtime._pause() is not None


@pytest.mark.skipif(not _GNU, reason="torch computes with another OpenMP")
def test_helpers_are_let_go_and_come_back() -> None:
    found = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2", "0", "2", "True"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ("PASSIVE", "10000")),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", None)),
        ({"GOMP_SPINCOUNT": "7"}, ("PASSIVE", "7")),
    ],
)
def test_how_threads_wait_is_said_unless_somebody_did(monkeypatch: pytest.MonkeyPatch, given, wanted) -> None:
    environment = dict(given)
    monkeypatch.setattr("os.environ", environment)
    wait_briefly()
    assert (environment.get("OMP_WAIT_POLICY"), environment.get("GOMP_SPINCOUNT")) == wanted
