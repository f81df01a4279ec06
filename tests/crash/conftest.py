"""Children come from a server that has torch and monoscope loaded already, so that a kill costs no second start."""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
from multiprocessing.context import ForkServerContext

import pytest

_CONTEXT = multiprocessing.get_context("forkserver")
_LOADED = ["monoscope.cli", "monoscope.stages", "monoscope.atlas.build", "monoscope.dictionary.kernels.cpu"]
_CONTEXT.set_forkserver_preload(_LOADED)
# Begin now: it loads on another core while other tests run. A killed child leaves the lock of numba's thread pool
# behind; the tracker clears it away and need not tell.
with pytest.MonkeyPatch.context() as _patch:
    _patch.setenv("PYTHONWARNINGS", "ignore::UserWarning")
    multiprocessing.resource_tracker.ensure_running()
multiprocessing.forkserver.ensure_running()


@pytest.fixture(scope="session")
def children() -> ForkServerContext:
    return _CONTEXT
