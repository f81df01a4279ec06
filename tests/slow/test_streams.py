"""Two hundred streams with two hundred edits through one batcher, and its memory over a thousand requests.

On the demo's model where its run lies on this machine, else on the toy.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.steer.batcher import Batcher
from monoscope.steer.engine import generate
from steer.streams import TIE, answers, excused, forced, gap, requests_of

ROOT = Path(__file__).parent.parent.parent
STREAMS, TOKENS = 200, 8
REQUESTS, GROUP, SETTLED = 1000, 20, 200
MOST_BYTES = 1_000_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> tuple[LanguageModel, Dictionary]:
    """The demo's model in float32 with its dictionary; the toy's without a demo."""
    run = Run(Path(os.environ.get("MONOSCOPE_DEMO_RUN", ROOT / "runs" / "demo")))
    names = run.names("dictionaries", "monoscope.json")
    if not names:
        return request.getfixturevalue("toy"), request.getfixturevalue("toy_trained").dictionary
    return load_model(run.provenance(names[0])["model"]), load_dictionary(run.dictionary(names[0]))


@pytest.fixture
def batcher(world: tuple[LanguageModel, Dictionary]) -> Iterator[Batcher]:
    found = Batcher(world[0])
    yield found
    found.close()


def test_each_of_two_hundred_streams_answers_as_it_does_alone(world, batcher) -> None:
    model, dictionary = world
    requests = requests_of(model, dictionary, STREAMS, tokens=TOKENS)
    together = answers(batcher, dictionary, requests)
    alone = [generate(model, dictionary, [request])[0] for request in requests]
    ties = sum(excused(*pair) for pair in zip(together, alone, strict=True))
    tell(f"{model.source}: {STREAMS - ties} of {STREAMS} streams answer as they do alone, {ties} part at a tie")
    assert ties <= STREAMS // 100

    again = [forced(request, reply) for request, reply in zip(requests, alone, strict=True)]
    scored = answers(batcher, dictionary, again)
    gaps = [gap(mine, generate(model, dictionary, [each])[0]) for mine, each in zip(scored, again, strict=True)]
    tell(f"largest difference of a log-probability under teacher forcing: {max(gaps):.1e} nats")
    assert max(gaps) <= TIE


def test_memory_stays_over_a_thousand_requests(world, batcher) -> None:
    model, dictionary = world
    requests = requests_of(model, dictionary, GROUP, tokens=4)
    counts, held = [], []
    for count in range(GROUP, REQUESTS + 1, GROUP):
        answers(batcher, dictionary, requests)
        counts.append(count)
        held.append(resident_bytes())
    settled = np.array(counts) > SETTLED
    slope = np.polyfit(np.array(counts)[settled], np.array(held)[settled], 1)[0] * 100
    tell(f"memory grows by {slope / 1000:.0f} kB for each 100 requests")
    assert slope < MOST_BYTES
    assert batcher.counts()["active"] == batcher.counts()["waiting"] == 0


def tell(text: str) -> None:
    """A figure for whoever runs the slow tests."""
    sys.stdout.write(f"\n{text}\n")


def resident_bytes() -> int:
    """What this process holds in memory now, after all that is free went back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; without it freed blocks come and go by themselves
    if trim is not None:
        trim(0)
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
