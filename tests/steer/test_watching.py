"""Watchers read every token once, and what they stop never leaves the engine."""

import functools
import logging
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monoscope.core.errors import BadRequest, SiteNotFound, Unavailable
from monoscope.core.site import Site
from monoscope.model.transformer import load_model
from monoscope.steer.batcher import Batcher
from monoscope.steer.engine import generate, stream
from monoscope.steer.pieces import text_of
from monoscope.steer.reply import Reply
from monoscope.steer.request import Request, bind_request
from monoscope.steer.resolve import Push
from monoscope.steer.rows import Rows
from steer.watchers import Scripted

SITE = Site(1)
NEVER = frozenset()


def greedy(prompt, *edits, **more):
    return Request(prompt, edits, **{"temperature": 0.0, "max_tokens": 8, "stop_ids": NEVER, **more})


def streamed(events, count):
    """The generations of a stream, after a look at whether its pieces add up to them."""
    events = list(events)
    found = []
    for number in range(count):
        own = [event for event in events if event.request == number]
        done = own[-1].done
        assert [event.done for event in own[:-1]] == [None] * (len(own) - 1)
        assert tuple(event.token for event in own[:-1]) == done.ids
        assert "".join(event.text for event in own) == done.text
        assert tuple(event.logprob for event in own[:-1] if event.logprob is not None) == done.logprobs
        found.append(done)
    return found


def batched(model, requests, watcher, most_rows):
    """The same through a batcher where not all have room at once, so that rows join and leave."""
    batcher = Batcher(model, watchers=[watcher], most_rows=most_rows)
    try:
        return streamed([event for ticket in batcher.submit(None, requests) for event in ticket], len(requests))
    finally:
        batcher.close()


@pytest.fixture(scope="module")
def plainly(model):
    """What a request gives when nobody watches."""
    return functools.cache(lambda request: generate(model, None, [request])[0])


@st.composite
def scenes(draw):
    """Rows of all kinds, each with the place where its watcher fires, counted from the first token of its prompt."""
    row = st.fixed_dictionaries(
        {
            "prompt": st.integers(0, 2),
            "tokens": st.integers(0, 7),
            "seed": st.integers(0, 1),
            "warm": st.booleans(),
            "ends": st.sampled_from(["length", "token", "text"]),
            "fires": st.sampled_from(["never", "prompt", "first", "reply", "last"]),
            "where": st.floats(0, 1, exclude_max=True),
        }
    )
    return draw(st.lists(row, min_size=1, max_size=5)), draw(st.integers(1, 3)), draw(st.sampled_from([4, 9, 1024]))


def request_of(row, prompts, plainly):
    """The request of a row of a scene. Where it is to end early, its own reply says how it can."""
    request = greedy(
        prompts[row["prompt"]],
        temperature=0.8 if row["warm"] else 0.0,
        seed=row["seed"],
        max_tokens=row["tokens"],
        score_prompt=row["tokens"] == 0 or row["seed"] == 1,
        top_logprobs=1,
    )
    free = plainly(request)
    if row["ends"] == "token" and free.ids:
        return replace(request, stop_ids=frozenset({free.ids[-1]}))
    if row["ends"] == "text" and len(free.text) > 2:
        return replace(request, stop=(free.text[-3:], free.text[-1:] + "never"))
    return request


def place_of(row, request, plain):
    """Where the watcher of this row fires, or None."""
    tokens, written = len(request.prompt_ids), len(plain.ids)
    if row["fires"] == "prompt":
        return int(row["where"] * tokens)
    if row["fires"] == "never" or not written:
        return None
    return tokens + {"first": 0, "reply": int(row["where"] * written), "last": written - 1}[row["fires"]]


