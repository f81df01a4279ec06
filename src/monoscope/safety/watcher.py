"""Monitors at work: they read along while texts are generated, tell of crossings, and hold back what must not leave.

What is read of a text is what `safety.reading` reads of it: everything said with part `said`, from the second token on,
without tokens of the chat template and sinks; generated tokens with `reply`; the last token of the prompt with `last`.
So a threshold that was set on texts holds for texts that are being written. An engine that does not hold back never
reads the last token of a reply.
"""

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.safety.alert import ACTIONS, MOST_FEATURES, STOPPING, Alert, Share
from monoscope.safety.gauges import REPLY, SAID, Gauges, Scored
from monoscope.safety.monitor import Monitor
from monoscope.steer.request import BoundRequest

_TOKENS_TOLD = 24
_CLOCKS = {"said": SAID, "reply": REPLY}


@dataclass(frozen=True)
class Post:
    """A monitor and what it does when it fires.

    Raises
        BadRequest  there is no such action, or the monitor has nothing to read.
    """

    monitor: Monitor
    action: str = "flag"

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise BadRequest(
                f"There is no action {self.action!r} for {self.monitor.name}; choose {', '.join(ACTIONS)}."
            )
        if not self.monitor.detector.channels:
            raise BadRequest(f"Monitor {self.monitor.name} has no feature and no probe left, so it can never fire.")


@dataclass(frozen=True)
class Draft:
    """Which reply a text is a draft of, and the number of the draft, from 0."""

    request: str
    number: int = 0

    @classmethod
    def fresh(cls) -> "Draft":
        """The first draft of a reply that has no name yet."""
        return cls(secrets.token_hex(8))


@dataclass
class _Text:
    """One text at work. Mutable. `said` are the prompt's tokens that count, without regard to sinks."""

    slot: int
    prompt_tokens: int
    said: list[bool]
    draft: Draft
    ids: list[int] = field(default_factory=list)
    last: int = -1
    fired: set[int] = field(default_factory=set)
    alerts: list[Alert] = field(default_factory=list)


