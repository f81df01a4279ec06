"""What the other tools' workers share: the same activations for all, and the same figures of quality."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


def settings() -> argparse.Namespace:
    """The command line of a worker that trains."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("--lr", type=float, default=1e-3)
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


@torch.no_grad()
def quality(held: Tensor, read: Callable[[Tensor], tuple[Tensor, Tensor]]) -> dict[str, float]:
    """FVU against the mean-centred variance, L0 and the share of silent latents; `read` gives x̂ and dense codes."""
    error = entries = 0.0
    fired = None
    for x in held.split(2048):
        found, code = read(x)
        error += float((found - x).square().sum())
        entries += float((code != 0).sum())
        active = (code != 0).any(0)
        fired = active if fired is None else fired | active
    return {
        "fvu": error / float((held - held.mean(0)).square().sum()),
        "l0": entries / len(held),
        "dead_fraction": 1 - float(fired.float().mean()),
    }
