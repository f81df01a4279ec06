"""Children come from a server that has torch and monoscope loaded already, so that a kill costs no second start."""

import multiprocessing
import multiprocessing.forkserver
from multiprocessing.context import ForkServerContext

import pytest

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["monoscope.cli", "monoscope.stages", "monoscope.dictionary.kernels.cpu"])
# Begin now: it loads on another core while other tests run.
multiprocessing.forkserver.ensure_running()


@pytest.fixture(scope="session")
def children() -> ForkServerContext:
    return _CONTEXT
