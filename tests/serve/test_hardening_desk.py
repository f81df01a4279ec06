"""Writes to the desk: a token of their own, a pace, and a line for each that says nothing of what was written."""

import json
import shutil
import threading

import pytest

from monoscope.serve.app import create_app
from monoscope.serve.intake import Limits
from monoscope.serve.library import Library
from monoscope.serve.writes import Ledger, Pace, is_desk_write

from .client import PORT, Client
from .test_guard import BODIES, routes

TOKEN, ADMIN = "visitors may read here", "keepers may write here"
AS_VISITOR, AS_KEEPER = ({"authorization": f"Bearer {token}"} for token in (TOKEN, ADMIN))
WRITES = [
    ("POST", "/api/v1/features/toy/3/notes", {"json": {"text": "CANARY"}}),
    ("PUT", "/api/v1/features/toy/3/label", {"json": {"text": "CANARY"}}),
    ("POST", "/f/toy/4/notes", {"data": {"text": "CANARY"}}),
    ("POST", "/f/toy/4/label", {"data": {"text": "CANARY"}}),
    ("PUT", "/api/v1/lists/CANARY", {"json": {"features": [1]}}),
    ("DELETE", "/api/v1/lists/CANARY", {}),
    ("PUT", "/api/v1/presets/CANARY", {"json": {"edits": ["1 add 0.4r"], "note": "CANARY"}}),
    ("DELETE", "/api/v1/presets/CANARY", {}),
]


