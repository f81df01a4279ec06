"""Alerts to an address of the operator's, each at least once, also across restarts.

The file of alerts is the queue. Beside it a journal says up to where it has been taken in; it is written after each
answer of 2xx, so a kill between the two sends that alert again, under the same `Idempotency-Key`. A thread of its own
sends, in order, and waits longer after each failure; nobody waits for it.
"""

import logging
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from monoscope.core.artifact import read_json, write_json
from monoscope.core.errors import BadRequest, Damaged
from monoscope.safety.alerts import alert_id, whole_lines

VERSION = 1
MOST_WAITING_BYTES = 64 << 20
_TIMEOUT, _FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 0.5, 60.0

_log = logging.getLogger(__name__)


def check_url(url: str) -> str:
    """Agree that alerts may be sent there.

    Raises
        BadRequest  it is no http or https address, or holds a password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or any(not 33 <= ord(letter) < 127 for letter in url):
        raise BadRequest("--webhook takes an address such as https://alerts.example/hook.")
    if parts.username or parts.password:
        raise BadRequest("--webhook holds no user and password; put a secret into its path.")
    return url


class Webhook:
    """Sends what stands in a file of alerts. Mutable; it has a thread of its own until `close`.

    Of a file without a journal only what comes from now on is sent. When more than 64 MB wait, the oldest are passed
    over; they stay in the file.

    Raises
        BadRequest  the URL is none.
        Damaged     the journal cannot be read.
    """

    def __init__(self, path: Path, url: str, *, timeout: float = _TIMEOUT, first_pause: float = _FIRST_PAUSE) -> None:
        self._path, self._url, self._timeout, self._first_pause = path, check_url(url), timeout, first_pause
        self.journal = path.with_name(path.name + ".webhook.json")
        self._opener = urllib.request.build_opener(_NoRedirects())
        self._offset = self._begin()
        self._lock = threading.Lock()
        self._undelivered = sum(alert_id(line) is not None for _, line in whole_lines(path, self._offset))
        self._news, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    @property
    def undelivered(self) -> int:
        """How many alerts wait."""
        with self._lock:
            return max(0, self._undelivered)

    def wake(self) -> None:
        """An alert was written."""
        with self._lock:
            self._undelivered += 1
        self._news.set()

    def close(self) -> None:
        """Stop; what waits is sent after the next start."""
        self._stopping.set()
        self._news.set()
        self._thread.join(self._timeout + 1)

    def _begin(self) -> int:
        if self.journal.is_file():
            found = read_json(self.journal)
            offset = found.get("acknowledged")
            if found.get("version") != VERSION or not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
                raise Damaged(f"{self.journal} is no journal of version {VERSION}; remove it to begin anew.")
            # A file that is shorter than that was begun anew.
            return offset if offset <= self._path.stat().st_size else 0
        offset = self._path.stat().st_size
        self._acknowledge(offset, "")
        return offset

    def _acknowledge(self, offset: int, last: str) -> None:
        write_json(self.journal, {"version": VERSION, "acknowledged": offset, "last": last})
        self._offset = offset

    def _work(self) -> None:
        pause = self._first_pause
        while not self._stopping.is_set():
            self._news.clear()
            try:
                sent = self._send_all()
            except OSError as error:  # the file or its journal; what is sent twice is known by its key
                _log.error("alerts cannot be handed on: %s", error.strerror)
                sent = False
            if sent:
                pause = self._first_pause
                self._news.wait()
            else:
                self._stopping.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _send_all(self) -> bool:
        """Send what waits, one after another; whether all was taken in."""
        self._pass_over()
        for offset, line in whole_lines(self._path, self._offset):
            if self._stopping.is_set():
                return True
            found = alert_id(line)
            if found is None:
                continue
            if not self._post(found, line):
                return False
            self._acknowledge(offset, found)
            with self._lock:
                self._undelivered -= 1
        return True

    def _post(self, key: str, line: bytes) -> bool:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "monoscope"}
        request = urllib.request.Request(self._url, line, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return 200 <= answer.status < 300
        except urllib.error.HTTPError as error:
            _log.warning("the webhook answered %d; the alert is sent again", error.code)
        except Exception as error:  # whatever is at the other end, the thread goes on; its words are nobody's business
            _log.warning("the webhook cannot be reached (%s); the alert is sent again", type(error).__name__)
        return False

    def _pass_over(self) -> None:
        size = self._path.stat().st_size
        if size < self._offset:
            self._acknowledge(0, "")
        if size - self._offset <= MOST_WAITING_BYTES:
            return
        passed, place = 0, self._offset
        for offset, line in whole_lines(self._path, self._offset):
            if size - place <= MOST_WAITING_BYTES:
                break
            passed, place = passed + (alert_id(line) is not None), offset
        self._acknowledge(place, "")
        with self._lock:
            self._undelivered -= passed
        _log.error("%d alerts waited too long for the webhook and are passed over; they stand in the file", passed)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Alerts go where the operator said, and nowhere else."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None
