"""A real monitor in the whole engine: no token from its first crossing on is ever told, whatever else is answered."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.conftest import planted_dictionary
from monoscope.core.site import Site
from monoscope.core.toy_text import toy_texts
from monoscope.model.chat import render_plain
from monoscope.model.sinks import sink_limit
from monoscope.safety.detector import Detector, crosses, score_tokens
from monoscope.safety.monitor import Monitor
from monoscope.safety.reading import Reading
from monoscope.safety.watcher import MonitorWatcher, Post
from monoscope.steer.batcher import Batcher
from monoscope.steer.engine import generate, stream
from monoscope.steer.request import Request

TEXTS = [
    "The fox sees the bridge near London.",
    "A",
    "Tell me a story about the sea and the moon. The ship",
    "Where is the salmon? I",
    "Paris",
]


@pytest.fixture(scope="module")
def planted(toy):
    rows = [toy.residual(torch.tensor([render_plain(toy, text).ids]), Site(2))[0, 1:] for _, text in toy_texts(0, 12)]
    x = torch.cat(rows)
    limit = sink_limit(x.norm(dim=-1))
    return planted_dictionary(x[x.norm(dim=-1) <= limit], limit)[1]


@pytest.fixture(scope="module")
def alone(toy):
    """What a request gives when nobody watches."""
    return functools.cache(lambda request: generate(toy, None, [request])[0])


def first_crossing(toy, dictionary, monitor, request, done):
    """Where `score_tokens` on the whole unblocked text crosses, counted from the first token; and by how much no score
    comes near the threshold."""
    ids, prompt = torch.tensor([*request.prompt_ids, *done.ids]), len(request.prompt_ids)
    x = toy.residual(ids[None], dictionary.site)[0]
    places = torch.arange(len(ids))
    wanted = (places > 0) & (x.norm(dim=1) <= dictionary.stats.sink_limit)
    wanted &= places >= prompt if monitor.part == "reply" else True
    kept = places[wanted]
    if not len(kept):
        return None, 1.0
    nothing = torch.zeros(1, dtype=torch.double)
    code = dictionary.encode(x[wanted].float())
    reading = Reading(x[wanted], code, ids[wanted], torch.tensor([0, len(kept)]), nothing, nothing)
    scores = score_tokens(monitor.detector, reading, 0)
    over = torch.nonzero(crosses(scores, monitor.threshold, monitor.detector.warm_up, 0)).flatten()
    return (int(kept[over[0]]) if len(over) else None), float((scores - monitor.threshold).abs().min())


@st.composite
def scenes(draw):
    row = st.tuples(st.integers(0, len(TEXTS) - 1), st.integers(0, 3), st.integers(1, 10))
    detector = st.tuples(
        st.lists(st.integers(0, 19), min_size=1, max_size=6, unique=True),
        st.sampled_from(["max", "mean", "rolling"]),
        st.integers(1, 5),
        st.integers(1, 4),
        st.sampled_from(["said", "reply"]),
        st.floats(0.05, 1.5),
    )
    rows = draw(st.lists(row, min_size=1, max_size=4, unique=True))
    return rows, draw(st.lists(detector, min_size=1, max_size=2)), draw(st.integers(1, 4)), draw(st.integers(0, 2))


def told(toy, way, requests, watcher, most_rows):
    """All that leaves of each request, token by token, and its generation."""
    if way == 0:
        return [(done.ids, done) for done in generate(toy, None, requests, watchers=[watcher])]
    if way == 1:
        events = list(stream(toy, None, requests, watchers=[watcher]))
        own = [[event for event in events if event.request == number] for number in range(len(requests))]
    else:
        batcher = Batcher(toy, watchers=[watcher], most_rows=most_rows)
        try:
            own = [list(ticket) for ticket in batcher.submit(None, requests)]
        finally:
            batcher.close()
    return [(tuple(event.token for event in each if event.token is not None), each[-1].done) for each in own]


@settings(max_examples=40)
@given(scenes())
def test_nothing_from_the_first_crossing_on_is_told(toy, planted, alone, scene):
    rows, kinds, most_rows, way = scene
    prompts = [render_plain(toy, text) for text in TEXTS]
    requests = [
        Request(prompts[text].ids, seed=seed, max_tokens=tokens, template=prompts[text].template, stop_ids=frozenset())
        for text, seed, tokens in rows
    ]
    posts = [
        Post(
            Monitor(
                f"m{number}", "features",
                Detector(torch.tensor(features), torch.ones(len(features)).double(), 0.0, statistic, window, warm_up),
                threshold, "planted", "", planted.site, part=part,
            ),
            "block",
        )
        for number, (features, statistic, window, warm_up, part, threshold) in enumerate(kinds)
    ]  # fmt: skip
    found = told(toy, way, requests, MonitorWatcher(posts, planted), most_rows)
    for request, (left, done) in zip(requests, found, strict=True):
        plain = alone(request)
        crossings = [first_crossing(toy, planted, post.monitor, request, plain) for post in posts]
        if min(margin for _, margin in crossings) < 1e-4:
            continue  # the rounding of a batch decides
        places = [place for place, _ in crossings if place is not None]
        kept = plain.ids if not places else plain.ids[: max(0, min(places) - len(request.prompt_ids))]
        assert left == done.ids == kept
        assert done.finish_reason == ("content_filter" if places else plain.finish_reason)
        stopped = [alert.position for alert in done.alerts if alert.stopped]
        assert (min(stopped) if stopped else None) == (min(places) if places else None)
