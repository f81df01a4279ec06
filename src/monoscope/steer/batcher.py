"""One model for everybody: a thread runs the requests of all callers side by side, and callers read their events.

Requests join and leave between steps, each with its own edits. A caller who leaves frees the row before the next step.
The queue is bounded: whoever finds it full is told at once. When a step fails, those at work are told so, and the next
requests begin on a clean state.
"""

import itertools
import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from monoscope.core.errors import Busy, MonoscopeError, Unavailable
from monoscope.core.runtime import release_threads
from monoscope.model.transformer import LanguageModel
from monoscope.steer.request import BoundRequest, Dictionaries, Event, Request, bind_request
from monoscope.steer.rows import Rows
from monoscope.steer.watching import Watcher

MOST_ROWS, MOST_WAITING = 32, 256
# Prompts are read together up to this many tokens, padding included; more would keep the others waiting for long.
_READ_TOKENS = 8192

_log = logging.getLogger(__name__)


class Ticket:
    """One request's place. Safe to use from any thread; mutable."""

    def __init__(self, number: int, request: BoundRequest, leave: Callable[["Ticket"], None]) -> None:
        self.number, self.request = number, request
        self._leave = leave
        self._events: queue.SimpleQueue[Event | MonoscopeError] = queue.SimpleQueue()
        self._listener: Callable[[], None] | None = None
        self._over = False

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None when so many seconds are over, or when there will be none.

        Raises
            Unavailable  the model failed while it worked on this.
        """
        if self._over and self._events.empty():
            return None
        try:
            found = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(found, MonoscopeError):
            self._over = True
            raise found
        self._over = found.done is not None
        return found

    def __iter__(self) -> Iterator[Event]:
        """All events until the one with the whole generation; raises like `get`."""
        while True:
            event = self.get()
            if event is None:
                return
            yield event

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this whenever there is news, from the model's thread, and once now: it must be quick and never raise."""
        self._listener = listener
        listener()

    def cancel(self) -> None:
        """Leave: the row is free before the next step. Any number of times, from any thread."""
        self._leave(self)

    def put(self, news: Event | MonoscopeError) -> None:
        """For the batcher: hand over an event, or what went wrong."""
        self._events.put(news)
        if self._listener is not None:
            self._listener()