class MonitorWatcher:
    """Monitors of one dictionary as a `steer.watching.Watcher`. Mutable; for one engine at a time.

    `tell` is called for each alert from the engine's thread, before the token can leave; `draft_of` says of a request
    which draft it is.

    Raises
        BadRequest  the dictionary cannot read one feature without all others, or two monitors have one name.
    """

    def __init__(
        self,
        posts: Sequence[Post],
        dictionary: Dictionary,
        *,
        tell: Callable[[Alert], None] = lambda _: None,
        draft_of: Callable[[BoundRequest], Draft | None] = lambda _: None,
    ) -> None:
        names = [post.monitor.name for post in posts]
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise BadRequest(f"Two monitors are named {twice}; give one of them another name.")
        self.posts, self._tell, self._draft_of = tuple(posts), tell, draft_of
        self._site, self._limit = dictionary.site, float(dictionary.stats.sink_limit)
        self._running = _Bench([post for post in posts if post.monitor.part in _CLOCKS], dictionary)
        self._last = _Bench([post for post in posts if post.monitor.part == "last"], dictionary)
        self._texts: dict[int, _Text] = {}
        self._seats: tuple[tuple[int, ...], Tensor] = ((), torch.zeros(0, dtype=torch.long))
        # With this, alerts carry the last tokens up to the crossing.
        self.decode: Callable[[list[int]], str] | None = None
        self.requests = 0
        self.counts: Counter[str] = Counter()

    @property
    def site(self) -> Site:
        """Where the dictionary reads."""
        return self._site

    @property
    def holds_back(self) -> bool:
        """Whether a monitor may stop a text."""
        return any(post.action in STOPPING for post in self.posts)

    def begin(self, number: int, request: BoundRequest) -> None:
        """A text comes."""
        if number in self._texts:
            self.end(number)
        tokens = len(request.prompt_ids)
        said = [place > 0 and not template for place, template in enumerate(request.template)]
        draft = self._draft_of(request) or Draft.fresh()
        slot = self._running.gauges.open(tokens + request.max_tokens)
        self._seats = (), self._seats[1][:0]
        self._texts[number] = _Text(slot, tokens, said, draft, list(request.prompt_ids) if self.decode else [])
        self.requests += 1

    def hear(
        self, numbers: Sequence[int], ids: Int[Tensor, "rows length"], positions: Int[Tensor, "rows length"]
    ) -> None:
        """The tokens of the next pass; they are kept only where alerts carry text."""
        if self.decode is None:
            return
        for number, row, places in zip(numbers, ids.tolist(), positions.tolist(), strict=True):
            text = self._texts[number]
            if text.ids and places[-1] == len(text.ids):
                text.ids.append(row[-1])

    @torch.no_grad()
    def observe(
        self,
        numbers: Sequence[int],
        positions: Int[Tensor, "rows length"],
        x: Float[Tensor, "rows length d_model"],
    ) -> Mapping[int, int]:
        """Read the next tokens; the texts to be stopped, each with the token that must not leave."""
        stops: dict[int, int] = {}
        places = positions.tolist()
        if len(places[0]) == 1 and all(
            row[0] >= self._texts[number].prompt_tokens for number, row in zip(numbers, places, strict=True)
        ):
            self._step(numbers, [row[0] for row in places], x[:, 0], stops)
        else:
            self._read_prompts(numbers, places, x, stops)
        return stops

    def end(self, number: int) -> tuple[Alert, ...]:
        """The text is over. One that is shorter than a monitor's warm-up is scored now, as it would be offline."""
        text = self._texts.pop(number)
        bench = self._running
        if bench.posts and text.last >= 0:
            scored = bench.gauges.now(text.slot)
            short = (scored.seen[0] > 0) & (scored.seen[0] < bench.warm_up)
            for place in torch.nonzero(short & ~(scored.scores[0] <= bench.threshold)).flatten().tolist():
                self._raise(bench, text, place, scored, 0, text.last, over=True)
        bench.gauges.close(text.slot)
        return tuple(text.alerts)

    # --- a token of each reply ---

    def _step(self, numbers: Sequence[int], places: Sequence[int], x: Tensor, stops: dict[int, int]) -> None:
        bench = self._running
        if not bench.posts:
            return
        read = bench.gauges.read(x)
        slots = self._slots(numbers)
        norms = torch.linalg.vector_norm(x, dim=1).tolist()
        kept = [row for row, norm in enumerate(norms) if self._counts(norm)]
        if len(kept) < len(norms):
            if not kept:
                return
            read, slots = read[kept], slots[kept]
            numbers, places, norms = ([values[row] for row in kept] for values in (numbers, places, norms))
        _spoil(read, norms)
        for number, place in zip(numbers, places, strict=True):
            self._texts[number].last = place
        scored = bench.gauges.step(slots, read)
        if bool((scored.scores <= bench.threshold).all()):
            return
        for row, place in torch.nonzero(bench.over(scored)).tolist():
            number = numbers[row]
            self._cross(bench, number, place, scored, row, places[row], stops)

    def _slots(self, numbers: Sequence[int]) -> Tensor:
        """Where the rows of a pass are kept; most passes have those of the last one."""
        if self._seats[0] != tuple(numbers):
            self._seats = tuple(numbers), torch.tensor([self._texts[number].slot for number in numbers])
        return self._seats[1]

    def _counts(self, norm: float) -> bool:
        """Whether a token is no sink. What is no number is none, so that it fires."""
        return not self._limit < norm < math.inf

    # --- prompts ---

    def _read_prompts(
        self, numbers: Sequence[int], places: Sequence[Sequence[int]], x: Tensor, stops: dict[int, int]
    ) -> None:
        norms = torch.linalg.vector_norm(x, dim=-1).tolist()
        for row, number in enumerate(numbers):
            text = self._texts[number]
            sound = [at for at, norm in enumerate(norms[row]) if places[row][at] > 0 and self._counts(norm)]
            said = [at for at in sound if self._is_said(text, places[row][at])]
            last = [at for at in sound if places[row][at] == text.prompt_tokens - 1]
            for bench, chosen in ((self._running, said), (self._last, last)):
                if bench.posts and chosen:
                    read = bench.gauges.read(x[row, chosen])
                    _spoil(read, [norms[row][at] for at in chosen])
                    self._take(bench, number, read, [places[row][at] for at in chosen], stops)

    @staticmethod
    def _is_said(text: _Text, place: int) -> bool:
        return place >= text.prompt_tokens or text.said[place]

    def _take(self, bench: "_Bench", number: int, read: Tensor, places: Sequence[int], stops: dict[int, int]) -> None:
        text = self._texts[number]
        text.last = places[-1]
        if bench is self._last:
            slot = bench.gauges.open(1)
            scored = bench.gauges.take(slot, read)
            bench.gauges.close(slot)
        else:
            scored = bench.gauges.take(text.slot, read)
        over = bench.over(scored)
        for place in torch.nonzero(over.any(0)).flatten().tolist():
            row = int(over[:, place].nonzero()[0])
            self._cross(bench, number, place, scored, row, places[row], stops)

    # --- crossings ---

    def _cross(  # noqa: PLR0913
        self,
        bench: "_Bench",
        number: int,
        place: int,
        scored: Scored,
        row: int,
        position: int,
        stops: dict[int, int],
    ) -> None:
        text, post = self._texts[number], bench.posts[place]
        if bench.key(place) in text.fired:
            return
        if post.action in STOPPING:
            stops[number] = min(position, stops.get(number, position))
        self._raise(bench, text, place, scored, row, position)

    def _raise(  # noqa: PLR0913
        self, bench: "_Bench", text: _Text, place: int, scored: Scored, row: int, position: int, *, over: bool = False
    ) -> None:
        if bench.key(place) in text.fired:
            return
        text.fired.add(bench.key(place))
        post, monitor = bench.posts[place], bench.posts[place].monitor
        in_prompt = position < text.prompt_tokens
        shares = bench.gauges.shares(scored.values[row], place)[:MOST_FEATURES]
        alert = Alert(
            id=secrets.token_hex(16),
            when=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            request=text.draft.request,
            draft=text.draft.number,
            monitor=monitor.name,
            action=post.action,
            score=float(scored.scores[row, place]),
            threshold=monitor.threshold,
            position=position,
            where="prompt" if in_prompt else "reply",
            token=position if in_prompt else position - text.prompt_tokens,
            stopped=post.action in STOPPING and not over,
            text=self.decode(text.ids[max(0, position + 1 - _TOKENS_TOLD) : position + 1]) if self.decode else None,
            features=tuple(Share(feature, share, monitor.labels.get(feature, "")) for feature, share in shares),
        )
        text.alerts.append(alert)
        self.counts[monitor.name] += 1
        self._tell(alert)


