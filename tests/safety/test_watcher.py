"""Monitors at work say what they say offline, token by token, whatever the pieces; what they block never leaves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monoscope.core.errors import BadRequest
from monoscope.core.site import Site
from monoscope.dictionary.base import Stats, Weights
from monoscope.dictionary.jumprelu import JumpReluDictionary
from monoscope.dictionary.topk import TopKDictionary
from monoscope.safety.detector import Detector, Running, crosses
from monoscope.safety.monitor import Monitor
from monoscope.safety.watcher import Draft, MonitorWatcher, Post
from monoscope.steer.request import BoundRequest
from monoscope.steer.sampling import Sampling

D, N = 6, 12
SINK = 50.0


def dictionary_of(kind=JumpReluDictionary, **settings_):
    """Whole numbers, so that every product is exact whatever its order."""
    stream_ = torch.Generator().manual_seed(3)
    encoder = torch.randint(-2, 3, (D, N), generator=stream_).float()
    some = torch.ones(N)
    weights = Weights(encoder, torch.zeros(N), torch.eye(N)[:, :D], torch.zeros(D), threshold=some * 1.5)
    stats = Stats(some, some, some, torch.zeros(D), 10, 1.0, SINK)
    return kind(weights, site=Site(1), name="exact", stats=stats, settings=settings_)


EXACT = dictionary_of()
detectors = st.builds(
    lambda features, statistic, window, warm_up, squash, probe, seed: Detector(
        torch.tensor(features, dtype=torch.long),
        torch.randn(len(features), generator=torch.Generator().manual_seed(seed), dtype=torch.double),
        0.25,
        statistic,
        window,
        warm_up,
        squash,
        torch.arange(D).float() - 2 if probe else None,
        0.5,
        0.125,
    ),
    st.lists(st.integers(0, N - 1), min_size=1, max_size=5, unique=True),
    st.sampled_from(["max", "mean", "rolling"]),
    st.integers(1, 7),
    st.integers(1, 6),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)


def monitor_of(detector, name="m", *, part="said", threshold=0.0):
    return Monitor(name, "features", detector, threshold, "exact", "", Site(1), part=part, labels={3: "three"})


def bound(template, max_tokens):
    ids = tuple(range(len(template)))
    return BoundRequest(
        ids, tuple(template), (), Sampling(0.0, 1.0, 1.0, 0), max_tokens, frozenset(), (), None, False, ()
    )


def residuals(tokens, seed):
    """The residuals of a text, now and then a sink among them."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randint(-8, 9, (tokens, D), generator=source).float() / 4
    x[torch.rand(tokens, generator=source) < 0.1] *= 64
    return x


def offline(monitor, template, x):
    """The score after each token that counts, by `Running`, and where those tokens stand."""
    prompt, places = len(template), torch.arange(len(x))
    said = torch.tensor([*template, *[False] * (len(x) - prompt)]).logical_not() & (places > 0)
    wanted = {"said": said, "reply": places >= prompt, "last": places == prompt - 1}[monitor.part]
    wanted &= (places > 0) & (x.norm(dim=1) <= SINK)
    chosen = places[wanted]
    running = Running(monitor.detector)
    scores = running.advance(monitor.detector.channels_of(EXACT, x[wanted]))
    return chosen.tolist(), scores, running.score if len(chosen) else None


def feed(watcher, texts, plan):
    """Rows join, are read in pieces and leave, as in the engine: prompts by themselves, then a token a step for all."""
    requests = {number: bound(template, len(x) - len(template)) for number, (template, x) in enumerate(texts)}
    waiting, running, alerts, stops = list(requests), {}, {}, {}
    for joins, chunk in plan:
        arriving = [waiting.pop(0) for _ in range(min(joins, len(waiting)))]
        for number in arriving:
            watcher.begin(number, requests[number])
        if arriving:
            longest = max(len(texts[number][0]) for number in arriving)
            for first in range(0, longest, chunk):
                columns = range(first, min(first + chunk, longest))
                shift = [longest - len(texts[number][0]) for number in arriving]
                places = torch.tensor([[column - by for column in columns] for by in shift])
                x = torch.stack([texts[n][1][row.clamp(min=0)] for n, row in zip(arriving, places, strict=True)])
                stops = watcher.observe(tuple(arriving), places, x) | stops  # the first counts, as in the engine
            running |= {number: len(texts[number][0]) for number in arriving}
        for number in [n for n, at in running.items() if at == len(texts[n][1])]:
            del running[number]
            alerts[number] = watcher.end(number)
        if running:
            numbers = tuple(sorted(running, key=lambda n: -n))
            places = torch.tensor([[running[number]] for number in numbers])
            x = torch.stack([texts[number][1][running[number]][None] for number in numbers])
            stops = watcher.observe(numbers, places, x) | stops
            running = {number: at + 1 for number, at in running.items()}
    for number in running:
        alerts[number] = watcher.end(number)
    return alerts, stops


scenes = st.lists(
    st.tuples(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 14), st.integers(0, 999)),
    min_size=1,
    max_size=4,
)


