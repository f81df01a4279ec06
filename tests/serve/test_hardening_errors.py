"""Errors in the shape that each path's clients read; sentences, never a detail of what failed inside."""

import json

import pytest

from monoscope.core.errors import BadRequest, Busy, NotFound, Unavailable
from monoscope.serve.app import create_app
from monoscope.serve.intake import Limits

from .client import PORT, Client

TOKEN = "correct horse battery staple"
JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def locked(run, books):
    return Client(create_app(run, library=books, port=PORT, token=TOKEN))


def openai_error(answer):
    """The error, after a look at its shape."""
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    error = body["error"]
    assert 0 < len(error["message"]) < 600 and error["message"][0].isalnum()
    assert "Traceback" not in error["message"]
    return error


@pytest.mark.parametrize(
    ("send", "status", "kind", "code"),
    [
        ({"headers": {}}, 401, "invalid_request_error", "invalid_api_key"),
        ({"headers": {"authorization": "Bearer wrong"}}, 401, "invalid_request_error", "invalid_api_key"),
        ({"headers": {"host": "evil.test"}}, 421, "invalid_request_error", "misdirected_request"),
        ({"headers": {"origin": "http://evil.test"}}, 403, "permission_error", "forbidden"),
        ({"headers": {"content-type": "text/plain"}}, 415, "invalid_request_error", "unsupported_media_type"),
        ({"headers": {"content-length": "2000000"}}, 413, "invalid_request_error", "request_too_large"),
    ],
)
def test_refusals_of_the_guard_under_v1(locked, send, status, kind, code):
    headers = {**JSON, **send["headers"]}
    answer = locked.post(CHAT, content=b"{}", headers=headers)
    error = openai_error(answer)
    assert (answer.status_code, error["type"], error["code"], error["param"]) == (status, kind, code, None)
    other = locked.post("/api/v1/encode", content=b"{}", headers=headers)
    assert other.status_code == status and other.json() == {"error": error["message"]}


def test_addresses_that_are_not_there(client):
    answer = client.get("/v1/nowhere")
    assert answer.status_code == 404 and openai_error(answer)["code"] == "not_found"
    answer = client.get(CHAT)
    assert answer.status_code == 405 and openai_error(answer)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "POST"
    assert client("OPTIONS", "/api/v1/lists/x").headers["allow"] == "GET, PUT, DELETE"
    assert client("DELETE", "/healthz", headers={}).headers["allow"] == "GET, HEAD"
    assert client.get("/api/v1/nowhere").json() == {"error": "There is no such page."}


def test_a_field_that_is_wrong_is_named(client):
    message = {"role": "user", "content": "hello"}
    for body, param, code in [
        ({"model": "toy", "messages": [message], "max_tokens": "many"}, "max_tokens", None),
        ({"model": "toy", "messages": [message], "unheard_of": 1}, "unheard_of", "unknown_parameter"),
        ({"model": "toy"}, "messages", "missing_required_parameter"),
        ({"model": "toy", "messages": [message, {"role": "user"}]}, "messages.1.content", "missing_required_parameter"),
    ]:
        answer = client.post(CHAT, json=body)
        error = openai_error(answer)
        assert (answer.status_code, error["param"], error["code"]) == (400, param, code), error
        assert error["message"].startswith(f"{param}: ") and "Value error" not in error["message"]
    for raw in (b"{", b"", b"nul", b"\xff\xfe", b'"a\\ud800"', b"[" * 500):
        answer = client.post(CHAT, content=raw, headers=JSON)
        assert answer.status_code == 400 and openai_error(answer)["type"] == "invalid_request_error", raw


def test_half_characters_in_names_do_not_make_an_error_of_the_error(client):
    for path in (CHAT, "/api/v1/encode"):
        for body in ({"\ud800": 1}, {"text": "a", "\udfff" * 50: "\ud800"}, {"model": "\ud800", "messages": []}):
            answer = client.post(path, content=json.dumps(body), headers=JSON)
            assert answer.status_code == 400, answer.text


class Coded(BadRequest):
    code, param = "context_length_exceeded", "messages"


def failing(app):
    """Routes that fail as those of the server may, each under a path of each shape."""
    kinds = {"coded": Coded("too long"), "full": Busy("full"), "loading": Unavailable("loading"),
             "missing": NotFound("not there"), "boom": ValueError("SECRET of a visitor")}  # fmt: skip

    @app.get("/v1/fail/{kind}")
    @app.get("/api/v1/fail/{kind}")
    @app.get("/fail/{kind}")
    def fail(kind: str):
        raise kinds[kind]


@pytest.fixture(scope="module")
def broken(run, books):
    guarded = create_app(run, library=books, port=PORT)
    failing(guarded.app)
    return Client(guarded)


@pytest.mark.parametrize(
    ("kind", "status", "code", "param", "retry"),
    [
        ("coded", 400, "context_length_exceeded", "messages", False),
        ("full", 429, "rate_limit_exceeded", None, True),
        ("loading", 503, "unavailable", None, True),
        ("missing", 404, "not_found", None, False),
        ("boom", 500, None, None, False),
    ],
)
def test_what_routes_raise(broken, kind, status, code, param, retry):
    answer = broken.get(f"/v1/fail/{kind}")
    error = openai_error(answer)
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == {429: "rate_limit_error", 500: "server_error", 503: "server_error"}.get(
        status, "invalid_request_error"
    )
    plain = broken.get(f"/api/v1/fail/{kind}")
    assert plain.status_code == status and plain.json() == {"error": error["message"]}
    page = broken.get(f"/fail/{kind}")
    assert page.status_code == status and "<h1" in page.text
    for each in (answer, plain, page):
        assert ("retry-after" in each.headers) is retry and "SECRET" not in each.text
        assert not retry or int(each.headers["retry-after"]) > 0


def test_too_many_at_once_are_told_to_come_again(run, books):
    full = Client(create_app(run, library=books, port=PORT, limits=Limits(at_once=0)))
    for path in (CHAT, "/api/v1/encode"):
        answer = full.post(path, json={})
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    assert full.get("/healthz").status_code == 200


def test_the_openapi_page_tells_of_refusals(client):
    page = client.get("/api/v1/openapi.json").json()
    assert "security" not in page and not {"HTTPValidationError", "ValidationError"} & set(
        page["components"]["schemas"]
    )
    for path, operations in page["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            told = operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
            assert told.endswith("/OpenAIRefusal" if path.startswith("/v1/") else "/Refusal")