def check(done, plain, request, place, model):
    tokens = len(request.prompt_ids)
    kept = plain.ids if place is None else plain.ids[: max(0, place - tokens)]
    assert done.ids == kept
    assert plain.text.startswith(done.text)
    for mine, its in zip(done.logprobs, plain.logprobs, strict=False):
        assert mine.token == its.token and mine.logprob == pytest.approx(its.logprob, abs=1e-4)
    assert len(done.logprobs) == len(kept)
    if place is None:
        assert (done.text, done.finish_reason) == (plain.text, plain.finish_reason)
        assert done.alerts == tuple(range(tokens + len(kept)))
    else:
        assert done.finish_reason == "content_filter"
        whole = text_of(kept, model.vocabulary, model.special_ids)
        assert whole.startswith(done.text)
        assert request.stop or done.text == whole.rstrip("\ufffd")
        read = tokens if place < tokens else place + 1
        assert done.alerts == tuple(range(len(done.alerts))) and place < len(done.alerts) <= read
    stopped = place is not None and place < tokens
    assert len(done.prompt_logprobs) == (0 if stopped or not request.score_prompt else tokens - 1)


@settings(max_examples=40)
@given(scenes())
def test_what_is_stopped_never_leaves_and_all_else_does(model, prompts, plainly, monkeypatch, scene):
    rows, most_rows, chunk = scene
    monkeypatch.setattr("monoscope.steer.group._CHUNK_TOKENS", chunk)
    monkeypatch.setattr("monoscope.steer.group._SCORED_TOKENS", chunk)
    requests = [request_of(row, prompts, plainly) for row in rows]
    plain = [plainly(request) for request in requests]
    places = [place_of(*each) for each in zip(rows, requests, plain, strict=True)]
    stops = {number: place for number, place in enumerate(places) if place is not None}
    ways = (
        lambda watcher: generate(model, None, requests, watchers=[watcher]),
        lambda watcher: streamed(stream(model, None, requests, watchers=[watcher]), len(requests)),
        lambda watcher: batched(model, requests, watcher, most_rows),
    )
    for way in ways:
        watcher = Scripted(SITE, stops)
        for each in zip(way(watcher), plain, requests, places, strict=True):
            check(*each, model)
        assert watcher.begun == watcher.ended == dict.fromkeys(range(len(requests)), 1)


def test_a_token_is_told_in_the_pass_that_reads_it(model, prompts):
    rows, watcher = (Rows(model, [watcher := Scripted(SITE)]), watcher)
    request = greedy(prompts[0], max_tokens=3)
    rows.admit([(7, bind_request(model, None, request))])
    tokens = len(prompts[0])
    for told in ([], [0], [1], [2, None]):
        events = rows.step()
        assert [None if event.token is None else len(watcher.seen[7]) - tokens - 1 for event in events] == told
    assert not rows.count and events[-1].done.ids == generate(model, None, [request])[0].ids


@pytest.mark.parametrize("stops", [{}, {0: 3}])
def test_who_does_not_hold_back_changes_nothing(model, dictionary, prompts, stops):
    requests = [greedy(prompts[number % 3], f"{number} add 2", max_tokens=2 + number) for number in range(4)]
    watcher, passes = Scripted(SITE, stops, holds_back=False), []
    handle = model.module.register_forward_hook(lambda *_: passes.append(1))
    try:
        plain = list(stream(model, dictionary, requests))
        steps = len(passes)
        watched = list(stream(model, dictionary, requests, watchers=[watcher]))
    finally:
        handle.remove()
    assert len(passes) == 2 * steps == 2 * watcher.passes
    bare = [event if event.done is None else replace(event, done=replace(event.done, alerts=())) for event in watched]
    if not stops:
        assert bare == plain
    else:
        assert [event.done.finish_reason for event in bare if event.request == 0] == ["content_filter"]
    for number in range(1, 4):
        mine, its = ([event.token for event in events if event.request == number] for events in (bare, plain))
        assert mine == its


