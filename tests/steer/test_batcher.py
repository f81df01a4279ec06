"""Requests of many callers on one model: they join and leave, and none sees another's edits."""

import threading
import time

import pytest
import torch

from monoscope.core.errors import BadEdit, BadRequest, Busy, FeatureNotFound, Unavailable
from monoscope.steer.batcher import Batcher
from monoscope.steer.engine import generate
from monoscope.steer.prompt import render_prompt, request_for
from monoscope.steer.request import Request, bind_request
from monoscope.steer.rows import Rows

NEVER = frozenset()


def greedy(prompt, *edits, **settings):
    return Request(prompt, edits, **{"temperature": 0.0, "max_tokens": 8, "stop_ids": NEVER, **settings})


@pytest.fixture
def batcher(model):
    made = Batcher(model, most_rows=4, most_waiting=12)
    yield made
    made.close()


def last(ticket):
    return list(ticket)[-1].done


def test_rows_that_join_and_leave_equal_their_solo_runs(model, dictionary, prompts):
    """Prompts of all lengths arrive while others run; places change hands, and caches grow to the left and right."""
    long = (*prompts[2], *prompts[2][1:] * 12)
    texts = [prompts[0], prompts[1], long, prompts[2], prompts[1]]
    requests = [
        greedy(
            texts[number % 5], *([f"{number % 24} add {number % 7}"] if number % 3 else []), max_tokens=3 + number % 9
        )
        for number in range(20)
    ]
    rows, done, waiting = Rows(model), {}, list(enumerate(requests))
    while waiting or rows.count:
        if waiting and not rows.reading and rows.count < 5:
            number, request = waiting.pop(0)
            rows.admit([(number, bind_request(model, dictionary, request))])
        done |= {event.request: event.done for event in rows.step() if event.done is not None}
    for number, request in enumerate(requests):
        alone = generate(model, dictionary, [request])[0]
        assert done[number].ids == alone.ids
        for mine, its in zip(done[number].proof, alone.proof, strict=True):
            assert mine.positions_edited == its.positions_edited > 0
            assert mine.realised_activation == pytest.approx(its.realised_activation, abs=1e-3)


def test_callers_get_what_they_asked_for(batcher, model, dictionary, prompts):
    requests = [greedy(prompts[number % 3], f"{number} add 4") for number in range(8)]
    alone = [generate(model, dictionary, [request])[0] for request in requests]
    found = {}

    def call(number):
        found[number] = last(batcher.submit(dictionary, [requests[number]])[0])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number].ids for number in range(8)] == [each.ids for each in alone]
    counts = batcher.counts()
    assert counts["active"] == counts["waiting"] == 0
    assert counts["finished_length_total"] == 8 and counts["tokens_total"] == 64


