"""Device, dtype, random streams and processor threads, chosen once and passed along."""

import contextlib
import ctypes
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}
# `omp_pause_soft` of OpenMP 5.0.
_PAUSE_SOFT = 1


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
    """Let go of the helper threads with which torch computes for the calling thread; its next computation makes new.

    GNU OpenMP keeps helpers for each thread that ever computed. Once all of them together outnumber the processors,
    every helper sleeps between two products instead of looking out for the next: with two processors, a model that
    generates in a second thread then takes 1.6 times as long. Other runtimes share helpers and are left alone. Not for
    the child of a fork that was made while helpers were held: it would wait for threads that are not there.
    """
    pause = _pause()
    if pause is not None:
        pause(_PAUSE_SOFT)


@contextlib.contextmanager
def passing_computation() -> Iterator[None]:
    """For a thread that computes once in a while beside the model's: it keeps no helpers afterwards."""
    try:
        yield
    finally:
        release_threads()


@functools.cache
def _pause() -> Callable[[int], int] | None:
    """`omp_pause_resource_all` of the GNU runtime, where that is what torch computes with."""
    if sys.platform != "linux":
        return None
    loaded = ctypes.CDLL(None)
    # LLVM's runtime has the same name for something that concerns all threads.
    return None if hasattr(loaded, "__kmpc_fork_call") else getattr(loaded, "omp_pause_resource_all", None)