def test_a_stop_that_comes_late_ends_the_text_and_cuts_the_whole(model, prompts):
    tokens, request = len(prompts[0]), greedy(prompts[0], report=(), top_logprobs=0)
    plain = generate(model, None, [request])[0]
    events = list(stream(model, None, [request], watchers=[Scripted(SITE, {0: tokens + 2}, holds_back=False)]))
    assert [event.token for event in events] == [*plain.ids[:3], None]
    done = events[-1].done
    assert (done.ids, done.finish_reason, events[-1].text) == (plain.ids[:2], "content_filter", "")
    assert done.text == text_of(plain.ids[:2], model.vocabulary, model.special_ids) and len(done.logprobs) == 2


class Early(Scripted):
    """Its stop lies `ahead` of what it has read."""

    def __init__(self, site, stops, ahead):
        super().__init__(site, stops)
        self.ahead = ahead

    def observe(self, numbers, positions, x):
        return {number: place + self.ahead for number, place in super().observe(numbers, positions, x).items()}


@pytest.mark.parametrize("ahead", [(1,), (2,), (4,), (3, 1), (1, 3)])
def test_a_stop_may_come_early(model, prompts, ahead):
    """What stands before it still leaves, and of several the first one counts."""
    tokens, request = len(prompts[0]), greedy(prompts[0])
    plain = generate(model, None, [request])[0]
    for read in (tokens - 1, tokens, tokens + 2):
        watchers = [Early(SITE, {0: read}, by) for by in ahead]
        done = generate(model, None, [request], watchers=watchers)[0]
        assert done.ids == plain.ids[: max(0, read + min(ahead) - tokens)] and done.finish_reason == "content_filter"


def test_each_row_is_known_by_its_number_wherever_it_sits(model, prompts, plainly):
    requests = [greedy(prompts[number % 3], max_tokens=(3, 9, 2, 7, 1, 8, 5)[number]) for number in range(7)]
    for most_rows in (2, 3, 7):
        watcher = Scripted(SITE)
        for number, done in enumerate(batched(model, requests, watcher, most_rows)):
            ids = (*requests[number].prompt_ids, *plainly(requests[number]).ids)
            wanted = model.residual(torch.tensor([ids]), SITE)[0]
            seen = torch.stack([watcher.x[number, place] for place in range(len(ids))])
            torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-4)
            assert done.alerts == tuple(range(len(ids)))


def test_watchers_at_several_sites_read_what_stood_there_before_the_edit(model, dictionary, prompts):
    here, above = (Scripted(site) for site in (dictionary.site, Site(dictionary.site.layer + 1)))
    again = Scripted(dictionary.site, holds_back=False)
    request = greedy(prompts[0], "12 add 4", report=("12",), max_tokens=4)
    done = generate(model, dictionary, [greedy(prompts[1]), request], watchers=[here, above, again])[1]
    ids = torch.tensor([[*prompts[0], *done.ids]])
    shift = 4 * dictionary.W_dec[12]
    before = model.residual(ids, dictionary.site)[0]
    torch.testing.assert_close(torch.stack([here.x[1, place] for place in range(ids.shape[1])]), before)
    seen = torch.stack([above.x[1, place] for place in range(1, ids.shape[1])])
    assert not torch.allclose(seen, model.residual(ids, above.site)[0, 1:], atol=0.1)
    assert all(torch.equal(here.x[key], again.x[key]) for key in here.x)
    assert done.alerts == tuple(range(ids.shape[1])) * 3
    # The last token was read, and so it was edited and reported too.
    assert done.proof[0].positions_edited == ids.shape[1] - 1 and len(done.report[0].generated) == 4
    edited = dictionary.activations_of(before + shift, torch.tensor([12]))[1:, 0]
    assert (*done.report[0].prompt, *done.report[0].generated)[1:] == pytest.approx(edited.tolist(), abs=1e-3)