def between(scores):
    """A threshold that lies between two scores, so that rounding cannot decide."""
    ordered = scores.sort().values
    gaps = ordered.diff()
    wide = torch.nonzero(gaps > 1e-6).flatten().tolist()
    if not wide:
        return float(ordered[0]) - 1 if len(ordered) else 0.0
    at = wide[len(wide) // 2]
    return float(ordered[at : at + 2].mean())


@settings(max_examples=50)
@given(
    st.lists(st.tuples(detectors, st.sampled_from(["said", "reply", "last"])), min_size=1, max_size=4),
    scenes,
    st.integers(0, 999),
    st.sampled_from([1, 3, 50]),
)
def test_a_stream_says_what_texts_say(kinds, scene, seed, chunk):
    """Any chunks, rows that join and leave: the first crossing, its score and the score at the end are those of
    `Running`."""
    texts = [(template, residuals(len(template) + reply, seed)) for template, reply, seed in scene]
    posts = []
    for number, (detector, part) in enumerate(kinds):
        threshold = between(torch.cat([offline(monitor_of(detector, part=part), *text)[1] for text in texts]))
        posts.append(Post(monitor_of(detector, str(number), part=part, threshold=threshold), "block"))
    joins = [*torch.randint(0, 3, (20,), generator=torch.Generator().manual_seed(seed)).tolist(), *[4] * 20]
    alerts, stops = feed(MonitorWatcher(posts, EXACT), texts, [(count, chunk) for count in joins])
    for number, text in enumerate(texts):
        told = {alert.monitor: alert for alert in alerts[number]}
        first = []
        for post in posts:
            places, scores, whole = offline(post.monitor, *text)
            detector, alert = post.monitor.detector, told.pop(post.monitor.name, None)
            if whole is None or whole <= post.monitor.threshold:
                assert alert is None
                continue
            over = torch.nonzero(crosses(scores, post.monitor.threshold, detector.warm_up, 0)).flatten().tolist()
            at = over[0] if over else len(scores) - 1
            assert alert is not None
            assert alert.position == places[at]
            assert alert.score == pytest.approx(float(scores[at]), abs=1e-9)
            in_prompt = alert.position < len(text[0])
            assert alert.where == ("prompt" if in_prompt else "reply")
            assert alert.token == alert.position - (0 if in_prompt else len(text[0]))
            first += [alert.position] if alert.stopped else []
            assert alert.stopped == (bool(over) or post.monitor.part == "last")
        assert not told
        assert stops.get(number) == (min(first) if first else None)


def test_an_alert_says_why():
    detector = Detector(torch.tensor([3, 5]), torch.tensor([2.0, 0.5]).double(), -1.0, "max", warm_up=2)
    x = torch.zeros(4, D)
    x[2] = EXACT.encoder_rows[3]
    heard = []
    watcher = MonitorWatcher(
        [Post(monitor_of(detector, threshold=1.0), "watch")], EXACT, tell=heard.append, draft_of=lambda _: Draft("r", 2)
    )
    watcher.begin(7, bound([True, False], 2))
    assert watcher.observe((7,), torch.tensor([[0, 1]]), x[None, :2]) == {}
    assert watcher.observe((7,), torch.tensor([[2]]), x[None, 2:3]) == {}
    (alert,) = watcher.end(7)
    assert heard == [alert] and not watcher.holds_back and watcher.counts["m"] == 1
    value = float(EXACT.activations_of(x[2:3], torch.tensor([3])))
    assert alert.features[0].feature == 3 and alert.features[0].label == "three"
    assert alert.features[0].share == pytest.approx(2 * math.log1p(value))
    assert (alert.where, alert.token, alert.position, alert.request, alert.draft) == ("reply", 0, 2, "r", 2)
    assert alert.to_json()["features"][0]["share"] == pytest.approx(alert.features[0].share, abs=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("statistic", ["max", "mean", "rolling"])
@pytest.mark.parametrize("place", [1, 2])
def test_what_is_no_number_fires(value, statistic, place):
    detector = Detector(torch.tensor([1]), torch.ones(1).double(), 0.0, statistic)
    watcher = MonitorWatcher([Post(monitor_of(detector, threshold=math.inf), "block")], EXACT)
    x = torch.zeros(3, D)
    x[place, 0] = value
    watcher.begin(0, bound([True, False], 1))
    stops = {
        **watcher.observe((0,), torch.tensor([[0, 1]]), x[None, :2]),
        **watcher.observe((0,), torch.tensor([[2]]), x[None, 2:]),
    }
    assert stops == {0: place}
    assert watcher.end(0)[0].to_json()["score"] is None


def test_rows_of_other_texts_are_not_touched_by_broken_numbers():
    detector = Detector(torch.tensor([1]), torch.ones(1).double(), 0.0, "mean")
    watcher = MonitorWatcher([Post(monitor_of(detector, threshold=100.0), "block")], EXACT)
    x = torch.zeros(2, 1, D)
    x[0] = math.nan
    for number in (0, 1):
        watcher.begin(number, bound([True], 4))
        watcher.observe((number,), torch.tensor([[0]]), torch.zeros(1, 1, D))
    assert watcher.observe((0, 1), torch.tensor([[1], [1]]), x) == {0: 1}
    watcher.end(0)
    assert watcher.end(1) == ()
    # A slot that is given back is clean.
    watcher.begin(5, bound([True], 4))
    watcher.observe((5,), torch.tensor([[0]]), torch.zeros(1, 1, D))
    assert watcher.observe((5,), torch.tensor([[1]]), torch.ones(1, 1, D)) == {}


def test_refusals():
    topk = dictionary_of(TopKDictionary, k=2)
    detector = Detector(torch.tensor([1]), torch.ones(1).double(), 0.0)
    with pytest.raises(BadRequest, match="without all others"):
        MonitorWatcher([Post(monitor_of(detector))], topk)
    with pytest.raises(BadRequest, match="Two monitors are named m"):
        MonitorWatcher([Post(monitor_of(detector)), Post(monitor_of(detector), "watch")], EXACT)
    with pytest.raises(BadRequest, match="There is no action 'shout'"):
        Post(monitor_of(detector), "shout")
    with pytest.raises(BadRequest, match="can never fire"):
        Post(monitor_of(detector).without([1]))
