"""Words of a visitor that reach no log: a thousand of them, by every way in, through every kind of end."""

import contextlib
import http.client
import json
import logging
import urllib.parse

import pytest

from monoscope.serve.app import free_port, start_in_background
from monoscope.serve.library import Library
from monoscope.serve.traces import told

TOKEN, ADMIN = "visitor-token-of-this-test", "keeper-token-of-this-test"
ROUNDS = 50


@pytest.fixture
def written(caplog, capfd, monkeypatch):
    """Everything that is logged at the level that is usual, or printed."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)

    def found():
        out, err = capfd.readouterr()
        formatter = logging.Formatter()
        return "\n".join([*(formatter.format(record) for record in caplog.records), out, err])

    return found


@contextlib.contextmanager
def failing(module):
    """A model that fails and says what it was given, as an error deep inside may."""

    def fail(_module, _args, more):
        raise RuntimeError(f"CANARY inside {more.get('input_ids')}")

    handle = module.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture
def server(run, toy):
    library = Library(run)
    library.give_model(toy)
    address = start_in_background(
        run, free_port(wanted=18_900), token=TOKEN, admin_token=ADMIN, library=library
    )  # fmt: skip
    yield address
    address.close()
    library.close()


class Visitor:
    """Sends canaries, each of its own."""

    def __init__(self, address):
        self._client = http.client.HTTPConnection(address.host, address.port, timeout=20)
        self.sent = 0

    def close(self):
        self._client.close()

    def canary(self):
        self.sent += 1
        return f"CANARY{self.sent:05d}"

    def send(self, method, path, body=None, *, token=TOKEN, kind="application/json"):
        headers = {"authorization": f"Bearer {token or self.canary()}", "cookie": f"a={self.canary()}",
                   "user-agent": self.canary(), f"x-{self.canary()}": self.canary(), "content-type": kind}  # fmt: skip
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        address = f"{path}{'&' if '?' in path else '?'}q={self.canary()}"
        self._client.request(method, address, raw, headers)
        answer = self._client.getresponse()
        return answer.status, answer.read().decode()


def rounds(visitor):
    """One request of each kind; the statuses they end with."""
    word = visitor.canary
    form, quoted = "application/x-www-form-urlencoded", urllib.parse.quote
    return [
        visitor.send("GET", f"/search?by={word()}"),
        visitor.send("GET", f"/{word()}/{word()}"),
        visitor.send("GET", f"/api/v1/features/{word()}/1"),
        visitor.send("GET", "/api/v1/about", token=None),
        visitor.send("GET", f"/v1/models/{word()}"),
        visitor.send("POST", "/api/v1/encode", {"text": f"a fox {word()}"}),
        visitor.send("POST", "/api/v1/encode", {"text": word(), word(): word()}),
        visitor.send("POST", "/api/v1/encode", f'{{"text": "{word()}'.encode()),
        visitor.send("POST", "/api/v1/encode", word().encode(), kind=f"text/{word()}"),
        visitor.send("POST", "/v1/completions", {"model": word(), "prompt": word()}),
        visitor.send("POST", "/v1/completions", {"model": "toy", "prompt": f"the {word()}", "max_tokens": 2}),
        visitor.send("POST", "/v1/chat/completions", {"model": "toy", "messages": [{"role": word()}]}),
        visitor.send("POST", "/api/v1/steer", {"prompt": f"the {word()}", "edits": [word()]}),
        visitor.send("POST", "/prompt", f"text=a+fox+{word()}".encode(), kind=form),
        visitor.send("POST", "/login", f"token={word()}".encode(), kind=form),
        visitor.send("PUT", f"/api/v1/lists/{word()}", {"features": [1]}, token=ADMIN),
        visitor.send("DELETE", f"/api/v1/lists/{word()}", token=ADMIN),
        visitor.send("PUT", f"/api/v1/presets/{quoted('../' + word())}", {"edits": [word()]}, token=ADMIN),
    ]


def test_no_log_has_a_word_of_a_visitor(server, written, toy, run):
    visitor = Visitor(server)
    ends = {status for status, _ in rounds(visitor)}
    assert ends == {200, 400, 401, 404, 415}
    with failing(toy.module):
        broken = rounds(visitor)
    assert {status for status, _ in broken} >= {500, 503} and "CANARY inside" not in str(broken)
    while visitor.sent < 1000:
        rounds(visitor)
    status, page = visitor.send("GET", "/metrics")
    visitor.close()
    assert status == 200
    log = written()
    assert "unexpected RuntimeError at" in log and "serve/test_hardening_log.py" in log
    for text in (log, page, (run / "desk_writes.jsonl").read_text()):
        assert "CANARY" not in text and TOKEN not in text and ADMIN not in text
    (run / "desk_writes.jsonl").unlink()


def test_a_failure_says_where_and_of_what_kind():
    def inner():
        raise KeyError("CANARY")

    def outer():
        try:
            inner()
        except KeyError as error:
            raise ValueError("CANARY") from error

    try:
        outer()
    except ValueError as error:
        one = told(error)
        many = told(ExceptionGroup("CANARY", [error]))
    assert one.startswith("ValueError at serve/test_hardening_log.py:") and "; from KeyError at" in one
    assert " inner < " in one and "CANARY" not in one + many and "ValueError" in many
    assert told(OSError("CANARY")) == "OSError at an unknown place"


def test_the_whole_error_is_shown_to_whoever_asks_for_it(client, toy, written, monkeypatch):
    monkeypatch.setenv("MONOSCOPE_TRACE", "1")
    with failing(toy.module):
        answer = client.post("/api/v1/encode", json={"text": "a fox"})
    assert answer.status_code == 500 and "CANARY" not in answer.text
    assert "CANARY inside" in written()
