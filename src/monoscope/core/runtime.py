"""Device, dtype, random streams and processor threads, chosen once and passed along."""

import ctypes
import hashlib
import sys

import numpy as np
import torch

# `omp_pause_soft` of the OpenMP 5.0 API.
_PAUSE_SOFT = 1

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}


def random_stream(seed: int, *names: str | int) -> torch.Generator:
    """A generator that depends on `seed` and on what it is for, and on nothing else."""
    return torch.Generator().manual_seed(_mix(seed, *names))


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """The same for numpy."""
    return np.random.default_rng(_mix(seed, *names))


def _mix(seed: int, *names: str | int) -> int:
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def release_threads() -> None:
    """Let go of the helper threads with which torch computes for the calling thread; the next computation makes new.

    GNU OpenMP keeps helpers for each thread that ever computed. Once all of them together outnumber the processors,
    every helper sleeps between two products instead of waiting at hand: with two processors, a model that generates in
    a second thread then takes 1.6 times as long. With another OpenMP this does nothing.
    """
    if sys.platform == "linux":
        pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
        if pause is not None:
            pause(_PAUSE_SOFT)
