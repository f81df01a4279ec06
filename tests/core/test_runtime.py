"""Threads of the processor, given back."""

import subprocess
import sys

import pytest

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


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed by Linux")
def test_helpers_are_let_go_and_come_back() -> None:
    found = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2", "0", "2", "True"]
