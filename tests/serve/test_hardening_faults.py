"""A model that fails: that request is told, those after it are answered, and nothing of it is left behind."""

import contextlib
import json
import threading
import time

import pytest

from monoscope.steer.request import Request

ASK = {"model": "toy", "prompt": "The fox sees", "max_tokens": 8, "temperature": 0, "seed": 1}


@contextlib.contextmanager
def failing(module, error, after=0):
    """A model that fails from its so-manieth forward pass on."""
    passes = 0

    def fail(*_):
        nonlocal passes
        passes += 1
        if passes > after:
            raise error

    handle = module.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def hooks(model):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.module.modules())


def text(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


@pytest.mark.parametrize(
    ("error", "after", "inside"),
    [(RuntimeError("out of memory"), 0, False), (MemoryError(), 1, False), (ValueError("x"), 2, True),
     (KeyError(3), 5, True)],
)  # fmt: skip
def test_a_failing_step_ends_that_request_and_no_other(lone, toy, feature, error, after, inside):
    """`inside`: where the edits are made, after some of them were."""
    steered = {**ASK, "edits": [f"{feature} add 0.5r"]}
    plain_text = text(lone.post("/v1/completions", json=ASK))
    before = hooks(toy)
    with failing(toy.blocks[-1] if inside else toy.module, error, after):
        answer = lone.post("/v1/completions", json=steered)
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["type"] == "server_error" and "memory" not in answer.text
    assert hooks(toy) == before
    assert text(lone.post("/v1/completions", json=ASK)) == plain_text
    steered_text = text(lone.post("/v1/completions", json=steered))
    assert steered_text != plain_text
    assert text(lone.post("/v1/completions", json=ASK)) == plain_text
    assert lone.get("/healthz").status_code == 200


def test_who_leaves_in_the_middle_of_a_step_leaves_nothing_behind(lone, toy, feature):
    plain = text(lone.post("/v1/completions", json=ASK))
    batcher, before, passes = lone.books.batcher(), hooks(toy), 0
    edits = (f"{feature} add 0.5r",)
    (ticket,) = batcher.submit(lone.books.dictionary(), [Request((1, 2, 3), edits, max_tokens=50)])

    def leave(*_):
        nonlocal passes
        passes += 1
        if passes == 4:
            ticket.cancel()

    handle = toy.blocks[-1].register_forward_hook(leave)
    try:
        ends = [event.done.finish_reason for event in ticket if event.done is not None]
    finally:
        handle.remove()
    assert ends == ["cancelled"] and 4 <= passes <= 6 and hooks(toy) == before
    assert text(lone.post("/v1/completions", json=ASK)) == plain


def test_a_stream_that_fails_says_so_and_ends(lone, toy):
    with failing(toy.module, RuntimeError("x"), after=3):
        answer = lone.post("/v1/completions", json={**ASK, "stream": True, "max_tokens": 30})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]" and "failed" in json.loads(lines[-2])["error"]["message"]
    with failing(toy.module, RuntimeError("x"), after=3):
        answer = lone.post("/api/v1/steer", json={"prompt": "The fox", "max_tokens": 30})
    assert "event: error" in answer.text and "event: done" not in answer.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_thread_of_the_model_dies_health_says_so_until_another_runs(lone, toy):
    good = text(lone.post("/v1/completions", json=ASK))
    batcher = lone.books.running_batcher
    with failing(toy.module, SystemExit()):
        answer = lone.post("/v1/completions", json=ASK)
        assert answer.status_code == 503
        batcher._thread.join(5)
    assert batcher.failed
    health = lone.get("/healthz")
    assert (health.status_code, health.text) == (503, "the model has stopped")
    assert lone.get("/").status_code == 200
    assert text(lone.post("/v1/completions", json=ASK)) == good
    assert lone.get("/healthz").status_code == 200 and lone.books.running_batcher is not batcher


def test_steered_requests_leave_plain_ones_as_they_were(lone, toy, feature):
    """Requests with and without edits at once, some of them failing: plain answers are those of a quiet lone."""
    plain = text(lone.post("/v1/completions", json=ASK))
    found, before = [], hooks(toy)

    def ask(number):
        edits = [f"{feature} add {0.2 + number / 10}r"] if number % 2 else []
        answer = lone.post("/v1/completions", json={**ASK, "edits": edits, "max_tokens": 8})
        if not edits:
            found.append(answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text(answer) for answer in found] == [plain] * 8 and hooks(toy) == before


def test_health_does_not_wait_for_the_model(lone, toy):
    """While the model computes and all threads of the server wait for it."""
    slow = toy.module.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    asking = [
        threading.Thread(target=lone.post, args=("/api/v1/contrast",), kwargs={"json": body})
        for body in [{"positive": ["a fox", "a bear"], "negative": ["a ship", "a sail"]}] * 8
    ]
    try:
        for thread in asking:
            thread.start()
        waits = []
        while any(thread.is_alive() for thread in asking):
            began = time.monotonic()
            assert lone.get("/healthz").status_code == 200 and lone.get("/metrics").status_code == 200
            waits.append(time.monotonic() - began)
    finally:
        for thread in asking:
            thread.join()
        slow.remove()
    assert len(waits) > 3 and sorted(waits)[len(waits) // 2] < 0.2
