"""Connections with an end: who is slow to ask or to listen is hung up on, so that others are served.

uvicorn waits for ever for the head of a request and for a client to take its answer, and takes in any number of
requests before it has answered the first; here all three have a limit. When there are very many connections, the one
that has owed a whole request longest makes room.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from monoscope.serve.traces import redact

MOST_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Patience:
    """How long a connection may take, and how many there may be."""

    head_seconds: float = 10.0
    request_seconds: float = 45.0
    listen_seconds: float = 60.0
    connections: int = 600


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with time limits on the client's part. `patience` is set by `http_protocol`."""

    patience = Patience()

    def connection_made(self, transport: Any) -> None:
        """A client has connected: a request is to come soon."""
        super().connection_made(transport)
        self._owing_since = time.monotonic()
        self._asking = _Alarm(self.loop, transport.abort)
        self._listening = _Alarm(self.loop, transport.abort)
        self._asking.set("head", self.patience.head_seconds)
        if len(self.connections) > self.patience.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._asking.stop()
        self._listening.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        super().data_received(data)
        self._watch(head=True)
        # Requests sent ahead, before the first is answered, gather here: uvicorn reads on after each answer.
        if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) > MOST_HEAD_BYTES:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """An answer is sent."""
        self._owing_since = time.monotonic()
        super().on_response_complete()
        self._watch(head=False)

    def pause_writing(self) -> None:
        """The client takes the answer too slowly."""
        super().pause_writing()
        self._listening.set("answer", self.patience.listen_seconds)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._listening.stop()

    @property
    def is_owing(self) -> bool:
        """Whether nobody waits for an answer on it: no request was asked whole since the last one."""
        return self.transport.is_closing() or self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _watch(self, *, head: bool) -> None:
        """Set the alarm for what the client still owes; each lasts from its beginning, however much comes meanwhile."""
        if self.conn.their_state is h11.SEND_BODY:
            self._asking.set("body", self.patience.request_seconds)
        elif self.conn.their_state is h11.IDLE and head:
            self._asking.set("head", self.patience.head_seconds)
        else:
            self._asking.stop()

    def _make_room(self) -> None:
        # A request that comes in pieces counts from its connection too: were it spared, half-sent bodies could fill
        # every place, and each client that comes after would be hung up on.
        others = [each for each in self.connections if isinstance(each, PatientProtocol) and each.is_owing]
        min(others, key=lambda each: each._owing_since, default=self).transport.abort()


class _Alarm:
    """Calls something unless it is stopped in time. Mutable."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop, self._call = loop, call
        self._handle: asyncio.TimerHandle | None = None
        self._what = ""

    def set(self, what: str, seconds: float) -> None:
        """Begin to wait; while it waits for the same already, nothing changes."""
        if self._handle is not None and self._what == what:
            return
        self.stop()
        self._what, self._handle = what, self._loop.call_later(seconds, self._call)

    def stop(self) -> None:
        """Wait no longer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def http_protocol(patience: Patience) -> type[asyncio.Protocol]:
    """The protocol with limits of one's own."""
    return type("HttpProtocol", (PatientProtocol,), {"patience": patience})


def server_of(app: Any, host: str, port: int, patience: Patience | None = None) -> uvicorn.Server:
    """A server for an app, not yet running."""
    config = uvicorn.Config(
        app, host=host, port=port, http=http_protocol(patience or Patience()), log_level="warning", access_log=False,
        ws="none", server_header=False, proxy_headers=False, timeout_keep_alive=15, timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
    )  # fmt: skip
    redact("uvicorn.error", "asyncio")
    return uvicorn.Server(config)


def end(server: uvicorn.Server) -> None:
    """Let a server that runs in another thread come to its end at once: open connections are cut."""
    server.should_exit = True
    for each in list(server.server_state.connections):
        if isinstance(each, PatientProtocol):
            with contextlib.suppress(RuntimeError):  # it has ended by itself meanwhile
                each.loop.call_soon_threadsafe(each.transport.abort)
