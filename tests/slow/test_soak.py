"""A server that works for a long time: its memory stays, places are given up, and it answers as on the first day.

Some minutes. The limits are those of docs/security.md, N2, N9 and N10.
"""

import contextlib
import gc
import http.client
import json
import os
import random
import socket
import statistics
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from monoscope.serve.tokens import Keys, Rank

pytestmark = pytest.mark.slow
REQUESTS, EVERY, ABORTS, STREAMS = 1000, 50, 500, 200
ASK = {"model": "toy", "prompt": "The fox sees", "max_tokens": 16, "temperature": 0}


def post(server, path, body, timeout=60):
    with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=timeout)) as client:
        kind = {"content-type": "application/json", **server.headers}
        client.request("POST", path, json.dumps(body), kind)
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def get(server, path):
    with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=60)) as client:
        client.request("GET", path, headers=server.headers)
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def resident():
    """Bytes of memory that this process holds; the server is part of it."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def mixed(server, feature, number):
    """One of the kinds of requests there are, good and bad."""
    steered = {**ASK, "edits": [f"{feature} add {0.1 + number % 7 / 10}r"], "seed": number, "temperature": 0.8}
    kinds = [
        lambda: post(server, "/v1/completions", ASK),
        lambda: post(server, "/v1/completions", {**steered, "stream": True, "n": 2}),
        lambda: post(server, "/v1/completions", {**ASK, "prompt": f"The bear {number}", "logprobs": 3, "echo": True}),
        lambda: post(server, "/v1/chat/completions", {"model": "toy", "messages": [{"role": "user", "content": "a"}]}),
        lambda: post(server, "/api/v1/encode", {"text": f"The fox sees {number} bears."}),
        lambda: post(server, "/api/v1/steer", {"prompt": "The fox", "max_tokens": 8, "edits": steered["edits"]}),
        lambda: post(server, "/v1/completions", {**ASK, "max_tokens": -number}),
        lambda: get(server, f"/f/toy/{number % 96}"),
        lambda: get(server, f"/search?q=fox+{number}"),
        lambda: get(server, f"/nowhere/{number}"),
        lambda: post(server, f"/api/v1/features/toy/{number % 96}/notes", {"text": "x" * 2001}),
    ]
    return kinds[number % len(kinds)]()[0]


def test_memory_stays(toy_server, feature):
    for number in range(300):
        mixed(toy_server, feature, number)
    held = [resident()]
    statuses = set()
    for number in range(REQUESTS):
        statuses.add(mixed(toy_server, feature, number))
        if (number + 1) % EVERY == 0:
            held.append(resident())
    slope = np.polyfit(np.arange(len(held)) * EVERY / 100, np.array(held) / 1e6, 1)[0]
    sys.stdout.write(f"memory: {held[0] / 1e6:.0f} to {held[-1] / 1e6:.0f} MB, {slope:.3f} MB in 100 requests\n")
    assert statuses == {200, 400, 404} and slope < 1


def abort(server, feature, chance):
    """Send a request and leave at some moment, politely or not."""
    body = {**ASK, "max_tokens": 200, "stream": chance.random() < 0.6, "n": chance.choice([1, 1, 3]),
            "edits": [f"{feature} add 0.3r"] if chance.random() < 0.5 else []}  # fmt: skip
    raw = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: {server.host}:{server.port}\r\n"
    head += f"authorization: {server.headers['authorization']}\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(raw)}\r\n\r\n"
    with contextlib.closing(socket.create_connection((server.host, server.port), timeout=30)) as sock:
        sent = head.encode() + raw
        sock.sendall(sent if chance.random() < 0.9 else sent[: chance.randrange(len(sent))])
        if body["stream"] and chance.random() < 0.3:
            sock.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                sock.recv(chance.randrange(1, 2000))
        else:
            time.sleep(chance.random() * 0.05)
        if chance.random() < 0.5:  # a reset in place of a farewell
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_aborts_leave_nothing_behind(toy_server, feature):
    before = post(toy_server, "/v1/completions", ASK)
    chance = random.Random(5)
    seeds = [chance.random() for _ in range(ABORTS)]

    def work(part):
        for seed in part:
            abort(toy_server, feature, random.Random(seed))

    threads = [threading.Thread(target=work, args=(seeds[number::10],)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    busy = True
    while busy and time.monotonic() - began < 10:
        counts = toy_server.library.batcher().counts()
        busy = counts["active"] + counts["waiting"] > 0
        time.sleep(0.01)
    sys.stdout.write(f"free {time.monotonic() - began:.2f} s after the last of {ABORTS} aborts\n")
    assert not busy and time.monotonic() - began < 1
    _, page = get(toy_server, "/metrics")
    for line in ("monoscope_model_active 0", "monoscope_model_waiting 0", "monoscope_requests_active 1"):
        assert line in page.splitlines()
    after = post(toy_server, "/v1/completions", ASK)
    assert before[0] == after[0] == 200
    assert json.loads(before[1])["choices"] == json.loads(after[1])["choices"]


def test_health_answers_beside_many_streams(toy_server, feature):
    ends, waits = [], []

    def ask(number):
        body = {**ASK, "max_tokens": 100, "stream": True, "seed": number, "edits": [f"{feature} add {number / 500}r"]}
        status, text = post(toy_server, "/v1/completions", body, timeout=300)
        ends.append(status == 200 and text.rstrip().endswith("[DONE]") and '"error"' not in text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(STREAMS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert get(toy_server, "/healthz") == (200, "ok")
        waits.append(time.monotonic() - began)
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    late = sorted(waits)[int(0.99 * len(waits))]
    sys.stdout.write(f"health: {len(waits)} answers beside {STREAMS} streams, 99 % within {1000 * late:.0f} ms\n")
    assert ends == [True] * STREAMS and late < 0.2


def test_a_token_that_begins_right_takes_no_longer():
    """20,000 tries in turns; the difference of the medians is far within the spread of single ones."""
    token = "x" * 30 + "right token of a server"
    keys = Keys(token, None, port=1)
    tries = {"none": "y" * len(token), "prefix": token[:-1] + "z"}
    seconds: dict[str, list[float]] = {name: [] for name in tries}
    for number in range(20_000):
        for name in sorted(tries, reverse=bool(number % 2)):
            headers = {"authorization": [f"Bearer {tries[name]}"]}
            began = time.perf_counter_ns()
            assert keys.rank(headers) is Rank.NOBODY
            seconds[name].append(time.perf_counter_ns() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    spread = statistics.quantiles(seconds["none"], n=4)
    sys.stdout.write(f"medians {medians}, middle half {spread[0]:.0f} to {spread[2]:.0f} ns\n")
    assert abs(medians["none"] - medians["prefix"]) < max(0.02 * medians["none"], 30)
