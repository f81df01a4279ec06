"""How the threads of a parallel computation wait for the next one; it must be settled before torch is loaded."""

import os

# About a tenth of a millisecond.
_SPINS = "10000"


def wait_briefly() -> None:
    """Let waiting threads look out for a tenth of a millisecond and then sleep, unless the environment says otherwise.

    Generation is hundreds of small products a token. Threads that sleep at once have to be woken for each of them;
    those that look out for three milliseconds, as usual, keep the processor from whoever is busy beside them (lab log,
    2026-11-26). Only GNU OpenMP reads the count; with others threads sleep at once.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
