import http.client
import json
import socket
import time
import urllib.request

import pytest

from monoscope.core.errors import ArtifactNotFound, BadRequest
from monoscope.serve.app import check_address, free_port, serve, start_in_background


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


def test_who_leaves_while_waiting_or_listening_gives_up_the_place(run, books):
    address = start_in_background(run, free_port(wanted=18_600), library=books)
    seat = books.queue.sit()
    assert seat.try_turn(1)
    try:
        waiting = http.client.HTTPConnection(address.host, address.port, timeout=5)
        body = json.dumps({"prompt": "The fox", "max_tokens": 300})
        waiting.request("POST", "/api/v1/steer", body, {"content-type": "application/json"})
        assert b"event: queue" in waiting.getresponse().read1(100)
        assert books.queue.inside == 2
        waiting.close()
        began = time.monotonic()
        while books.queue.inside > 1 and time.monotonic() - began < 5:
            time.sleep(0.02)
        assert books.queue.inside == 1 and time.monotonic() - began < 2
    finally:
        seat.leave()
        address.close()