class _Bench:
    """Monitors that read the same tokens, with what their scores are held to."""

    def __init__(self, posts: Sequence[Post], dictionary: Dictionary) -> None:
        self.posts = tuple(posts)
        detectors = [post.monitor.detector for post in posts]
        # The last token of a prompt is one that is said, and the only one.
        clocks = [_CLOCKS.get(post.monitor.part, SAID) for post in posts]
        self.gauges = Gauges(detectors, clocks, dictionary)
        self.threshold = torch.tensor([post.monitor.threshold for post in posts], dtype=torch.double)
        # Part `last` has one token, however long the warm-up; so it is scored at its end.
        warm = [1 if post.monitor.part == "last" else post.monitor.detector.warm_up for post in posts]
        self.warm_up = torch.tensor(warm, dtype=torch.double)

    def over(self, scored: Scored) -> Tensor:
        """Which scores are above their threshold and past the warm-up; what is no number is above."""
        return ~(scored.scores <= self.threshold) & (scored.seen >= self.warm_up)

    def key(self, place: int) -> int:
        """What tells a monitor from all others."""
        return id(self.posts[place])


def _spoil(read: Tensor, norms: Sequence[float]) -> None:
    """A residual that is no number makes every score none, in place."""
    for row, norm in enumerate(norms):
        if not math.isfinite(norm):
            read[row] = math.nan
