"""The stock `openai` client against a server on this machine, beside the engine and the model asked directly."""

import asyncio
import http.client
import json
import threading
import time

import httpx
import openai
import pytest
import torch

from monoscope.model.chat import render_chat, render_plain
from monoscope.serve.app import free_port, start_in_background
from monoscope.steer.engine import generate
from monoscope.steer.request import Request

TOKEN = "correct horse battery staple"
HELLO = [{"role": "user", "content": "Tell me a story about a fox."}]
GREEDY = {"temperature": 0, "max_tokens": 12}


def client_of(address, token="none"):
    return openai.OpenAI(base_url=f"{address.url}v1", api_key=token, max_retries=0)


@pytest.fixture(scope="module")
def server(run, books):
    address = start_in_background(run, free_port(wanted=18_700), library=books)
    yield address
    address.close()


@pytest.fixture(scope="module")
def ai(server):
    with client_of(server) as found:
        yield found


@pytest.fixture(scope="module")
def batcher(server, books):
    return books.batcher()


@pytest.fixture
def slow(toy):
    """Twenty milliseconds a step, so that somebody can leave in the middle."""
    handle = toy.module.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    yield
    handle.remove()


def say(ai, messages=HELLO, **settings):
    return ai.chat.completions.create(model=settings.pop("model", "toy"), messages=messages, **settings)


