"""What a training will need in memory, term by term, and the largest buffer that stays within a budget.

The terms are counted from the shapes; the process itself and what torch and numba keep was measured (about 0.6 GB).
Nothing here asks how much memory is free: a plan follows from the request alone, so that it is the same everywhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from monoscope.core.errors import BadRequest
from monoscope.train.recipes import Recipe

_PROCESS = 600 * 1024**2
_SAMPLE_ROWS = 65_536
_TILE_BYTES = 256 * 1024**2
_LEAST_BATCHES = 20
_UNITS = {
    "": 1,
    "k": 1e3,
    "m": 1e6,
    "g": 1e9,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}


@dataclass(frozen=True)
class MemoryPlan:
    """Rows of the shuffle buffer and of one tile of pre-activations, and what each part takes, in bytes."""

    budget: int
    buffer_rows: int
    tile_rows: int
    terms: dict[str, int]

    @property
    def total(self) -> int:
        """All terms together."""
        return sum(self.terms.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in self.terms.items())
        return (
            f"memory: {self.total / 1e9:.2f} of {self.budget / 1e9:.2f} GB ({parts}); buffer {self.buffer_rows:,} "
            f"rows, tiles of {self.tile_rows:,} rows"
        )


def parse_bytes(text: str) -> int:
    """Read `8GB`, `500 MB` or a number of bytes; GB is 10⁹, GiB 2³⁰.

    Raises
        BadRequest  it cannot be read.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if match is None or match.group(2).lower() not in _UNITS:
        raise BadRequest(f"Memory {text!r} is not understood; write it as 8GB or 500MB.")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


def plan_memory(
    recipes: Sequence[Recipe], *, d_in: int, d_model: int, rows: int, budget: int, model_bytes: int = 0
) -> MemoryPlan:
    """Tiles first, so that pre-activations stay near a quarter of a gigabyte; the buffer gets what is left.

    `d_model` is the width of a row of the feed, `rows` how many there are, `model_bytes` what a model takes that runs
    beside. All recipes learn at once.

    Raises
        BadRequest  the budget is too small; the sentence says what the least would be.
    """
    d_out = d_model - d_in or d_in
    widest, batch = max(recipe.latents for recipe in recipes), recipes[0].batch_rows
    tile = max(64, min(batch, _TILE_BYTES // (4 * widest)))
    terms = {
        "process": _PROCESS + model_bytes,
        # Weights, gradients and two moments in float32.
        "weights": sum(16 * (r.latents * (d_in + d_out + 1) + d_out) for r in recipes),
        # A copy in a faster dtype in training; two of the weights when they are folded at the end.
        "copies": max(4 * r.latents * (d_in + d_out) for r in recipes),
        "pre-activations": max(4 * tile * r.latents for r in recipes),
        # Candidates of a selection, about three times those that stay, with the arrays that sort them.
        "entries": max(3 * 40 * batch * round(r.wanted_l0) for r in recipes),
        "batches": 12 * 4 * batch * (d_in + d_out),
        "sample": _SAMPLE_ROWS * (2 * d_model + 8 * (d_in + d_out)),
    }
    left = budget - sum(terms.values())
    least = min(rows, _LEAST_BATCHES * batch)
    if left < 2 * d_model * least:
        wanted = sum(terms.values()) + 2 * d_model * least
        raise BadRequest(
            f"{budget / 1e9:.2f} GB are too little for {' and '.join(f'{r.latents:,}' for r in recipes)} latents; "
            f"this needs at least {wanted / 1e9:.2f} GB. Give more --memory, or take fewer --latents."
        )
    # A buffer is allocated while the last one is still there only in the first reading; shards are read one at a time.
    buffer = min(rows, left // (2 * d_model))
    terms["buffer"] = 2 * d_model * buffer
    return MemoryPlan(budget, int(buffer), tile, terms)
