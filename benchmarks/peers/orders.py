"""A worker's side of generation: each order is one batch of replies, timed whole; a few tokens go before, uncounted.

All workers get the same model folder and the same scene, a safetensors file with `prompts` [streams, length],
`features` [streams], `added` [streams, width] (what `add` adds to each stream) and `clamped` [streams] (the activation
that `clamp` sets).
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from turns import Turns, peak_bytes

_WARM_TOKENS = 4

# From a number of streams, the kind of edit and a number of new tokens to the new tokens of each stream.
Generate = Callable[[int, str, int], list[list[int]]]


def settings() -> argparse.Namespace:
    """What every worker is started with."""
    parser = argparse.ArgumentParser()
    for name in ("model", "dictionary", "scene"):
        parser.add_argument(name, type=Path)
    for name in ("add", "clamp"):
        parser.add_argument(f"--{name}", required=True, help="how we write that edit behind a feature's number")
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--layer", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    found = parser.parse_args()
    torch.set_num_threads(found.threads)
    found.dtype = getattr(torch, found.dtype)
    return found


def scene(path: Path) -> dict[str, Tensor]:
    """Prompts, and an edit for each."""
    return load_file(path)


def answer(turns: Turns, generate: Generate, **facts: float) -> None:
    """Say that all is ready, then do what is ordered until nobody orders any more."""
    turns.say(ready=True, **facts)
    for line in sys.stdin:
        order = json.loads(line)
        streams, edits = order["streams"], order["edits"]
        generate(streams, edits, _WARM_TOKENS)
        forget_peak()
        began = time.perf_counter()
        ids = generate(streams, edits, order["tokens"])
        turns.say(seconds=time.perf_counter() - began, ids=ids, peak_bytes=peak_bytes())


def forget_peak() -> None:
    """Where the system can, let the peak of memory count from now on."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