def spoken(chunks):
    """The text of a stream."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def alone(toy, books, edits=(), **settings):
    """What the engine says to a request by itself."""
    rendered = render_chat(toy, HELLO, reply_follows=True)
    asked = Request(
        rendered.ids, tuple(edits), repetition_penalty=1.0, top_p=1.0, template=rendered.template, **settings
    )
    return generate(toy, books.dictionary(), [asked])[0]


def test_models(ai):
    assert [model.id for model in ai.models.list()][0] == "toy"
    assert ai.models.retrieve("toy:first").owned_by == "monoscope"


def test_a_plain_answer_is_the_engines(ai, toy, books):
    answer = say(ai, **GREEDY)
    wanted = alone(toy, books, **GREEDY)
    (choice,) = answer.choices
    assert choice.message.content == wanted.text and choice.finish_reason == wanted.finish_reason
    assert answer.usage.prompt_tokens == len(render_chat(toy, HELLO, reply_follows=True).ids)
    assert answer.usage.completion_tokens == len(wanted.ids)
    assert answer.model_extra["monoscope"]["edits"] == [] == answer.model_extra["monoscope"]["alerts"]


def test_a_stream_adds_up_to_the_answer(ai):
    whole = say(ai, **GREEDY)
    chunks = list(say(ai, **GREEDY, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert spoken(chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert [chunk for chunk in chunks if "monoscope" in (chunk.model_extra or {})] == chunks[-1:]
    assert all(chunk.usage is None for chunk in chunks) and len({chunk.id for chunk in chunks}) == 1


def test_a_stream_counts_its_tokens_when_asked(ai):
    whole = say(ai, **GREEDY)
    *chunks, last = say(ai, **GREEDY, stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == whole.usage and last.model_extra["monoscope"]["alerts"] == []
    assert chunks[-1].choices[0].finish_reason and all(chunk.usage is None for chunk in chunks)


def test_steering_and_its_proof(ai, toy, books, feature):
    edit = f"{feature} add 0.6r"
    answer = say(ai, **GREEDY, extra_body={"edits": [edit]})
    wanted = alone(toy, books, [edit], **GREEDY)
    assert answer.choices[0].message.content == wanted.text != say(ai, **GREEDY).choices[0].message.content
    (proof,) = answer.model_extra["monoscope"]["edits"]
    assert proof["edit"] == edit and proof["positions_edited"] == wanted.proof[0].positions_edited > 0
    assert proof["realised_activation"] == pytest.approx(wanted.proof[0].realised_activation, rel=1e-4)
    streamed = list(say(ai, **GREEDY, extra_body={"edits": [edit]}, stream=True))
    assert spoken(streamed) == wanted.text
    assert streamed[-1].model_extra["monoscope"]["edits"][0]["edit"] == edit


def test_a_preset_is_its_edits(ai, books):
    preset = next(each for each in books.presets() if each.name == "first")
    by_name = say(ai, model="toy:first", **GREEDY)
    by_edits = say(ai, **GREEDY, extra_body={"edits": list(preset.edits)})
    assert by_name.model == "toy:first" and by_name.choices == by_edits.choices
    assert by_name.model_extra["monoscope"]["edits"][0]["edit"] == preset.edits[0]


def test_a_report_reads_as_the_model_alone_does(ai, toy, books, feature):
    answer = say(ai, **GREEDY, extra_body={"report": [feature, f"toy/{feature}"]})
    found, named = answer.model_extra["monoscope"]["report"]
    (tokens,) = answer.model_extra["monoscope"]["tokens"]
    ids = render_chat(toy, HELLO, reply_follows=True).ids
    dictionary = books.dictionary()
    x = toy.residual(torch.tensor([ids]), dictionary.site)[0].float()
    wanted = dictionary.activations_of(x, torch.tensor([feature]))[:, 0].tolist()
    assert found["prompt"] == pytest.approx(wanted, abs=1e-3) and found["feature"] == str(feature)
    assert named["feature"] == f"toy/{feature}" and named["generated"] == found["generated"]
    assert len(tokens["prompt"]) == len(found["prompt"]) == len(ids)
    assert len(tokens["generated"]) - len(found["generated"]) in (0, 1), "the last token may never have been read"


def test_many_choices_are_those_of_the_next_seeds(ai, feature):
    edits = {"edits": [f"{feature} add 0.3r"], "report": [feature]}
    settings = {"temperature": 1, "max_tokens": 8}
    three = say(ai, n=3, seed=40, extra_body=edits, **settings)
    ones = [say(ai, seed=40 + i, extra_body=edits, **settings) for i in range(3)]
    texts = [choice.message.content for choice in three.choices]
    assert texts == [one.choices[0].message.content for one in ones] and len(set(texts)) > 1
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    extra = three.model_extra["monoscope"]
    assert [proof["choice"] for proof in extra["edits"]] == [0, 1, 2] == [each["choice"] for each in extra["report"]]
    assert three.usage.completion_tokens == sum(one.usage.completion_tokens for one in ones)
    streams = {}
    for chunk in say(ai, n=3, seed=40, extra_body=edits, stream=True, **settings):
        for choice in chunk.choices:
            streams[choice.index] = streams.get(choice.index, "") + (choice.delta.content or "")
    assert [streams[i] for i in range(3)] == texts


def test_a_seed_repeats_and_without_one_answers_differ(ai):
    def said(**seed):
        return say(ai, temperature=1.5, max_tokens=12, **seed).choices[0].message.content

    assert said(seed=7) == said(seed=7)
    assert len({said() for _ in range(4)}) > 1


def test_a_stop_text_ends_the_answer_before_it(ai):
    whole = say(ai, **GREEDY).choices[0].message.content
    word = whole.split()[2]
    for stop in (word, ["never", word]):
        answer = say(ai, **GREEDY, stop=stop)
        assert (
            answer.choices[0].message.content == whole[: whole.index(word)]
            and answer.choices[0].finish_reason == "stop"
        )
        streamed = say(ai, **GREEDY, stop=stop, stream=True)
        assert spoken(streamed) == answer.choices[0].message.content


def logprobs_alone(toy, ids):
    """The model's log-probabilities of each token after the first, and the most probable token there."""
    scores = toy.logits(torch.tensor([ids]))[0].float().log_softmax(-1)
    return [float(scores[i, ids[i + 1]]) for i in range(len(ids) - 1)], [int(row.argmax()) for row in scores[:-1]]


