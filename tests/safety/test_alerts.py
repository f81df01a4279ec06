"""Alerts are whole lines, reach the webhook at least once whatever is killed, and nobody waits for either."""

import contextlib
import fcntl
import http.server
import json
import logging
import multiprocessing
import os
import threading
import time
from dataclasses import replace

import pytest

from monoscope.core.errors import BadRequest, Busy, Damaged
from monoscope.safety import webhook as webhook_room
from monoscope.safety.alerts import AlertFile, alert_id, log_alert, whole_lines
from monoscope.safety.webhook import Webhook, check_url
from safety import alert_workers
from safety.alert_workers import alert

# Its rooms need no torch, so a child has begun in some milliseconds.
CHILDREN = multiprocessing.get_context("forkserver")


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Hook:
    """An address that takes alerts in; `answers` are the statuses that it gives first."""

    def __init__(self, answers=()):
        hook, self.got, self.answers = self, [], list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = hook.answers.pop(0) if hook.answers else 204
                if status == 204:
                    hook.got.append((self.headers["idempotency-key"], body))
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", hook.url + "elsewhere")
                self.end_headers()

            def log_message(self, *_):
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def ids(self):
        return [key for key, _ in self.got]


@pytest.fixture
def hook():
    made = []

    def make(*answers):
        made.append(Hook(answers))
        return made[-1]

    yield make
    for each in made:
        each.server.shutdown()
        each.server.server_close()


def until(true, seconds=10.0):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    assert true()


def ids_in(path):
    return [found for _, line in whole_lines(path, 0) if (found := alert_id(line)) is not None]


def test_a_file_has_a_whole_line_for_each_alert(tmp_path):
    path = tmp_path / "new" / "alerts.jsonl"
    file = AlertFile(path)
    assert all(file.write(alert(number)) for number in range(3))
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a0", "a1", "a2"]
    assert path.read_text().count("Fühler") == 3
    with pytest.raises(Busy, match="another server"):
        AlertFile(path)
    file.close()
    # As a kill in the middle of a line leaves it.
    path.write_bytes(path.read_bytes()[:-20])
    again = AlertFile(path)
    again.write(alert(3))
    again.close()
    assert ids_in(path) == ["a0", "a1", "a3"]
    with pytest.raises(Damaged, match="another --alerts"):
        AlertFile(tmp_path)


def test_a_full_disk_costs_the_alert_and_not_the_next(tmp_path, monkeypatch, caplog):
    file, write = AlertFile(tmp_path / "alerts.jsonl"), os.write
    room = [25]

    def filling(handle, data):
        if not room:
            raise OSError(28, "No space left on device")
        return write(handle, data[: room.pop()])

    monkeypatch.setattr(os, "write", filling)
    assert not file.write(alert(0)) and file.unwritten == 1 and "No space left" in caplog.text
    monkeypatch.setattr(os, "write", write)
    assert file.write(alert(1))
    assert ids_in(file.path) == ["a1"]
    file.close()


def test_the_log_has_no_word_of_a_text(caplog):
    with caplog.at_level(logging.WARNING):
        log_alert(replace(alert(1), text="the visitor's words"))
    assert "monitor m (flag)" in caplog.text and "words" not in caplog.text


def test_alerts_arrive_in_order_and_again_after_failures(tmp_path, hook):
    path, at = tmp_path / "alerts.jsonl", hook(500, 302, 429)
    file = AlertFile(path)
    file.write(alert(0))  # before there was a webhook
    sender = Webhook(path, at.url, first_pause=0.01)
    for number in range(1, 4):
        file.write(alert(number))
        sender.wake()
    until(lambda: sender.undelivered == 0)
    assert at.ids == ["a1", "a2", "a3"] and at.got[0][1]["monitor"] == "m"
    sender.close()
    file.write(alert(4))  # while nobody sends
    assert sender.undelivered == 0
    again = Webhook(path, at.url, first_pause=0.01)
    until(lambda: at.ids == ["a1", "a2", "a3", "a4"])
    until(lambda: again.undelivered == 0)
    again.close()
    assert json.loads(again.journal.read_text())["acknowledged"] == path.stat().st_size
    file.close()
    # A file that was begun anew is read from its beginning.
    path.write_bytes(b"")
    file = AlertFile(path)
    file.write(alert(9))
    third = Webhook(path, at.url, first_pause=0.01)
    until(lambda: at.ids[-1] == "a9")
    third.close()
    file.close()


def test_nobody_waits_for_an_address_that_does_not_answer(tmp_path):
    file = AlertFile(tmp_path / "alerts.jsonl")
    sender = Webhook(file.path, "http://127.0.0.1:9/", first_pause=0.01)
    began = time.monotonic()
    for number in range(100):
        file.write(alert(number))
        sender.wake()
    assert time.monotonic() - began < 1 and sender.undelivered == 100
    sender.close()
    assert time.monotonic() - began < 3 and not sender._thread.is_alive()
    file.close()


def test_what_waits_is_bounded(tmp_path, hook, monkeypatch, caplog):
    monkeypatch.setattr(webhook_room, "MOST_WAITING_BYTES", 1000)
    path, at = tmp_path / "alerts.jsonl", hook()
    file = AlertFile(path)
    Webhook(path, at.url).close()
    for number in range(20):
        file.write(alert(number))
    sender = Webhook(path, at.url)
    until(lambda: sender.undelivered == 0)
    sender.close()
    assert 1 <= len(at.ids) < 5 and at.ids[-1] == "a19" and "passed over" in caplog.text
    assert len(ids_in(path)) == 20
    file.close()


@pytest.mark.parametrize(
    "url", ["ftp://a.example/x", "a.example", "http://", "http://u:p@a.example/", "http://a b/", "http://a:99999/", ""]
)
def test_only_addresses_are_taken(url):
    with pytest.raises(BadRequest, match="--webhook"):
        check_url(url)


def test_a_journal_that_is_none(tmp_path):
    path = tmp_path / "alerts.jsonl"
    AlertFile(path).close()
    (tmp_path / "alerts.jsonl.webhook.json").write_text('{"version": 1, "acknowledged": -3}')
    with pytest.raises(Damaged, match="no journal"):
        Webhook(path, "http://127.0.0.1:9/")


def test_killed_again_and_again_no_alert_is_lost(tmp_path, hook):
    path, at = tmp_path / "alerts.jsonl", hook()
    written = set()
    for kill in (1, 2, 7, 19, 40):
        at.answers += [503, 204, 500]
        heard, told = CHILDREN.Pipe(duplex=False)
        child = CHILDREN.Process(target=alert_workers.raise_alerts, args=(path, at.url, 100 * kill, kill, told))
        child.start()
        told.close()
        with contextlib.suppress(EOFError):
            while True:
                written.add(f"a{heard.recv()}")
        child.join(60)
        assert child.exitcode == -9
        assert written <= set(ids_in(path))
    at.answers.clear()
    file = AlertFile(path)
    sender = Webhook(path, at.url, first_pause=0.01)
    until(lambda: sender.undelivered == 0 and set(at.ids) >= set(ids_in(path)), 100.0)
    sender.close()
    file.close()
    assert len(written) > 50 and written <= set(at.ids)
    assert all(key == body["id"] for key, body in at.got)
    with path.open("rb") as stream:  # the lock went with the last writer
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