@pytest.fixture
def desk(run, toy, tmp_path):
    """Servers of a run whose desk is empty, with the tokens one asks for."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for left in ("atlas/toy/desk.sqlite", "desk_writes.jsonl"):
        (folder / left).unlink(missing_ok=True)
    library = Library(folder)
    library.give_model(toy)

    def with_tokens(**tokens):
        client = Client(create_app(folder, library=library, port=PORT, **tokens))
        client.folder = folder
        return client

    yield with_tokens
    library.close()


def lines(client):
    path = client.folder / "desk_writes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_writes_need_the_admin_token_where_there_is_one(desk):
    client = desk(token=TOKEN, admin_token=ADMIN)
    for method, path, sent in WRITES:
        assert client(method, path, **sent).status_code == 401, path
        refused = client(method, path, headers=AS_VISITOR, **sent)
        assert refused.status_code == 403 and "admin token" in refused.text, path
        assert client(method, path, headers={"authorization": f"Bearer {ADMIN[:-1]}"}, **sent).status_code == 401
        assert client(method, f"{path}?token={ADMIN}", **sent).status_code == 401
    assert lines(client) == [] and not (client.folder / "atlas" / "toy" / "desk.sqlite").exists()
    for method, path, sent in WRITES:
        assert client(method, path, headers=AS_KEEPER, **sent).status_code in (200, 303), path
    assert client.get("/api/v1/lists", headers=AS_KEEPER).status_code == 200


def test_every_write_of_the_router_needs_it(desk):
    client = desk(token=TOKEN, admin_token=ADMIN)
    tried = [(method, path) for method, path in routes(client.app) if is_desk_write(method, path)]
    assert len(tried) >= 8
    for method, path in [*tried, ("PATCH", "/api/v1/lists/x"), ("POST", "/new/route"), ("PUT", "/api/v1/encode/")]:
        assert client(method, path, headers=AS_VISITOR, json=BODIES.get(method)).status_code == 403, (method, path)


def test_reading_and_asking_need_the_smaller_one_only(desk):
    client = desk(token=TOKEN, admin_token=ADMIN)
    for headers in (AS_VISITOR, AS_KEEPER):
        assert client.get("/api/v1/about", headers=headers).status_code == 200
        assert client.post("/api/v1/encode", json={"text": "a fox"}, headers=headers).status_code == 200
        assert client.post("/prompt", data={"text": "a fox"}, headers=headers).status_code == 200


def test_an_admin_token_alone_lets_everybody_read(desk):
    client = desk(admin_token=ADMIN)
    method, path, sent = WRITES[0]
    assert client.get("/api/v1/about").status_code == 200
    assert client(method, path, **sent).status_code == 401
    assert client(method, path, headers=AS_KEEPER, **sent).status_code == 200
    page = client.post("/f/toy/4/notes", data={"text": "a"}, headers={"accept": "text/html"})
    assert page.status_code == 401 and 'action="/login"' in page.text
    cookie = client.post("/login", data={"token": ADMIN}).headers["set-cookie"].split(";")[0]
    assert client.post("/f/toy/4/notes", data={"text": "a"}, headers={"cookie": cookie}).status_code == 303


def test_cookies_know_their_rank(desk):
    client = desk(token=TOKEN, admin_token=ADMIN)
    cookies = [client.post("/login", data={"token": token}).headers["set-cookie"].split(";")[0]
               for token in (TOKEN, ADMIN)]  # fmt: skip
    asked = [client.post("/f/toy/4/notes", data={"text": "a"}, headers={"cookie": cookie, "accept": "text/html"})
             for cookie in cookies]  # fmt: skip
    assert [answer.status_code for answer in asked] == [403, 303]
    assert "needs the admin token" in asked[0].text and 'action="/login"' in asked[0].text


def test_the_one_token_suffices_where_there_is_no_other(desk):
    method, path, sent = WRITES[1]
    assert desk(token=TOKEN)(method, path, headers=AS_VISITOR, **sent).status_code == 200
    assert desk()(method, path, **sent).status_code == 200


def test_each_write_has_a_line_and_no_word_of_what_was_written(desk):
    client = desk()
    for method, path, sent in WRITES:
        assert client(method, path, **sent).status_code in (200, 303)
    assert client.post("/api/v1/features/toy/96/notes", json={"text": "CANARY"}).status_code == 404
    assert client.post("/api/v1/features/CANARY/3/notes", json={"text": "CANARY"}).status_code == 404
    assert client.get("/api/v1/lists").status_code == 200
    assert client.post("/api/v1/encode", json={"text": "a fox"}).status_code == 200
    told = lines(client)
    ends = [(line["method"], line["route"].rsplit("/", 1)[-1], line.get("feature"), line["status"]) for line in told]
    assert ends == [
        ("POST", "notes", 3, 200), ("PUT", "label", 3, 200), ("POST", "notes", 4, 303), ("POST", "label", 4, 303),
        ("PUT", "{name}", None, 200), ("DELETE", "{name}", None, 200),
        ("PUT", "{name}", None, 200), ("DELETE", "{name}", None, 200),
        ("POST", "notes", 96, 404), ("POST", "notes", 3, 404),
    ]  # fmt: skip
    assert all(set(line) <= {"when", "method", "route", "feature", "status"} for line in told)
    assert "CANARY" not in (client.folder / "desk_writes.jsonl").read_text()


def test_writes_have_a_pace(desk):
    client = desk(limits=Limits(desk_writes_a_minute=3))
    method, path, sent = WRITES[0]
    assert [client(method, path, **sent).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    refused = client.post("/f/toy/4/notes", data={"text": "a"})
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
    assert client.post("/api/v1/encode", json={"text": "a fox"}).status_code == 200
    assert len(lines(client)) == 3


def test_a_pace_is_kept_by_many_at_once():
    pace, passed = Pace(50), []

    def work():
        for _ in range(20):
            try:
                pace.take()
                passed.append(1)
            except Exception:
                continue

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 50 <= len(passed) <= 51


def test_a_ledger_does_not_grow_for_ever(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "desk_writes.jsonl")
    monkeypatch.setattr("monoscope.serve.writes._MOST_BYTES", 500)

    class Route:
        path = "/api/v1/lists/{name}"

    for _ in range(40):
        ledger.note({"method": "PUT", "route": Route, "endpoint": None, "path_params": {}}, 200)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"desk_writes.jsonl", "desk_writes.old.jsonl"} and max(sizes.values()) < 700
    ledger = Ledger(tmp_path / "nowhere" / "desk_writes.jsonl")
    ledger.note({"method": "PUT", "route": Route, "endpoint": None}, 200)  # told in the log, and no end
