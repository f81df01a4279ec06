"""Requests that run side by side on one model, joining and leaving between steps.

What comes new is read by itself, a chunk between two steps of the others, and then joins them.
"""

from collections.abc import Mapping, Sequence

from monoscope.model.transformer import LanguageModel
from monoscope.steer.group import Draw, Group, Row
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
        return self._end({number: "cancelled"})[0] if number in self._replies else None

    def _join(self, arriving: Group) -> None:
        self._arriving = None
        if self._running is None:
            self._running = arriving
        else:
            self._running.take_in(arriving)

    def _tell(self, draws: Sequence[Draw]) -> list[Event]:
        """What the draws make of the replies; those that are over leave together, as each leaving costs a new plan."""
        events, over = [], {}
        for draw in draws:
            reply = self._replies[draw.number]
            event = reply.push(draw.token, draw.sound, draw.logprob)
            events += [event] if event is not None else []
            if reply.over is not None:
                over[draw.number] = reply.over
        return events + self._end(over)

    def _end(self, reasons: Mapping[int, str]) -> list[Event]:
        """Requests that are at work end, each for its reason."""
        gone: dict[int, Row] = {}
        for group in (self._running, self._arriving):
            if group is not None:
                gone |= group.leave(reasons.keys(), wipe="numbers" in reasons.values())
        self._running = _unless_empty(self._running)
        self._arriving = _unless_empty(self._arriving)
        events = []
        for number, reason in reasons.items():
            reply, row = self._replies.pop(number), gone[number]
            events.append(reply.finish(reason, row.proof(), tuple(row.prompt_logprobs), row.report()))
        return events


def _unless_empty(group: Group | None) -> Group | None:
    return group if group is not None and group.rows else None
