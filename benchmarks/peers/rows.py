"""What the other tools' workers share: the same activations for all, and the same figures of quality."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

SAMPLE = 40_960
# A run of some hundred steps cannot wait for the defaults, which are made for 100 times as many.
WARMUP_STEPS = 20
DEAD_SHARE = 0.4  # of all rows: so long must a latent be silent to be helped
# Whether this processor multiplies bfloat16 faster than float32; the benchmark knows.
AUTOCAST = os.environ.get("BENCH_AUTOCAST") == "1"


def settings() -> argparse.Namespace:
    """The command line of a worker that trains."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--arch", default="topk")
    parser.add_argument("--coefficient", type=float, default=1.0, help="of the sparsity penalty, where there is one")
    for name in ("latents", "k", "batch", "tokens", "seed", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    found = parser.parse_args()
    torch.set_num_threads(found.threads)
    torch.manual_seed(found.seed)
    return found


def load(path: Path) -> tuple[Tensor, Tensor]:
    """Training and held rows in float32, scaled to the mean square norm d that these trainers expect."""
    found = load_file(path)
    train, held = found["train"].float(), found["held"].float()
    scale = (train.shape[1] / float(train.square().sum(1).mean())) ** 0.5
    return train * scale, held * scale


def batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Batches of exactly `size`, round and round."""
    at = 0
    while True:
        if at + size > len(rows):
            at = 0
        yield rows[at : at + size]
        at += size


def raw(path: Path) -> tuple[Tensor, Tensor]:
    """Training rows in bfloat16 and held rows in float32, with the norms they have in the model."""
    found = load_file(path)
    return found["train"], found["held"].float()


def root_mean_square(rows: Tensor) -> float:
    """√(mean |x|²) of the first rows."""
    return float(rows[:SAMPLE].float().square().sum(1).mean().sqrt())


def fresh(rows: Tensor, size: int, scale: float = 1.0) -> Iterator[Tensor]:
    """Batches round and round, each a float32 tensor of its own that the taker may change."""
    for batch in batches(rows, size):
        yield batch.float() * scale


def report(began: float, **figures: Any) -> None:
    """Print what came of a training, and its seconds, as the last line."""
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"seconds": seconds, "autocast": AUTOCAST, **figures}), flush=True)


@torch.no_grad()
def quality(held: Tensor, read: Callable[[Tensor], tuple[Tensor, Tensor]]) -> dict[str, float]:
    """FVU against the mean-centred variance, L0 and the share of silent latents; `read` gives x̂ and dense codes.

    Sums are taken in float64, the mean over all held rows.
    """
    error = variance = entries = 0.0
    fired = None
    mean = held.double().mean(0)
    for x in held.split(2048):
        found, code = read(x)
        error += float((found.double() - x.double()).square().sum())
        variance += float((x.double() - mean).square().sum())
        entries += float((code != 0).sum())
        active = (code != 0).any(0)
        fired = active if fired is None else fired | active
    return {
        "fvu": error / variance,
        "l0": entries / len(held),
        "dead_fraction": 1 - float(fired.float().mean()),
    }
