"""Requests that run side by side on one model, joining and leaving between steps.

What comes new is read by itself, a chunk between two steps of the others, and then joins them.
"""

from collections.abc import Sequence

from monoscope.model.transformer import LanguageModel
from monoscope.steer.group import Draw, Group
from monoscope.steer.reply import Reply
from monoscope.steer.request import BoundRequest, Event, Watch


class Rows:
    """All requests at work on a model. Mutable; for one thread."""

    def __init__(self, model: LanguageModel, watch: Watch | None = None) -> None:
        self._model, self._watch = model, watch
        self._running: Group | None = None
        self._arriving: Group | None = None
        self._replies: dict[int, Reply] = {}

    @property
    def count(self) -> int:
        """Requests at work."""
        return len(self._replies)

    @property
    def reading(self) -> bool:
        """Whether prompts are being read; nobody is to be admitted until that is over."""
        return self._arriving is not None

    def admit(self, entries: Sequence[tuple[int, BoundRequest]]) -> None:
        """Begin with some requests, each under a number of its own; not while others are being read."""
        if entries:
            self._arriving = Group(self._model, entries, self._watch)
            self._replies |= {number: Reply(number, self._model, request) for number, request in entries}

    def step(self) -> list[Event]:
        """One token for each running request, one chunk of the prompts that are read, and the news of both."""
        events = []
        if self._running is not None:
            events += self._tell(self._running.step())
        arriving = self._arriving
        if arriving is not None:
            draws = arriving.read_chunk()
            if not arriving.reading:
                self._join(arriving)
                events += self._tell(draws)
        return events

    def cancel(self, number: int) -> Event | None:
        """End a request now; None where it is over already."""
        return self._end(number, "cancelled") if number in self._replies else None

    def _join(self, arriving: Group) -> None:
        self._arriving = None
        if not arriving.rows:
            return
        if self._running is None:
            self._running = arriving
        else:
            self._running.take_in(arriving)

    def _tell(self, draws: Sequence[Draw]) -> list[Event]:
        events = []
        for draw in draws:
            reply = self._replies.get(draw.number)
            if reply is None:
                continue
            event = reply.push(draw.token, draw.sound, draw.logprob)
            events += [event] if event is not None else []
            if reply.over is not None:
                events.append(self._end(draw.number, reply.over))
        return events

    def _end(self, number: int, reason: str) -> Event:
        for group in (self._running, self._arriving):
            row = None if group is None else group.leave(number, wipe=reason == "numbers")
            if row is not None:
                break
        if self._running is not None and not self._running.rows:
            self._running = None
        if self._arriving is not None and not self._arriving.rows:
            self._arriving = None
        reply = self._replies.pop(number)
        if row is None:
            return reply.finish(reason)
        return reply.finish(reason, row.proof(), tuple(row.prompt_logprobs), row.report())
