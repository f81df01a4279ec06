"""The engine's events, heard from the event loop: no thread waits, however many streams are open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from monoscope.steer.batcher import Ticket
from monoscope.steer.request import Event, Generation


class Waiting:
    """The tickets of one client. Made inside the event loop; whoever holds it must `leave`. Mutable."""

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self._tickets = list(tickets)
        self._running = dict(enumerate(self._tickets))
        self._left = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        for ticket in self._tickets:
            ticket.listen(self._wake)

    def take(self, number: int, ticket: Ticket) -> None:
        """Go on with another ticket in place of one that is done."""
        self._tickets.append(ticket)
        self._running[number] = ticket
        if self._left:
            ticket.cancel()
        ticket.listen(self._wake)

    def _wake(self) -> None:
        """Called from the model's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._news.set)

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """The number of a ticket and what it told, until all are done.

        Raises
            Unavailable  the model failed.
        """
        while self._running:
            await self._news.wait()
            self._news.clear()
            for number, ticket in list(self._running.items()):
                while (event := ticket.get(0)) is not None:
                    if event.done is not None:
                        del self._running[number]
                    yield number, event
                    if event.done is not None:
                        break

    def leave(self) -> None:
        """Give up all places; a second time does nothing."""
        self._left = True
        for ticket in self._tickets:
            ticket.cancel()


async def generations_of(events: AsyncIterator[tuple[int, Event]]) -> list[Generation]:
    """All finished replies, in order."""
    done = {number: event.done async for number, event in events if event.done is not None}
    return [done[number] for number in sorted(done)]


async def unless_gone(work: Awaitable[Any], receive: Callable[[], Awaitable[Any]]) -> Any:
    """What the work gives; None as soon as the client has left, and the work is cancelled."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
