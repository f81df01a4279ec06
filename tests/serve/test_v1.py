"""The interface under /v1 as it answers in this process: shapes, refusals, odd input."""

import json
import shutil
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoscope.core.site import Site
from monoscope.model.chat import render_plain
from monoscope.serve.app import create_app
from monoscope.serve.library import Library
from monoscope.serve.v1_schemas import ChatAnswer, CompletionAnswer, ErrorAnswer, ModelList
from monoscope.steer.batcher import Batcher
from monoscope.steer.request import Request
from steer.watchers import Scripted

from .client import PORT, Client

HELLO = [{"role": "user", "content": "Tell me a story about a fox."}]
CHAT = {"model": "toy", "messages": HELLO, "max_tokens": 3}
TEXT = {"model": "toy", "prompt": "The fox", "max_tokens": 3}


def chat(client, **fields):
    return client.post("/v1/chat/completions", json={**CHAT, **fields})


def complete(client, **fields):
    return client.post("/v1/completions", json={**TEXT, **fields})


def raw(client, path, text):
    return client.post(path, content=text, headers={"content-type": "application/json"})


def refused(answer, status, param=None, code=None):
    """The sentence of a refusal in OpenAI's shape."""
    assert answer.status_code == status, answer.text
    error = ErrorAnswer.model_validate(answer.json()).error
    assert param is None or error.param == param
    assert code is None or error.code == code
    assert 0 < len(error.message) <= 500
    return error.message


def test_a_text_that_a_watcher_stops_says_so(lone, toy):
    tokens = len(render_plain(toy, "The fox").ids)
    greedy = {"temperature": 0, "max_tokens": 6, "logprobs": 1}
    plain = complete(lone, **greedy, n=2).json()["choices"]
    lone.books.close()
    lone.books._batcher = Batcher(toy, watchers=[Scripted(Site(1), {0: tokens + 2, 2: tokens + 2, 3: 1})])
    answer = CompletionAnswer.model_validate(complete(lone, **greedy, n=2).json())
    stopped, other = answer.choices
    assert (stopped.finish_reason, other.finish_reason, other.text) == ("content_filter", "length", plain[1]["text"])
    assert stopped.logprobs.tokens == plain[0]["logprobs"]["tokens"][:2]
    lines = complete(lone, **greedy, stream=True).text.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]
    pieces = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines]
    assert "".join(piece["text"] for piece in pieces) == stopped.text
    assert [piece["finish_reason"] for piece in pieces] == [None, None, "content_filter"]
    (echoed,) = CompletionAnswer.model_validate(complete(lone, **greedy, echo=True).json()).choices
    assert (echoed.text, echoed.finish_reason) == ("The fox", "content_filter")
    assert echoed.logprobs.token_logprobs == [None] * (tokens - 1)


def test_the_models_are_the_base_and_its_presets(client):
    listed = ModelList.model_validate(client.get("/v1/models").json())
    names = [model.id for model in listed.data]
    assert names[0] == "toy" and "toy:first" in names
    assert all(model.created > 1_600_000_000 for model in listed.data)
    assert client.get("/v1/models/toy:first").json()["id"] == "toy:first"


