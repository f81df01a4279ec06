import contextlib
import http.client
import json
import socket
import time
import urllib.request

import pytest

from monoscope.core.errors import ArtifactNotFound, BadRequest
from monoscope.serve.app import check_address, create_app, free_port, serve, start_in_background
from monoscope.serve.library import Library
from monoscope.steer.batcher import MOST_ROWS
from monoscope.steer.request import Request


def test_the_next_free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        if port < 65_000:
            assert port < free_port("127.0.0.1", port) < port + 50


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_nobody_listens_to_the_world_without_a_token(host, tmp_path):
    with pytest.raises(BadRequest, match="--token"):
        check_address(host, None)
    with pytest.raises(BadRequest):
        start_in_background(tmp_path, host=host)
    check_address(host, "long enough to keep")
    with pytest.raises(BadRequest, match="8 characters"):
        check_address(host, "short")
    with pytest.raises(BadRequest, match="--token"):
        check_address(host, None, "long enough to keep")


def test_tokens_are_long_and_differ():
    with pytest.raises(BadRequest, match="admin token is shorter than 8"):
        check_address("127.0.0.1", None, "short")
    with pytest.raises(BadRequest, match="same as the token"):
        check_address("127.0.0.1", "long enough to keep", "long enough to keep")
    check_address("127.0.0.1", "long enough to keep", "another that is long")


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "", "lab.test", "https://", "https://*.lab.test", "https://lab.test/", "https://lab.test/path",
     "https://user@lab.test", "ftp://lab.test", "https://lab.test:x", "https://lab.test:1234567", "https://a b"],
)  # fmt: skip
def test_an_origin_is_a_name_and_never_a_pattern(origin, tmp_path):
    with pytest.raises(BadRequest, match="is no origin"):
        create_app(tmp_path, allow_origins=[origin])


def test_this_machine_needs_none():
    for host in ("127.0.0.1", "localhost", "::1"):
        check_address(host, None)


def test_a_name_that_is_not_there(tmp_path):
    with pytest.raises(ArtifactNotFound):
        serve(tmp_path / "nowhere")


def test_a_server_in_the_background(run, books):
    address = start_in_background(run, free_port(wanted=18_500), library=books)
    try:
        with urllib.request.urlopen(f"{address.url}healthz", timeout=5) as answer:
            assert answer.read() == b"ok"
        second = start_in_background(run, address.port, library=books)
        assert second.port != address.port
        second.close()
    finally:
        address.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{address.url}healthz", timeout=5)


def test_a_server_ends_quietly_with_streams_open(run, toy, caplog):
    """Who listens is cut off, nothing is said of it, and the model is free."""
    library = Library(run)
    library.give_model(toy)
    address = start_in_background(run, free_port(wanted=18_650), library=library)
    slow = toy.module.register_forward_pre_hook(lambda *_: time.sleep(0.01))
    try:
        with contextlib.closing(http.client.HTTPConnection(address.host, address.port, timeout=5)) as listening:
            body = json.dumps({"model": "toy", "prompt": "The fox", "max_tokens": 200, "stream": True})
            listening.request("POST", "/v1/completions", body, {"content-type": "application/json"})
            answer = listening.getresponse()
            assert answer.read1(100)
            began = time.monotonic()
            address.close()
            assert time.monotonic() - began < 2
            with pytest.raises((ConnectionError, http.client.IncompleteRead)):
                answer.read()
        until(lambda: library.batcher().counts()["active"] == 0)
        assert library.batcher().counts()["active"] == 0
    finally:
        slow.remove()
        library.close()
    assert [record.getMessage() for record in caplog.records] == []


def until(true, seconds=5):
    began = time.monotonic()
    while not true() and time.monotonic() - began < seconds:
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("busy", [0, MOST_ROWS], ids=["listening", "waiting"])
def test_who_leaves_while_waiting_or_listening_gives_up_the_place(run, toy, busy):
    library = Library(run)
    library.give_model(toy)
    address = start_in_background(run, free_port(wanted=18_600), library=library)
    batcher = library.batcher()
    slow = toy.module.register_forward_pre_hook(lambda *_: time.sleep(0.01))
    try:
        others = batcher.submit(library.dictionary(), [Request((1, 2), max_tokens=400, stop_ids=frozenset())] * busy)
        until(lambda: batcher.counts()["active"] == busy)
        with contextlib.closing(http.client.HTTPConnection(address.host, address.port, timeout=5)) as leaving:
            body = json.dumps({"prompt": "The fox", "max_tokens": 300})
            leaving.request("POST", "/api/v1/steer", body, {"content-type": "application/json"})
            assert (b"event: queue" if busy else b"event: baseline") in leaving.getresponse().read1(100)
            assert sum(batcher.counts()[name] for name in ("active", "waiting")) > busy
        seconds = until(lambda: (batcher.counts()["active"], batcher.counts()["waiting"]) == (busy, 0))
        assert seconds < 2
        for ticket in others:
            ticket.cancel()
    finally:
        slow.remove()
        address.close()
        library.close()
