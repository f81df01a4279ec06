"""Slow, half-open and very many clients on a real socket: they are hung up on, and good ones are answered meanwhile."""

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest

from monoscope.serve.app import create_app, free_port
from monoscope.serve.intake import Limits
from monoscope.serve.wire import Patience, end, server_of

HEAD = b"POST /api/v1/encode HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
QUICK = Patience(head_seconds=0.5, request_seconds=0.8, listen_seconds=0.5, connections=40)


@pytest.fixture(scope="module")
def port(run, books):
    """A server without much patience."""
    found = free_port(wanted=18_800)
    app = create_app(run, library=books, port=found, limits=Limits(body_seconds=0.6))
    server = server_of(app, "127.0.0.1", found, QUICK)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield found
    end(server)
    thread.join(5)


@contextlib.contextmanager
def connections(port, count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(count)]


def good(port):
    """Seconds that a good client waits for its answer."""
    began = time.monotonic()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    client.request("GET", "/healthz")
    assert client.getresponse().read() == b"ok"
    client.close()
    return time.monotonic() - began


SLOW = {
    "silence": (b"", b"", b""),
    "half a head": (b"GET / HTTP/1.1\r\n", b"", b""),
    "a head that drips": (b"GET / HTTP/1.1\r\n", b"x: y\r\n", b""),
    "half a body": (HEAD + b"content-length: 5000\r\n\r\n{", b"", b" 408 "),
    "a body that drips": (HEAD + b"content-length: 5000\r\n\r\n{", b" ", b" 408 "),
    "chunks that drip": (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n", b" 408 "),
    # The answer to these comes before the body, which then never ends.
    "an unread body": (HEAD.replace(b"POST", b"GET") + b"content-length: 5000\r\n\r\n", b" ", b" 405 "),
    "a refused body": (HEAD.replace(b"/json", b"/xml") + b"content-length: 5000\r\n\r\n", b" ", b" 415 "),
}


def hung_up(sock, drip):
    """Whether the server has hung up, after another drip was sent; and what it said."""
    try:
        if drip:
            sock.sendall(drip)
        said = sock.recv(65_536)
    except BlockingIOError:
        return False, b""
    except OSError:
        return True, b""
    return not said, said


def test_slow_clients_are_hung_up_on(port):
    began, ended, said = time.monotonic(), {}, dict.fromkeys(SLOW, b"")
    with connections(port, len(SLOW)) as socks:
        for sock, (sent, _, _) in zip(socks, SLOW.values(), strict=True):
            sock.sendall(sent % port if b"%d" in sent else sent)
            sock.setblocking(False)
        while len(ended) < len(SLOW) and time.monotonic() - began < 8:
            time.sleep(0.03)
            for sock, (name, (_, drip, _)) in zip(socks, SLOW.items(), strict=True):
                if name not in ended:
                    over, piece = hung_up(sock, drip)
                    said[name] += piece
                    ended |= {name: time.monotonic() - began} if over else {}
    assert set(ended) == set(SLOW) and min(ended.values()) > 0.3 and max(ended.values()) < 6, ended
    assert all(says in said[name] for name, (_, _, says) in SLOW.items()), said


@pytest.mark.parametrize("what", ["heads", "bodies", "both"])
def test_a_hundred_slow_clients_do_not_stop_a_good_one(port, what):
    halves = {"heads": b"GET / HTTP/1.1\r\nx: ", "bodies": HEAD % port + b"content-length: 99\r\n\r\n{"}
    sent = [halves[what]] if what in halves else list(halves.values())
    with contextlib.ExitStack() as stack:
        for number in range(100):
            (sock,) = stack.enter_context(connections(port, 1))
            with contextlib.suppress(OSError):  # the first ones make room for the last
                sock.sendall(sent[number % len(sent)])
        assert max(good(port) for _ in range(10)) < 2


def test_a_large_head_is_refused(port):
    for sent in (b"x: " + b"y" * 1_000_000, b"".join(b"x%d: y\r\n" % n for n in range(60_000))):
        with connections(port, 1) as (sock,):
            said = b""
            with contextlib.suppress(OSError):
                sock.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % port + sent)
                sock.sendall(b"\r\n\r\n")
            with contextlib.suppress(OSError):
                said = sock.recv(1000)
            assert said == b"" or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert good(port) < 2


ASK = b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n"


def test_who_does_not_listen_is_hung_up_on(port):
    """A client that asks for many megabytes and takes none of them."""
    with contextlib.closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect(("127.0.0.1", port))
        sock.sendall(ASK % port * 200)
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 8:
                time.sleep(0.05)
                sock.sendall(b"G")
        assert time.monotonic() - began > 0.3
    assert good(port) < 2


def test_who_asks_far_ahead_is_hung_up_on(port):
    """Answers are taken here, but a thousand times slower than requests are sent."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as sock:
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 50_000_000:
                sock.sendall(ASK % port * 500)
                sent += 500
                sock.recv(100)
    assert good(port) < 2


def test_a_body_too_large_is_answered_while_it_is_sent(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    client.putrequest("POST", "/v1/completions")
    client.putheader("content-type", "application/json")
    client.putheader("content-length", "8000000")
    client.endheaders()
    answer = client.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["error"]["code"] == "request_too_large"
    client.close()


def test_a_connection_is_used_again_and_again(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for number in range(20):
        if number % 2:
            kind = {"content-type": "application/json"}
            client.request("POST", "/api/v1/encode", json.dumps({"text": "a fox"}), kind)
        else:
            client.request("GET", "/healthz")
        answer = client.getresponse()
        assert answer.status == 200 and answer.read()
    client.close()