def test_the_first_of_several_stops_counts_and_its_report_ends_there(model, dictionary, prompts):
    tokens = len(prompts[2])
    request = greedy(prompts[2], report=("3",), score_prompt=True)
    plain = generate(model, dictionary, [request])[0]
    watchers = [Scripted(SITE, {0: tokens + 3}), Scripted(Site(3), {0: tokens + 2}, holds_back=False)]
    done = generate(model, dictionary, [request], watchers=watchers)[0]
    assert done.ids == plain.ids[:2]
    assert done.report[0].prompt == plain.report[0].prompt
    assert done.report[0].generated == pytest.approx(plain.report[0].generated[:2])
    done = generate(model, dictionary, [request], watchers=[Scripted(SITE, {0: 4})])[0]
    assert (done.ids, done.text, done.report, done.prompt_logprobs) == ((), "", (), ())


def test_half_a_character_and_half_a_stop_text_stay_inside(model, prompts):
    letters = model.encode_text("aé")
    assert len(letters) == 3, "the toy has no token for é"
    for stop, wanted in (((), "a"), (("ab",), "")):
        bound = bind_request(model, None, greedy(prompts[0], stop=stop))
        reply = Reply(0, model, bound, holds_back=True)
        told = [reply.push(token, True, None) for token in letters]
        assert [event and event.text for event in told] == [None, "" if stop else "a", ""]
        reply = Reply(0, model, bound, holds_back=True)
        for token in letters[: 2 if stop else 3]:
            reply.push(token, True, None)
        reply.bar(len(prompts[0]) + (1 if stop else 2))
        assert reply.over == "content_filter"
        last = reply.finish(reply.over, (), (), (), ())
        assert (last.text, last.done.text, last.done.ids) == ("", wanted, tuple(letters[: 1 if stop else 2]))


def fail_at(number):
    return lambda passes: 1 / (passes - number)


def test_a_failure_of_who_holds_back_fails_the_engine(model, prompts):
    watcher, heard = Scripted(SITE, then=fail_at(2)), []
    with pytest.raises(ZeroDivisionError):
        generate(model, None, [greedy(prompts[0])] * 2, on_token=lambda *news: heard.append(news), watchers=[watcher])
    assert [number for number, _ in heard] == [0, 1], "the first tokens had been read, the second ones had not"
    assert watcher.begun == watcher.ended == {0: 1, 1: 1}
    assert not any(block._forward_hooks for block in model.blocks)

    class Wrong(Scripted):
        def observe(self, numbers, positions, x):
            return {99: 0}

    with pytest.raises(BadRequest, match="99"):
        generate(model, None, [greedy(prompts[0])], watchers=[Wrong(SITE)])
    found = generate(model, None, [greedy(prompts[0])], watchers=[Wrong(SITE, holds_back=False)])
    assert found[0].ids == generate(model, None, [greedy(prompts[0])])[0].ids


def test_a_failure_of_who_holds_back_is_told_to_all_at_work(model, prompts):
    watcher = Scripted(SITE, then=lambda passes: 1 / (passes - 3) if not watcher.ended else None)
    batcher = Batcher(model, watchers=[watcher], most_rows=4)
    try:
        tickets = batcher.submit(None, [greedy(prompts[0], max_tokens=40)] * 3)
        for ticket in tickets:
            events = []
            with pytest.raises(Unavailable, match="failed"):
                for event in ticket:
                    events.append(event)
            assert len(events) <= 2 and not any(event.done for event in events)
        after = list(batcher.submit(None, [greedy(prompts[1])])[0])[-1].done
        assert after.ids == generate(model, None, [greedy(prompts[1])])[0].ids
    finally:
        batcher.close()
    assert watcher.begun == watcher.ended == dict.fromkeys(range(4), 1)


