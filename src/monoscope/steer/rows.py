"""Requests that run side by side on one model, joining and leaving between steps.

What comes new is read by itself, a chunk between two steps of the others, and then joins them.
"""

from collections.abc import Mapping, Sequence

from monoscope.model.transformer import LanguageModel
from monoscope.steer.group import Draw, Group, Row
from monoscope.steer.reply import FILTERED, Reply
from monoscope.steer.request import BoundRequest, Event
from monoscope.steer.watching import Watcher, Watching


class Rows:
    """All requests at work on a model. Mutable; for one thread.

    Raises
        SiteNotFound  a watcher reads where the model has no such site.
    """

    def __init__(self, model: LanguageModel, watchers: Sequence[Watcher] = ()) -> None:
        self._model, self._watching = model, Watching(model, watchers)
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
        for number, request in entries:
            self._watching.begin(number, request)
        if entries:
            self._arriving = Group(self._model, entries, self._watching)
            hold = self._watching.holds_back
            self._replies |= {
                number: Reply(number, self._model, request, holds_back=hold) for number, request in entries
            }

    def step(self) -> list[Event]:
        """One token for each running request, one chunk of the prompts that are read, and the news of both.

        If it raises, these rows are not to be used any more but to `close` them.
        """
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

    def close(self) -> None:
        """All requests end, and nobody is told but the watchers."""
        self._watching.close()

    def _join(self, arriving: Group) -> None:
        self._arriving = None
        if self._running is None:
            self._running = arriving
        else:
            self._running.take_in(arriving)

    def _tell(self, draws: Sequence[Draw]) -> list[Event]:
        """What the pass, read by the watchers, and its draws make of the replies; those that are over leave together,
        as each leaving costs a new plan."""
        events, over = [], self._stopped()
        for draw in draws:
            reply = self._replies[draw.number]
            event = reply.push(draw.token, draw.sound, draw.logprob) if reply.over is None else None
            events += [event] if event is not None else []
            if reply.over is not None:
                over[draw.number] = reply.over
        # What a watcher stopped while it read its prompt may hold no sound numbers either.
        wipe = FILTERED in over.values() or not all(draw.sound for draw in draws)
        return events + self._end(over, wipe=wipe)

    def _stopped(self) -> dict[int, str]:
        """The requests that end as a watcher wants it, before anything is made of what was drawn for them."""
        over = {}
        for number, position in self._watching.stops().items():
            reply = self._replies[number]
            reply.bar(position)
            if reply.over is not None:
                over[number] = reply.over
        return over

    def _end(self, reasons: Mapping[int, str], *, wipe: bool = False) -> list[Event]:
        """Requests that are at work end, each for its reason."""
        gone: dict[int, Row] = {}
        for group in (self._running, self._arriving):
            if group is not None:
                gone |= group.leave(reasons.keys(), wipe=wipe)
        self._running = _unless_empty(self._running)
        self._arriving = _unless_empty(self._arriving)
        events = []
        for number, reason in reasons.items():
            reply, row = self._replies.pop(number), gone[number]
            alerts = self._watching.end(number)
            events.append(reply.finish(reason, row.proof(), tuple(row.prompt_logprobs), row.report(), alerts))
        return events


def _unless_empty(group: Group | None) -> Group | None:
    return group if group is not None and group.rows else None