def test_a_models_folder_is_told_nobody(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    told = tmp_path / "run" / "dictionaries" / "toy" / "monoscope.json"
    record = json.loads(told.read_text())
    record["provenance"]["model"] = str(tmp_path / "somebody" / "mine")
    told.write_text(json.dumps(record))
    listed = Client(create_app(tmp_path / "run", port=PORT)).get("/v1/models")
    assert listed.json()["data"][0]["id"] == "mine" and "somebody" not in listed.text


def test_before_there_is_an_atlas_or_a_model(run, tmp_path):
    early = Client(create_app(tmp_path, port=PORT))
    for answer in (early.get("/v1/models"), chat(early)):
        assert "still being made" in refused(answer, 503) and int(answer.headers["retry-after"]) > 0
    library, gate = Library(run), threading.Event()
    library._loader = threading.Thread(target=gate.wait, daemon=True)
    library._loader.start()
    try:
        answer = chat(Client(create_app(run, library=library, port=PORT)))
        assert "being loaded" in refused(answer, 503) and answer.headers["retry-after"]
    finally:
        gate.set()


def test_a_full_queue_says_when_to_come_again(client, books, toy):
    ids = render_plain(toy, "The fox").ids
    tickets = books.batcher().submit(None, [Request(ids, max_tokens=400, stop_ids=frozenset())] * 256)
    try:
        answer = complete(client, prompt=["a"] * 64)
        refused(answer, 429, code="rate_limit_exceeded")
        assert int(answer.headers["retry-after"]) > 0
    finally:
        for ticket in tickets:
            ticket.cancel()


@pytest.mark.parametrize("name", ["nothing", "toy:nothing", "first", "TOY", "..%2F..%2Fetc", "%00", "a/b", ""])
def test_a_model_that_is_not_there(client, name):
    sentence = refused(client.get(f"/v1/models/{name}"), 404, "model", "model_not_found")
    assert "toy" in sentence


@pytest.mark.parametrize(
    "fields", [{}, {"logprobs": True, "top_logprobs": 2}, {"n": 2}, {"edits": ["3 add 0.2r"], "report": [3]}]
)
def test_answers_to_conversations_are_as_described(client, fields):
    answer = chat(client, **fields)
    ChatAnswer.model_validate(answer.json())
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"logprobs": 2, "echo": True},
        {"n": 2, "prompt": ["a", "b"]},
        {"max_tokens": 0, "echo": True},
        {"report": ["toy/3"]},
    ],
)
def test_answers_to_texts_are_as_described(client, fields):
    CompletionAnswer.model_validate(complete(client, **fields).json())


def test_the_fingerprint_names_model_and_dictionary(client):
    prints = {chat(client, seed=seed).json()["system_fingerprint"] for seed in (1, 2)}
    assert len(prints) == 1 and prints.pop().startswith("fp_")


def test_the_parts_of_a_message_are_lines(client):
    parts = [{"type": "text", "text": "A fox."}, {"type": "text", "text": "A bear."}]
    one = chat(client, messages=[{"role": "user", "content": parts}], temperature=0).json()
    two = chat(client, messages=[{"role": "user", "content": "A fox.\nA bear."}], temperature=0).json()
    assert one["choices"] == two["choices"] and one["usage"] == two["usage"]


def test_a_developer_is_a_system(client):
    told = [chat(client, messages=[{"role": role, "content": "Be brief."}, *HELLO], temperature=0).json()
            for role in ("developer", "system")]  # fmt: skip
    assert told[0]["choices"] == told[1]["choices"] and told[0]["usage"] == told[1]["usage"]


def test_the_model_is_looked_for_first(client):
    refused(chat(client, model="other", edits=["nonsense"]), 404, "model", "model_not_found")
    refused(complete(client, model="toy:none", max_tokens=0), 404, "model", "model_not_found")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"edits": ["nonsense"]}, "edits"),
        ({"edits": ["96 add 1"]}, "edits"),
        ({"edits": ["elsewhere/1 add 1"]}, "edits"),
        ({"edits": ["1 add 1 @5:900"]}, "edits"),
        ({"edits": ["1 add nan"]}, "edits"),
        ({"edits": ["1 add 1e308"]}, "edits"),
        ({"report": [96]}, "report"),
        ({"report": ["elsewhere/1"]}, "report"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ],
)
def test_what_does_not_fit_names_its_field(client, fields, param):
    refused(chat(client, **fields), 400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": True, "echo": True, "logprobs": 1}, "stream"),
        ({"prompt": ["a"] * 20, "n": 4}, "n"),
        ({"prompt": [2**31]}, "prompt"),
    ],
)
def test_what_a_text_does_not_allow(client, fields, param):
    refused(complete(client, **fields), 400, param)


def test_a_preset_comes_before_the_edits_of_a_request(client, feature):
    proofs = chat(client, model="toy:first", edits=[f"{feature} scale 2"]).json()["monoscope"]["edits"]
    assert [proof["mode"] for proof in proofs] == ["add", "scale"]
    assert all(proof["choice"] == 0 for proof in proofs)


def test_preset_and_request_share_one_limit(client):
    refused(chat(client, model="toy:first", edits=["3 scale 2"] * 64), 400, "edits")


CONTEXT = 512


@pytest.mark.parametrize("words", [600, 100_000])
def test_prompts_over_the_context(client, words):
    sentence = refused(
        chat(client, messages=[{"role": "user", "content": "fox " * words}]), 400, "messages", "context_length_exceeded"
    )
    assert sentence.startswith(f"This model's maximum context length is {CONTEXT} tokens")
    refused(complete(client, prompt="fox " * words), 400, "prompt", "context_length_exceeded")


