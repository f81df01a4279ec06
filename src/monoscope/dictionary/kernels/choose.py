"""One name for the fastest kernels this machine has.

Every set offers `above`, `top_rows`, `top_batch`, `decode`, `residual_and_pull` and `weight_gradients`, whose meaning
stands in `reference`, and the small tools `keep_entries`, `keep_largest` and `products`; one test holds all sets to it.
"""

import importlib.util
from types import ModuleType

import torch

from monoscope.dictionary.kernels import portable


def kernels_for(device: torch.device) -> ModuleType:
    """The numba kernels on a processor where numba is installed, the portable ones elsewhere."""
    if device.type != "cpu" or importlib.util.find_spec("numba") is None:
        return portable
    import numba

    from monoscope.dictionary.kernels import cpu

    # Two pools of threads fight for the cores; give both the same number and never more.
    # Starting numba's pool raises torch's number to all cores, so it is read before and put back.
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)
    return cpu