def test_a_failure_of_who_does_not_hold_back_is_written_down_once(model, prompts, caplog):
    class Broken(Scripted):
        def end(self, number):
            super().end(number)
            raise KeyError("a secret")

    request = greedy(prompts[0])
    weak, broken = Scripted(SITE, holds_back=False, then=lambda passes: passes > 1 or 1 / 0), Broken(SITE)
    broken.holds_back = False
    with caplog.at_level(logging.ERROR):
        done = generate(model, None, [request], watchers=[weak, Scripted(Site(0)), broken])[0]
    assert done.ids == generate(model, None, [request])[0].ids and done.finish_reason == "length"
    assert done.alerts == tuple(range(len(prompts[0]) + 8)), "of the one that never failed"
    assert [record.getMessage() for record in caplog.records] == [
        "a watcher failed with ZeroDivisionError",
        "a watcher failed with KeyError",
    ]
    assert weak.ended == broken.ended == {0: 1}


def test_who_leaves_is_told_only_what_was_read(model, prompts):
    watcher, heard, whole = Scripted(SITE), [], generate(model, None, [greedy(prompts[0])] * 2)
    found = generate(
        model,
        None,
        [greedy(prompts[0])] * 2,
        on_token=lambda number, token: heard.append((number, token)),
        should_stop=lambda number: number == 0 and sum(one == 0 for one, _ in heard) >= 2,
        watchers=[watcher],
    )
    assert found[0].finish_reason == "cancelled" and found[0].ids == whole[0].ids[: len(found[0].ids)]
    assert found[0].alerts == tuple(range(len(prompts[0]) + len(found[0].ids)))
    assert found[1].ids == whole[1].ids and watcher.ended == {0: 1, 1: 1}


def test_every_begin_has_its_end(model, prompts):
    watcher = Scripted(SITE)
    dropped = stream(model, None, [greedy(prompts[0])] * 2, watchers=[watcher])
    assert not watcher.begun
    next(dropped)
    dropped.close()
    assert watcher.begun == watcher.ended == {0: 1, 1: 1}

    watcher = Scripted(SITE, then=lambda _: time.sleep(0.002))
    batcher = Batcher(model, watchers=[watcher], most_rows=2)
    tickets = batcher.submit(None, [greedy(prompts[0], max_tokens=400)] * 4)
    assert tickets[0].get(5).token is not None
    tickets[1].cancel()
    assert list(tickets[1])[-1].done.finish_reason == "cancelled"
    assert tickets[2].get(5).token is not None
    batcher.close()
    assert watcher.begun == watcher.ended == dict.fromkeys(range(3), 1), "the last one had not begun"


def run(rows, model, arrivals):
    """All generations, where some requests come at some steps."""
    done, step = {}, 0
    while rows.count or step <= max(arrivals):
        rows.admit([(number, bind_request(model, None, request)) for number, request in arrivals.get(step, ())])
        done |= {event.request: event.done for event in rows.step() if event.done is not None}
        step += 1
    return done


def test_broken_numbers_of_what_is_only_read_stay_in_their_row(dictionary, prompts, monkeypatch):
    """The last token is fed to be read, and a prompt may be stopped half read; who sits there next is not to know."""
    monkeypatch.setattr("monoscope.steer.group._CHUNK_TOKENS", 8)
    half = load_model("toy", dtype="float16")
    long, short = greedy(prompts[0], max_tokens=30), greedy(prompts[1])
    for prompt, scope, stops, reason in (
        (prompts[1], "generated", {}, "length"),
        (prompts[2], "prompt", {1: 5}, "content_filter"),
    ):
        push = Push(dictionary.W_dec[3], 1e9, Site(0), float("inf"), scope)
        broken = greedy(prompt, push, max_tokens=1)
        rows = Rows(half, [Scripted(Site(0), stops)])
        done = run(rows, half, {0: [(0, long), (1, broken)], 14: [(2, short)]})
        assert done[1].finish_reason == reason
        for number, request in ((0, long), (2, short)):
            assert done[number].ids == generate(half, None, [request])[0].ids


def test_a_site_that_is_not_there_is_refused_before_anything_runs(model, prompts):
    nowhere = [Scripted(Site(9))]
    with pytest.raises(SiteNotFound):
        stream(model, None, [greedy(prompts[0])], watchers=nowhere)
    with pytest.raises(SiteNotFound):
        Batcher(model, watchers=nowhere)