class Batcher:
    """Runs one model in a thread of its own. Mutable; safe to use from any thread.

    `most_rows` requests run side by side, `most_waiting` wait. What a step costs grows little with the rows, as the
    weights are read once for all. `watchers` read along, called from that thread.

    Raises
        SiteNotFound  a watcher reads where the model has no such site.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        watchers: Sequence[Watcher] = (),
        most_rows: int = MOST_ROWS,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._model, self._watchers, self._most_rows, self._most_waiting = model, watchers, most_rows, most_waiting
        rows = Rows(model, watchers)
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: dict[int, Ticket] = {}
        self._leaving: deque[Ticket] = deque()
        self._closed = False
        self._counts: Counter[str] = Counter()
        release_threads()  # whoever made this may have loaded the model, and computes no more; the thread does
        self._thread = threading.Thread(target=self._work, args=(rows,), name="batcher", daemon=True)
        self._thread.start()

    def submit(self, dictionaries: Dictionaries, requests: Sequence[Request]) -> list[Ticket]:
        """Queue up some requests, all or none.

        Raises
            BadRequest, BadEdit, FeatureNotFound  as `bind_request` says.
            Busy         the queue is full.
            Unavailable  the batcher was closed, or its thread died.
        """
        bound = [bind_request(self._model, dictionaries, request) for request in requests]
        with self._changed:
            if self._closed or self.failed:
                raise Unavailable("The model is not running any more; start the server again.")
            if len(self._waiting) + len(bound) > self._most_waiting:
                self._counts["refused_total"] += 1
                raise Busy("The model is answering others and the queue is full; try again in a few seconds.")
            tickets = [Ticket(next(self._numbers), request, self._cancel) for request in bound]
            self._waiting.extend(tickets)
            self._counts["requests_total"] += len(tickets)
            self._changed.notify()
        return tickets

    def ahead(self, ticket: Ticket) -> int | None:
        """How many wait before this one; None once it is at work or over."""
        with self._changed:
            return self._waiting.index(ticket) if ticket in self._waiting else None

    def counts(self) -> dict[str, float]:
        """How many are active and waiting now, and totals since the start, by flat names."""
        with self._changed:
            totals = {name: float(count) for name, count in self._counts.items()}
            return {"active": float(len(self._running)), "waiting": float(len(self._waiting)), **totals}

    @property
    def failed(self) -> bool:
        """Whether its thread died; nothing will be answered any more."""
        return not self._closed and not self._thread.is_alive()

    def close(self) -> None:
        """End the thread; whoever waits is told."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(10)

    def _cancel(self, ticket: Ticket) -> None:
        with self._changed:
            self._leaving.append(ticket)
            self._changed.notify()

    def _work(self, rows: Rows) -> None:
        try:
            while not self._closed:
                leaving, newcomers = self._wait(rows)
                try:
                    self._turn(rows, leaving, newcomers)
                except Exception as error:
                    _log.error("a step of the model failed with %s", type(error).__name__)
                    self._fail("The model failed while it worked on this request; try again.")
                    rows.close()
                    rows = Rows(self._model, self._watchers)
        finally:
            self._fail("The model is not running any more; start the server again.", everybody=True)
            rows.close()

    def _wait(self, rows: Rows) -> tuple[list[Ticket], list[Ticket]]:
        """Sleep until there is something to do; who leaves, and who is admitted."""
        with self._changed:
            while not (self._closed or rows.count or self._waiting or self._leaving):
                release_threads()  # others may want to compute meanwhile
                self._changed.wait()
            leaving = list(self._leaving)
            self._leaving.clear()
            gone = {ticket.number for ticket in leaving}
            newcomers = [] if rows.reading else self._newcomers(rows.count, gone)
            self._running |= {ticket.number: ticket for ticket in newcomers}
            return leaving, newcomers

    def _newcomers(self, busy: int, gone: set[int]) -> list[Ticket]:
        """Those who have waited longest, as many as there is room for."""
        chosen: list[Ticket] = []
        longest = 0
        while self._waiting and busy + len(chosen) < self._most_rows:
            longest = max(longest, len(self._waiting[0].request.prompt_ids))
            if chosen and longest * (len(chosen) + 1) > _READ_TOKENS:
                break
            ticket = self._waiting.popleft()
            if ticket.number not in gone:
                chosen.append(ticket)
        return chosen

    def _turn(self, rows: Rows, leaving: Sequence[Ticket], newcomers: Sequence[Ticket]) -> None:
        rows.admit([(ticket.number, ticket.request) for ticket in newcomers])
        for ticket in leaving:
            event = rows.cancel(ticket.number)
            if event is not None:
                self._tell(event)
            self._forget(ticket)
        if not rows.count:
            return
        events = rows.step()
        self._count("steps_total", 1)
        self._count("tokens_total", sum(event.token is not None for event in events))
        for event in events:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        ticket = self._running.get(event.request)
        if ticket is None:
            return
        if event.done is not None:
            with self._changed:
                del self._running[event.request]
                self._counts[f"finished_{event.done.finish_reason}_total"] += 1
                self._counts["prompt_tokens_total"] += len(ticket.request.prompt_ids)
        ticket.put(event)

    def _forget(self, ticket: Ticket) -> None:
        """Take one who left out of the queue, if it still stood there."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def _fail(self, sentence: str, *, everybody: bool = False) -> None:
        with self._changed:
            lost = [*self._running.values(), *(self._waiting if everybody else ())]
            self._running.clear()
            if everybody:
                self._waiting.clear()
            self._counts["failures_total"] += len(lost)
        for ticket in lost:
            ticket.put(Unavailable(sentence))

    def _count(self, name: str, amount: int) -> None:
        with self._changed:
            self._counts[name] += amount
