"""A watcher that remembers what it was shown, and stops where it is told to."""

from collections import Counter
from collections.abc import Callable, Mapping

import torch

from monoscope.core.site import Site


class Scripted:
    """Stops a request once it reads the position that `stops` names for it. Its alerts are the positions it read.

    `then` is called with the number of the pass before anything else, and may raise.
    """

    def __init__(
        self,
        site: Site,
        stops: Mapping[int, int] | None = None,
        *,
        holds_back: bool = True,
        then: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.site, self.holds_back, self._stops, self._then = site, holds_back, stops or {}, then
        self.passes = 0
        self.begun: Counter[int] = Counter()
        self.ended: Counter[int] = Counter()
        self.seen: dict[int, list[int]] = {}
        self.x: dict[tuple[int, int], object] = {}

    def begin(self, number, request):
        self.begun[number] += 1
        self.seen[number] = []

    def observe(self, numbers, positions, x):
        self._then(self.passes)
        self.passes += 1
        assert x.dtype == torch.float32
        assert len(numbers) == len(set(numbers)) == len(positions) == len(x)
        found = {}
        for number, places, vectors in zip(numbers, positions.tolist(), x, strict=True):
            read = [place for place in places if place >= 0]
            self.seen[number] += read
            self.x |= {(number, place): vector for place, vector in zip(places, vectors, strict=True) if place >= 0}
            if self._stops.get(number) in read:
                found[number] = self._stops[number]
        return found

    def end(self, number):
        self.ended[number] += 1
        return tuple(self.seen[number])