def test_logprobs_of_an_answer(ai, toy, books):
    answer = say(ai, **GREEDY, logprobs=True, top_logprobs=3)
    prompt, wanted = render_chat(toy, HELLO, reply_follows=True).ids, alone(toy, books, **GREEDY)
    told = answer.choices[0].logprobs.content
    right, _ = logprobs_alone(toy, [*prompt, *wanted.ids])
    assert [token.logprob for token in told] == pytest.approx(right[len(prompt) - 1 :], abs=1e-4)
    assert b"".join(bytes(token.bytes) for token in told).decode().startswith(wanted.text)
    # The toy likes some words exactly as much as others, so the likeliest may have another name.
    assert all(len(token.top_logprobs) == 3 and token.top_logprobs[0].logprob == token.logprob for token in told)
    streamed = list(say(ai, **GREEDY, logprobs=True, top_logprobs=3, stream=True))
    pieces = [token for chunk in streamed if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [token.logprob for token in pieces] == pytest.approx([token.logprob for token in told], abs=1e-4)
    assert say(ai, **GREEDY, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


PROMPT = "The fox sees a bear near the river."


@pytest.mark.parametrize("most", [0, 1, 4])
@pytest.mark.parametrize("as_ids", [False, True])
def test_a_prompt_is_scored(ai, toy, most, as_ids):
    plain = list(render_plain(toy, PROMPT).ids)
    asked = {"model": "toy", "echo": True, "logprobs": 1, "max_tokens": most, "temperature": 0}
    answer = ai.completions.create(prompt=plain[1:] if as_ids else PROMPT, **asked)
    (choice,) = answer.choices
    right, best = logprobs_alone(toy, plain[1:] if as_ids else plain)
    shown = len(plain) - 1
    told = choice.logprobs.token_logprobs[:shown]
    assert told[0] is None if as_ids else told[0] == pytest.approx(right[0], abs=1e-4)
    assert told[1:] == pytest.approx(right[-shown + 1 :], abs=1e-4)
    assert "".join(choice.logprobs.tokens[:shown]) == PROMPT == choice.text[: len(PROMPT)]
    for score, top, token in zip(told[1:], choice.logprobs.top_logprobs[1:shown], best[-shown + 1 :], strict=True):
        assert (max(top.values()) == score) == (toy.decode([token]) in top and top[toy.decode([token])] == score)
    extra = len(choice.logprobs.tokens) - shown
    assert extra == most if most < 2 else 0 < extra <= most
    assert answer.usage.completion_tokens == extra


def test_an_end_token_is_told_to_whoever_scores(ai, toy):
    """A client that asks for one token more drops the last entry, so there must be one."""
    ended = [*render_plain(toy, PROMPT).ids, *toy.encode_text("<|end|>\n<|end|>")]
    for ids in (ended, ended[:-1]):
        choice = ai.completions.create(model="toy", prompt=ids, echo=True, logprobs=1, max_tokens=1).choices[0]
        assert len(choice.logprobs.token_logprobs) == len(ids) + 1


def test_several_prompts_are_answered_in_order(ai, toy):
    texts = ["The fox", "A bear"]
    ids = [list(render_plain(toy, text).ids) for text in texts]
    settings = {"model": "toy", "temperature": 1, "seed": 3, "max_tokens": 6}
    both = ai.completions.create(prompt=texts, n=2, **settings)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    alone = [ai.completions.create(prompt=text, n=2, **settings) for text in texts]
    assert [choice.text for choice in both.choices] == [choice.text for one in alone for choice in one.choices]
    assert both.usage.prompt_tokens == sum(map(len, ids))
    by_ids = ai.completions.create(prompt=ids, n=2, **settings)
    assert [choice.text for choice in by_ids.choices] == [choice.text for choice in both.choices]
    echoed = "".join(
        chunk.choices[0].text for chunk in ai.completions.create(prompt="The fox", echo=True, stream=True, **settings)
    )
    assert echoed == "The fox" + both.choices[0].text


def test_logprobs_of_a_streamed_text_add_up(ai):
    settings = {"model": "toy", "prompt": PROMPT, "temperature": 0, "max_tokens": 6, "logprobs": 2}
    whole = ai.completions.create(**settings).choices[0].logprobs
    parts = [chunk.choices[0].logprobs for chunk in ai.completions.create(stream=True, **settings)]
    for name in ("tokens", "text_offset"):
        assert [value for part in parts if part for value in getattr(part, name)] == getattr(whole, name)


def test_refusals_are_the_clients_own_errors(ai):
    with pytest.raises(openai.NotFoundError) as caught:
        say(ai, model="gpt-4o", **GREEDY)
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    with pytest.raises(openai.BadRequestError) as caught:
        say(ai, [{"role": "user", "content": "fox " * 5000}], stream=True)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="nonsense"):
        say(ai, extra_body={"edits": ["nonsense"]})


def test_the_token(run, books):
    address = start_in_background(run, free_port(wanted=18_750), library=books, token=TOKEN)
    try:
        with client_of(address, TOKEN) as known:
            assert say(known, **GREEDY).choices[0].message.content
        with client_of(address, "something else") as unknown:
            for stream in (False, True):
                with pytest.raises(openai.AuthenticationError):
                    say(unknown, **GREEDY, stream=stream)
    finally:
        address.close()


def broken(_module, _inputs):
    raise RuntimeError("a fault put in by a test, with the prompt in it")


def not_a_number(_module, _inputs, output):
    output.logits.fill_(float("nan"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_fails_says_so_and_goes_on(ai, toy, stream):
    handle = toy.module.register_forward_pre_hook(broken)
    try:
        with pytest.raises(openai.APIError) as caught:
            list(say(ai, **GREEDY, stream=stream))
    finally:
        handle.remove()
    assert "model failed" in str(caught.value) and "prompt" not in str(caught.value)
    assert stream or isinstance(caught.value, openai.InternalServerError) and caught.value.status_code == 503
    assert say(ai, **GREEDY).choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_numbers_that_are_none_are_an_error_of_the_request(ai, toy, stream):
    handle = toy.module.register_forward_hook(not_a_number)
    try:
        with pytest.raises(openai.APIError, match="smaller values") as caught:
            list(say(ai, **GREEDY, n=2, stream=stream))
        assert stream or isinstance(caught.value, openai.BadRequestError)
        with pytest.raises(openai.BadRequestError, match="smaller values"):
            ai.completions.create(model="toy", prompt=PROMPT, echo=True, logprobs=1, max_tokens=0)
    finally:
        handle.remove()
    assert say(ai, **GREEDY).choices[0].message.content


def idle(batcher, seconds=1.0):
    """Whether nobody is at work or waiting any more, before the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        counts = batcher.counts()
        if counts["active"] == counts["waiting"] == 0:
            return True
        time.sleep(0.01)
    return False


def begun(batcher, rows, seconds=5.0):
    until = time.monotonic() + seconds
    while batcher.counts()["active"] < rows and time.monotonic() < until:
        time.sleep(0.01)
    return batcher.counts()["active"] >= rows


LONG = {"max_tokens": 400, "temperature": 1, "seed": 1}


@pytest.mark.parametrize("n", [1, 3])
def test_who_leaves_a_stream_frees_the_places(ai, batcher, slow, n):
    stream = say(ai, stream=True, n=n, **LONG)
    next(iter(stream))
    assert begun(batcher, n)
    stream.close()
    assert idle(batcher)
    assert say(ai, **GREEDY).choices[0].message.content


@pytest.mark.parametrize("n", [1, 3])
def test_who_leaves_while_waiting_for_the_whole_frees_the_places(server, batcher, slow, n):
    waiting = http.client.HTTPConnection(server.host, server.port, timeout=5)
    body = json.dumps({"model": "toy", "messages": HELLO, "n": n, **LONG})
    waiting.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    assert begun(batcher, n)
    waiting.close()
    assert idle(batcher)


def test_who_leaves_the_queue_is_never_served(server, books, batcher, slow):
    """Sixty-four replies are more than run at once: those who wait leave as well."""
    waiting = http.client.HTTPConnection(server.host, server.port, timeout=5)
    body = json.dumps({"model": "toy", "prompt": ["The fox"] * 64, **LONG})
    waiting.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    assert begun(batcher, 1)
    assert batcher.counts()["waiting"] > 0
    waiting.close()
    assert idle(batcher)


def test_sixty_streams_need_no_threads(server, batcher, feature):
    """More streams than there are threads for requests; each hears its own edit's proof."""
    before = threading.active_count()
    edits = [f"{feature} add {0.1 + i / 1000:g}r" for i in range(60)]

    async def one(client, edit):
        body = {"model": "toy", "messages": HELLO, "edits": [edit], "stream": True, "max_tokens": 2}
        answer = await client.post(f"{server.url}v1/chat/completions", json=body)
        return json.loads(answer.text.strip().split("\n\n")[-2].removeprefix("data: "))["monoscope"]["edits"][0]["edit"]

    async def all_of_them():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=30, limits=limits) as client:
            return await asyncio.gather(*(one(client, edit) for edit in edits))

    assert asyncio.run(all_of_them()) == edits
    assert threading.active_count() <= before + 45, "those of the pool, and no more"
    assert idle(batcher)
