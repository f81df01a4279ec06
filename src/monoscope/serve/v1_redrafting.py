"""Replies that break a principle are thrown away and written again, before anything of them has left.

Where the constitution may ask for that, a chat's replies are held until they are whole, also in a stream. A completion
has no system message in which a principle could be named: there the text ends before the offending token.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from monoscope.core.errors import BadRequest
from monoscope.safety.alert import Alert
from monoscope.safety.constitution import Principle, broken, may_redraft, next_draft, withheld
from monoscope.safety.watcher import Draft
from monoscope.serve.library import Library
from monoscope.serve.v1_asking import Asked
from monoscope.serve.v1_waiting import Waiting
from monoscope.steer.batcher import Ticket
from monoscope.steer.request import Event, Generation, Request


def heard(books: Library, asked: Asked, waiting: Waiting) -> AsyncIterator[tuple[int, Event]]:
    """What the client hears of each reply: as it comes, or once it is known to keep to the constitution.

    Raises
        Busy, Unavailable  as the batcher says.
    """
    return _held(books, asked, waiting) if asked.chat and books.patrol.redrafts else waiting.events()


async def _held(books: Library, asked: Asked, waiting: Waiting) -> AsyncIterator[tuple[int, Event]]:
    held: dict[int, list[Event]] = defaultdict(list)
    drafts = {number: _Drafts(request) for number, request in enumerate(asked.requests)}
    async for number, event in waiting.events():
        if event.done is None:
            held[number].append(event)
            continue
        draft, said = drafts[number], held.pop(number, [])
        fired = broken(books.patrol.principles, event.done.alerts)
        again = await run_in_threadpool(draft.again, books, asked, fired, event.done) if fired else None
        if again is not None:
            waiting.take(number, again)
            continue
        for each in said if not fired else ():
            yield number, each
        yield number, replace(event, text="" if fired else event.text, done=draft.last(event.done, fired=bool(fired)))


class _Drafts:
    """The drafts of one reply. Mutable."""

    def __init__(self, request: Request) -> None:
        self._request, self._count = request, 0
        self._alerts: list[object] = []
        self._fired: list[Principle] = []

    def again(self, books: Library, asked: Asked, fired: list[Principle], done: Generation) -> Ticket | None:
        """The place of another draft; None where there is to be none. For a thread: a template takes its time."""
        if not may_redraft(fired, done.alerts, self._count):
            return None
        try:
            request = next_draft(asked.model, asked.messages, [*self._fired, *fired], self._request)
            names = [alert.request for alert in done.alerts if isinstance(alert, Alert)]
            books.patrol.announce(request, Draft(names[0], self._count + 1))
            (ticket,) = books.batcher().submit(asked.dictionaries, [request])
        except BadRequest:  # no room for the principle, or an edit's scope reaches past the new prompt
            return None
        self._count += 1
        self._fired += fired
        self._alerts += done.alerts
        return ticket

    def last(self, done: Generation, *, fired: bool) -> Generation:
        """The reply that is told, with the alerts of all drafts. Another draft's prompt was not the client's."""
        whole = withheld(done) if fired else done
        if self._count:
            whole = replace(whole, report=tuple(replace(each, prompt=()) for each in whole.report))
        return replace(whole, alerts=(*self._alerts, *done.alerts))
