"""Those who read the residual while texts are generated, and may stop one before the offending token leaves.

A drawn token is read in the pass in which it is fed back. So an engine that holds back tells each token one pass late,
and feeds the last one too; what the model says after that is thrown away.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.site import Site
from monoscope.model.transformer import LanguageModel
from monoscope.steer.request import BoundRequest

_log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Reads the residual at its site while texts are generated, and may stop one.

    Numbers of requests are those of one engine; a watcher belongs to one engine at a time. Everything is called from
    the engine's thread, while others wait for the model.

    If one that holds back raises, the engine fails and tells nothing more. Of one that does not, the first failure is
    written to the log and the engine goes on.
    """

    @property
    def site(self) -> Site:
        """Where it reads."""
        ...

    @property
    def holds_back(self) -> bool:
        """Whether each drawn token waits until it has been read. If one watcher wants it, all texts wait."""
        ...

    def begin(self, number: int, request: BoundRequest) -> None:
        """A request comes."""
        ...

    def observe(
        self,
        numbers: Sequence[int],
        positions: Int[Tensor, "rows length"],
        x: Float[Tensor, "rows length d_model"],
    ) -> Mapping[int, int]:
        """Read the next tokens of some requests; the requests to be stopped, each with its first token that must not
        leave.

        Called once a pass; each token of prompt and reply comes once and in order, the last of a reply only where
        tokens are held back. Positions count from 0 through the rendered prompt and on through the reply; those of
        padding are negative. `x` is as it was before any edit at this site, is not to be written to, and may not be
        finite: whoever compares a NaN with a threshold finds nothing. A stop at a token that has left already ends the
        text at once, and the `Generation` ends before that token.
        """
        ...

    def end(self, number: int) -> tuple[object, ...]:
        """The request is over, however it ended: what was seen, for `Generation.alerts`. Called once for each begin."""
        ...


@runtime_checkable
class Listener(Protocol):
    """A watcher that also wants to know which tokens it reads."""

    def hear(
        self, numbers: Sequence[int], ids: Int[Tensor, "rows length"], positions: Int[Tensor, "rows length"]
    ) -> None:
        """The tokens of the next pass, before it; what stands at negative positions is padding."""
        ...


class Watching:
    """All watchers of one engine: tells them of requests and passes, and gathers whom they stop. Mutable.

    Raises
        SiteNotFound  the model has no such site.
    """

    def __init__(self, model: LanguageModel, watchers: Sequence[Watcher] = ()) -> None:
        self._model, self._watchers = model, tuple(watchers)
        self._sites = tuple(dict.fromkeys(watcher.site for watcher in watchers))
        for site in self._sites:
            model.check_site(site)
        self.holds_back = any(watcher.holds_back for watcher in watchers)
        self._listeners = [(watcher, watcher) for watcher in self._watchers if isinstance(watcher, Listener)]
        self._begun: dict[int, list[Watcher]] = {}
        self._stops: dict[int, int] = {}
        self._failed: list[Watcher] = []

    def begin(self, number: int, request: BoundRequest) -> None:
        """A request comes."""
        begun = self._begun[number] = []
        for watcher in self._watchers:
            begun.append(watcher)
            with self._sparing(watcher):
                watcher.begin(number, request)

    def end(self, number: int) -> tuple[object, ...]:
        """A request is over: what all watchers saw of it, in their order."""
        begun, seen = self._begun[number], []
        while begun:
            watcher = begun.pop(0)
            with self._sparing(watcher):
                seen += watcher.end(number)
        del self._begun[number]
        return tuple(seen)

    def close(self) -> None:
        """All requests are over, and nobody wants to know what was seen."""
        for number, begun in self._begun.items():
            for watcher in begun:
                try:
                    watcher.end(number)
                except Exception as error:
                    self._note(watcher, error)
        self._begun.clear()

    def hook(
        self,
        hooks: contextlib.ExitStack,
        numbers: Sequence[int],
        ids: Int[Tensor, "rows length"],
        positions: Int[Tensor, "rows length"],
    ) -> None:
        """Let the watchers read the next pass of the model, in which these requests are its rows."""
        for watcher, listener in self._listeners:
            with self._sparing(watcher):
                listener.hear(numbers, ids, positions)
        for site in self._sites:
            look = self._looker(site, numbers, positions)
            hooks.enter_context(self._model.changing(site, look))

    def stops(self) -> dict[int, int]:
        """Requests that have been stopped since the last call, each with its first token that must not leave."""
        found, self._stops = self._stops, {}
        return found

    def _looker(self, site: Site, numbers: Sequence[int], positions: Tensor) -> Callable[[Tensor], Tensor]:
        here = [watcher for watcher in self._watchers if watcher.site == site]

        def look(x: Tensor) -> Tensor:
            seen = x.float()
            for watcher in here:
                with self._sparing(watcher):
                    self._gather(watcher.observe(numbers, positions, seen), numbers)
            return x

        return look

    def _gather(self, stops: Mapping[int, int], numbers: Sequence[int]) -> None:
        for number, position in stops.items():
            if number not in numbers:
                raise BadRequest(f"A watcher stops request {number}, of which it was shown nothing in this pass.")
            first = self._stops.get(int(number), int(position))
            self._stops[int(number)] = min(first, int(position))

    @contextlib.contextmanager
    def _sparing(self, watcher: Watcher) -> Iterator[None]:
        """Lets the failure of a watcher pass only where it holds back."""
        try:
            yield
        except Exception as error:
            if watcher.holds_back:
                raise
            self._note(watcher, error)

    def _note(self, watcher: Watcher, error: Exception) -> None:
        if not any(watcher is other for other in self._failed):
            self._failed.append(watcher)
            _log.error("a watcher failed with %s", type(error).__name__)
