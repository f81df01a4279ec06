"""How much a request may bring: each too large one is refused at once, and costs little."""

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.serve.app import create_app
from monoscope.serve.intake import Limits, depth_beyond, whole_body
from monoscope.serve.refusing import ClientLeft, Refusal

from .client import PORT, Client

JSON = {"content-type": "application/json"}
TOLD = "nested more than 64 deep"


def nested(value, kind):
    """A value inside so many lists or objects."""
    return b"[" * value + b"]" * value if kind == "list" else b'{"a":' * value + b"1" + b"}" * value


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("path", ["/api/v1/encode", "/api/v1/contrast", "/v1/chat/completions", "/v1/completions"])
def test_deep_json_is_refused(client, path, kind):
    for depth in (65, 900, 10_000, 100_000):
        for body in (nested(depth, kind), b'{"text": "a", "messages": ' + nested(depth, kind) + b"}"):
            answer = client.post(path, content=body, headers=JSON)
            assert answer.status_code == 400 and TOLD in answer.text, (depth, answer.text)
    shallow = client.post(path, content=nested(60, kind), headers=JSON)
    assert shallow.status_code == 400 and TOLD not in shallow.text


@pytest.mark.parametrize(
    "body",
    [b"[" * 999_000, b"[" * 499_000 + b"]" * 499_000, b'{"a":' * 190_000, b"[}" * 499_000, b"[]," * 333_000,
     b'"\\"' * 333_000, b'"' * 999_999, b"\\" * 999_999, (b"[" * 63 + b"]" * 63 + b",") * 7_800, b"[[]," * 249_000],
    ids=range(10),
)  # fmt: skip
def test_odd_bodies_of_the_largest_size_cost_little(body):
    began = time.thread_time()
    depth_beyond(body, 64)
    assert time.thread_time() - began < 0.3


def depth_of(value):
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(
    st.recursive(
        st.none() | st.integers() | st.text(alphabet='a[]{}"\\,: é\n', max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\', max_size=4), inner, max_size=3),
        max_leaves=12,
    ),
    st.booleans(),
)
def test_depth_is_that_of_the_parsed_value(value, escaped):
    body = json.dumps(value, ensure_ascii=escaped).encode()
    depth = depth_of(value)
    for most in {0, max(0, depth - 1), depth}:
        assert depth_beyond(body, most) == (depth > most)


def test_a_form_of_too_many_fields_is_refused(client, feature):
    form = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}
    sent = client.post(f"/f/toy/{feature}/notes", content="&".join(f"f{n}=1" for n in range(9)), headers=form)
    assert sent.status_code == 400 and "more fields" in sent.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_refused(client, encoding):
    raw = json.dumps({"text": "a fox"})
    assert client.post("/api/v1/encode", content=raw.encode(encoding), headers=JSON).status_code == 400
    assert client.post("/api/v1/encode", content=raw.encode("utf-8-sig"), headers=JSON).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/v1/about", "/v1/models"])
def test_long_addresses_and_many_headers_are_refused(client, path):
    assert client.get(f"{path}?q={'x' * 40_000}").status_code == 414
    assert client.get(path, headers={f"x-{n}": "a" for n in range(101)}).status_code == 431
    assert client.get(path, headers={"x-large": "a" * 33_000}).status_code == 431
    assert client.get(path, headers={"cookie": "a=" + "\\" * 31_000}).status_code == 200


def test_a_long_query_in_any_script_still_fits(client):
    assert client.get("/search", params={"q": "字" * 2000}).status_code == 200


def test_odd_parameters_cost_little(client):
    """Values far beyond what is meant, as whole requests: an answer at once, never an error inside."""
    bodies = [
        {"model": "toy", "prompt": "a", "max_tokens": 10**9},
        {"model": "toy", "prompt": "a", "n": 10**9},
        {"model": "toy", "prompt": "a", "logprobs": 10**6},
        {"model": "toy", "prompt": "a", "stop": ["x"] * 100_000},
        {"model": "toy", "prompt": "a", "logit_bias": {str(n): 1 for n in range(50_000)}},
        {"model": "toy", "prompt": "a", "edits": ["1 add 0.4r"] * 50_000},
        {"model": "toy", "prompt": "a", "edits": ["-1 add 0.4r"]},
        {"model": "toy", "prompt": "a", "edits": [f"{2**63} add 0.4r"]},
        {"model": "toy", "prompt": "a", "edits": ["1 add 1e308"]},
        {"model": "toy", "prompt": "word " * 150_000},
        {"model": "toy", "prompt": ["a"] * 100_000},
        {"model": "toy", "prompt": [10**30]},
        {"model": "toy", "prompt": "a", "temperature": 10**400},
    ]
    for body in bodies:
        raw = json.dumps(body)
        began = time.process_time()
        answer = client.post("/v1/completions", content=raw, headers=JSON)
        assert answer.status_code in (400, 404), (raw[:80], answer.text[:200])
        assert time.process_time() - began < 1.0, raw[:80]
    messages = {"model": "toy", "messages": [{"role": "user", "content": "a"}] * 20_000}
    assert client.post("/v1/chat/completions", json=messages).status_code == 400
    assert (
        client.post("/v1/chat/completions", json={**messages, "messages": messages["messages"] * 5}).status_code == 413
    )


def test_a_body_that_never_ends_or_whose_sender_leaves():
    async def slow():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def gone():
        return {"type": "http.disconnect"}

    began = time.monotonic()
    with pytest.raises(Refusal) as refusal:
        asyncio.run(whole_body(slow, 1000, 0.1))
    assert refusal.value.status == 408 and time.monotonic() - began < 1
    with pytest.raises(ClientLeft):
        asyncio.run(whole_body(gone, 1000, 1))


def test_a_large_body_is_refused_before_it_is_read():
    read = 0

    async def pieces():
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 400, "more_body": True}

    with pytest.raises(Refusal) as refusal:
        asyncio.run(whole_body(pieces, 1000, 5))
    assert refusal.value.status == 413 and read == 3


def test_half_a_body_is_no_request(run, books):
    """A client that leaves in the middle: nothing is done with the part that came."""
    kept = []
    app = create_app(run, library=books, port=PORT, limits=Limits())
    messages = [{"type": "http.request", "body": b'{"features": [1]}', "more_body": True}, {"type": "http.disconnect"}]

    async def send(message):
        kept.append(message)

    async def receive():
        return messages.pop(0)

    head = [(b"host", f"127.0.0.1:{PORT}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "PUT", "path": "/api/v1/lists/half", "raw_path": b"/", "query_string": b"",
             "headers": [*head, (b"content-length", b"900")], "http_version": "1.1", "scheme": "http",
             "root_path": "", "server": ("127.0.0.1", PORT), "client": ("127.0.0.1", 1)}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert kept == [] and Client(app).get("/api/v1/lists/half").status_code == 404