def test_who_leaves_frees_the_place(batcher, model, prompts):
    endless = [greedy(prompts[0], max_tokens=400) for _ in range(4)]
    tickets = batcher.submit(None, endless)
    waiting = batcher.submit(None, [greedy(prompts[1])])[0]
    assert tickets[0].get(5).token is not None
    tickets[1].cancel()
    assert last(tickets[1]).finish_reason == "cancelled"
    assert last(waiting).ids == generate(model, None, [greedy(prompts[1])])[0].ids
    queued = batcher.submit(None, [greedy(prompts[0], max_tokens=400)] * 2)
    for ticket in (*queued, *tickets):
        ticket.cancel()
        ticket.cancel()
    deadline = time.monotonic() + 5
    while batcher.counts()["active"] + batcher.counts()["waiting"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert batcher.counts()["active"] == batcher.counts()["waiting"] == 0


def test_a_full_queue_is_told_at_once_and_refusals_queue_nothing(batcher, dictionary, prompts):
    kept = batcher.submit(None, [greedy(prompts[0], max_tokens=300)] * 4)
    assert kept[0].get(5) is not None
    kept += batcher.submit(None, [greedy(prompts[0])] * 12)
    with pytest.raises(Busy, match="full"):
        batcher.submit(None, [greedy(prompts[0])])
    for request, kind in (
        (greedy(prompts[0], "99 ablate"), FeatureNotFound),
        (greedy(prompts[0], "1 oblate"), BadEdit),
        (greedy(prompts[0], stop=("",)), BadRequest),
        (greedy(prompts[0], top_logprobs=51), BadRequest),
        (greedy(prompts[0], report=("1",) * 17), BadRequest),
        (greedy(prompts[0], report=("no/such",)), BadEdit),
        (greedy(prompts[0], template=(True,)), BadRequest),
    ):
        with pytest.raises(kind):
            batcher.submit(dictionary, [greedy(prompts[0]), request])
    assert batcher.counts()["refused_total"] == 1
    for ticket in kept:
        ticket.cancel()


def test_a_step_that_fails_ends_those_at_work_and_nobody_else(batcher, model, dictionary, prompts):
    block = model.blocks[1]
    handle = block.register_forward_hook(lambda *_: 1 / 0)
    try:
        ticket = batcher.submit(dictionary, [greedy(prompts[0], "3 add 2")])[0]
        with pytest.raises(Unavailable, match="failed"):
            list(ticket)
    finally:
        handle.remove()
    assert not any(part._forward_hooks for part in model.blocks)
    request = greedy(prompts[0], "3 add 2")
    assert last(batcher.submit(dictionary, [request])[0]).ids == generate(model, dictionary, [request])[0].ids
    assert not batcher.failed and batcher.counts()["failures_total"] == 1


def test_a_closed_batcher_answers_nobody(model, prompts):
    batcher = Batcher(model)
    ticket = batcher.submit(None, [greedy(prompts[0], max_tokens=400)])[0]
    batcher.close()
    with pytest.raises(Unavailable):
        list(ticket)
    with pytest.raises(Unavailable):
        batcher.submit(None, [greedy(prompts[0])])


def test_long_prompts_are_read_in_parts_while_others_go_on(model, monkeypatch, prompts):
    monkeypatch.setattr("monoscope.steer.group._CHUNK_TOKENS", 7)
    long = (*prompts[2], *prompts[2][1:] * 5)
    rows = Rows(model)
    rows.admit([(0, bind_request(model, None, greedy(prompts[0], max_tokens=30)))])
    while rows.reading:
        rows.step()
    rows.admit([(1, bind_request(model, None, greedy(long, max_tokens=6)))])
    news = []
    while rows.reading:
        news += [event.request for event in rows.step()]
    assert len(news) == -(-len(long) // 7) + 1 and set(news[:-1]) == {0}
    done = {}
    while rows.count:
        done |= {event.request: event.done for event in rows.step() if event.done is not None}
    assert done[1].ids == generate(model, None, [greedy(long, max_tokens=6)])[0].ids


def test_stop_texts_end_the_reply_and_are_held_back(model, prompts):
    whole = generate(model, None, [greedy(prompts[2], max_tokens=24)])[0]
    stop = whole.text[6:11]
    request = greedy(prompts[2], max_tokens=24, stop=("never that", stop))
    rows, events = Rows(model), []
    rows.admit([(0, bind_request(model, None, request))])
    while rows.count:
        events += rows.step()
    done = events[-1].done
    assert done.finish_reason == "stop"
    assert done.text == whole.text[: whole.text.find(stop)] == "".join(event.text for event in events)
    assert len(done.ids) < len(whole.ids)
    unmet = generate(model, None, [greedy(prompts[2], max_tokens=24, stop=(whole.text[-3:] + "!",))])[0]
    assert unmet.text == whole.text and unmet.finish_reason == "length"


def test_log_probabilities_are_those_of_the_edited_model(model, dictionary, prompts):
    request = greedy(prompts[0], "12 add 3", top_logprobs=3, score_prompt=True, repetition_penalty=1.3)
    other = greedy(prompts[2], score_prompt=True, max_tokens=0)
    found, scored = generate(model, dictionary, [request, other])
    ids = torch.tensor([[*prompts[0], *found.ids]])
    limit = dictionary.stats.sink_limit

    def change(x):
        told = x + 3 * dictionary.W_dec[12] * (x.norm(dim=-1, keepdim=True) <= limit)
        return torch.cat([x[:, :1], told[:, 1:]], dim=1)

    wanted = model.logits(ids, site=dictionary.site, change=change)[0].log_softmax(-1)
    for place, each in enumerate((*found.prompt_logprobs, *found.logprobs)):
        assert each.token == int(ids[0, place + 1])
        assert each.logprob == pytest.approx(float(wanted[place, each.token]), abs=1e-4)
        best = wanted[place].topk(3)
        assert [value for _, value in each.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert len(found.prompt_logprobs) == len(prompts[0]) - 1 and len(found.logprobs) == 8
    plain = model.logits(torch.tensor([prompts[2]]))[0].log_softmax(-1)
    assert [each.logprob for each in scored.prompt_logprobs] == pytest.approx(
        [float(plain[place, token]) for place, token in enumerate(prompts[2][1:])], abs=1e-4
    )
    assert (scored.ids, scored.text, scored.finish_reason) == ((), "", "length")


def test_a_report_tells_the_activations_after_all_edits(model, dictionary, prompts):
    found = generate(
        model, dictionary, [greedy(prompts[0], "12 clamp 5"), greedy(prompts[2], report=("planted/3", "12"))]
    )
    three, twelve = found[1].report
    ids = torch.tensor([[*prompts[2], *found[1].ids[:-1]]])
    wanted = dictionary.activations_of(model.residual(ids, dictionary.site)[0], torch.tensor([3, 12]))
    assert (*three.prompt, *three.generated) == pytest.approx(wanted[:, 0].tolist(), abs=1e-4)
    assert (*twelve.prompt, *twelve.generated) == pytest.approx(wanted[:, 1].tolist(), abs=1e-4)
    assert len(three.prompt) == len(prompts[2]) and len(three.generated) == 7
    clamped = generate(model, dictionary, [greedy(prompts[0], "12 clamp 5", report=("12",))])[0].report[0]
    assert clamped.generated == pytest.approx([5] * 7, abs=1e-3)
    assert found[0].report == ()


def test_the_chat_template_is_edited_only_by_scopes_that_name_it(model, dictionary):
    said = [{"role": "user", "content": "Tell me about the bridge"}]
    rendered = render_prompt(model, said)
    template = sum(rendered.template[1:])
    free = len(rendered.ids) - 1 - template
    assert template and free
    counts = {"all": free + 5, "prompt": free, "generated": 5, "template": template, "last": 1}
    for scope, count in {**counts, "everywhere": free + template + 5}.items():
        request = request_for(model, said, [f"3 add 0.01 @{scope}"], temperature=0.0, max_tokens=6, stop_ids=NEVER)
        assert generate(model, dictionary, [request])[0].proof[0].positions_edited == count
    assert rendered.template[-1]


def test_a_clamp_at_the_present_value_changes_nothing(model, dictionary, prompts):
    plain = generate(model, dictionary, [greedy(prompts[0], max_tokens=0, score_prompt=True, report=("3",))])[0]
    for place, value in enumerate(plain.report[0].prompt):
        if place and value > 0:
            edit = f"3 clamp {value!r} @{place}:{place + 1}"
            same = generate(model, dictionary, [greedy(prompts[0], edit, max_tokens=0, score_prompt=True)])[0]
            assert same.proof[0].mean_norm_change < 1e-5
            for one, other in zip(plain.prompt_logprobs, same.prompt_logprobs, strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=1e-5)