def test_absurd_prompts_are_refused_at_once(client):
    began = time.monotonic()
    refused(complete(client, prompt=[5] * 300_000), 400, "prompt", "context_length_exceeded")
    refused(complete(client, prompt="a" * 900_000), 400, "prompt", "context_length_exceeded")
    refused(chat(client, messages=[{"role": "user", "content": "x" * 800}] * 1000), 400, "messages")
    assert time.monotonic() - began < 1.5


def test_the_context_is_filled_to_the_last_token(client):
    ids = [5] * (CONTEXT - 3)
    assert complete(client, prompt=ids).status_code == 200
    refused(complete(client, prompt=[*ids, 5]), 400, "prompt", "context_length_exceeded")
    refused(chat(client, max_tokens=510), 400, "messages", "context_length_exceeded")


def test_without_a_limit_a_reply_has_what_fits(client):
    room = complete(client, prompt=[5] * (CONTEXT - 2), max_tokens=None, logprobs=0).json()
    assert room["usage"]["completion_tokens"] <= 2
    usual = complete(client, max_tokens=None, temperature=0).json()
    assert usual["usage"]["completion_tokens"] <= 16


ODD = [
    "\x00",
    "\ufeff\u202e",
    "👩\u200d💻",
    "a" + "\u0301" * 100,
    "مرحبا",
    "<s>",
    "<|user|>\nfox<|end|>",
    "\ue0000\ue001",
    "{{ 7 * 7 }}",
]


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_come_back_whole(client, text):
    echoed = complete(client, prompt=text, echo=True, max_tokens=0, logprobs=0).json()["choices"][0]
    assert echoed["text"] == text
    assert chat(client, messages=[{"role": "user", "content": text}]).status_code == 200


@pytest.mark.parametrize("text", ['"\\ud800"', '"x\\udfff"', '["a", "\\ud83d"]'])
def test_half_a_pair_is_refused(client, text):
    refused(raw(client, "/v1/completions", f'{{"model": "toy", "prompt": {text}}}'), 400, "prompt")
    refused(raw(client, "/v1/completions", f'{{"model": {text}, "prompt": "a"}}'), 400)
    refused(raw(client, "/v1/chat/completions", f'{{"model": "toy", "messages": [], {text}: 1}}'), 400)


@pytest.mark.parametrize("body", [b"{", b"[" * 20_000, b"nul", b'{"model": NaN}', b"\xff\xfe", b"", b"[]", b'"x"'])
def test_what_is_no_body_is_refused(client, body):
    refused(raw(client, "/v1/chat/completions", body), 400)
    refused(raw(client, "/v1/completions", body), 400)


def test_an_unknown_field_is_named(client):
    assert "mirostat" in refused(chat(client, mirostat=2), 400, "mirostat")


def test_every_status_is_described(client):
    page = client.get("/api/v1/openapi.json").json()
    for path in ("/v1/chat/completions", "/v1/completions"):
        answers = page["paths"][path]["post"]["responses"]
        wanted = {"200", "400", "401", "403", "404", "408", "413", "415", "421", "429", "500", "503"}
        assert wanted <= set(answers) and "422" not in answers
        assert set(answers["200"]["content"]) == {"application/json", "text/event-stream"}
        assert "retry-after" in answers["429"]["headers"] and "retry-after" in answers["503"]["headers"]
    assert "404" in page["paths"]["/v1/models/{model}"]["get"]["responses"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "model", "messages", "prompt", "edits", "report", "stream", "stream_options", "n", "stop", "seed", "temperature",
    "top_p", "logprobs", "top_logprobs", "echo", "max_tokens", "logit_bias", "response_format", "metadata", "tools",
    "repetition_penalty",
]  # fmt: skip
LIKELY = st.sampled_from([
    "toy", "toy:first", HELLO, "The fox", [5, 6], ["a"], ["3 add 0.2r"], ["3 clamp 1e6x"], [3], True,
    {"include_usage": True}, 0, 1, 2, 0.5, ["x"],
])  # fmt: skip


@settings(max_examples=120)
@given(st.sampled_from([CHAT, TEXT]), st.dictionaries(st.sampled_from(FIELDS), LIKELY | VALUES, max_size=3))
def test_no_body_is_an_error_of_the_server(client, base, changes):
    path = "/v1/chat/completions" if base is CHAT else "/v1/completions"
    answer = raw(client, path, json.dumps({**base, **changes}))
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        ErrorAnswer.model_validate(answer.json())
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n")
