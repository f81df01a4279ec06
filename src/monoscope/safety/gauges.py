"""The running scores of several detectors over many texts at once: what `detector.Running` is for one and one.

All features that any detector wants are read by one matrix product. A detector's channels (`safety.detector`) stand in
columns that detectors of one manner share, and each text has a row, its slot. A slot has two clocks: the tokens of
all that was said, and those of the reply; each channel listens to one of them.

Sums go in another order than in `detector.Running`, so scores agree to the rounding of float64 and not to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.dictionary.base import Dictionary
from monoscope.safety.detector import Detector

SAID, REPLY = 0, 1
_MAX, _MEAN, _ROLLING = 0, 1, 2
_KINDS = {"max": _MAX, "mean": _MEAN, "rolling": _ROLLING}


@dataclass(frozen=True, order=True)
class _Channel:
    """How a column of the product is pooled. `window` is 0 but for a rolling mean."""

    kind: int
    window: int
    clock: int
    squash: bool
    column: int


@dataclass(frozen=True)
class Scored:
    """What one token of each of some texts, or some tokens of one text, made of the scores.

    `values` are the pooled and squashed channels that the scores are made of; `seen` the tokens that each detector has
    read by then.
    """

    scores: Float[Tensor, "rows detectors"]
    seen: Float[Tensor, "rows detectors"]
    values: Float[Tensor, "rows channels"]


class Gauges:
    """Slots with the pooled channels of texts. Mutable: `step` and `take` read on.

    Raises
        BadRequest  the dictionary cannot read one feature without all others, or a detector has nothing to read.
    """

    def __init__(self, detectors: Sequence[Detector], clocks: Sequence[int], dictionary: Dictionary) -> None:
        check_readable(dictionary)
        self._product = _Product(detectors, dictionary)
        wanted = [
            _channels_of(detector, clock, number, self._product)
            for number, (detector, clock) in enumerate(zip(detectors, clocks, strict=True))
        ]
        order = sorted({channel for channels in wanted for channel, _ in channels})
        place = {channel: number for number, channel in enumerate(order)}
        self._weights = torch.zeros(len(order), len(detectors), dtype=torch.double)
        for number, channels in enumerate(wanted):
            for channel, weight in channels:
                self._weights[place[channel], number] = weight
        self._bias = torch.tensor([detector.bias for detector in detectors], dtype=torch.double)
        self._clocks = torch.tensor(list(clocks), dtype=torch.long)
        self._lay_out(order)
        self._state = torch.zeros(0, len(order), dtype=torch.double)
        self._seen = torch.zeros(0, 2, dtype=torch.double)
        # One row more than the longest window needs: what must not be kept is written there.
        self._ring = torch.zeros(0, 1, len(order) - self._first_rolling, dtype=torch.double)
        self._free: list[int] = []

    def _lay_out(self, order: Sequence[_Channel]) -> None:
        """Maxima first, then means, then rolling means: each kind is a slice."""
        columns = [channel.column for channel in order]
        self._columns = None if columns == list(range(self._product.width)) else torch.tensor(columns)
        self._first_sum = sum(channel.kind == _MAX for channel in order)
        self._first_rolling = sum(channel.kind != _ROLLING for channel in order)
        sums, rolling = order[self._first_sum :], order[self._first_rolling :]
        self._clock_of_sum = torch.tensor([channel.clock for channel in sums], dtype=torch.long)
        self._most = torch.tensor([channel.window or torch.inf for channel in sums], dtype=torch.double)
        self._window = torch.tensor([channel.window for channel in rolling], dtype=torch.long)
        self._clock_of_rolling = torch.tensor([channel.clock for channel in rolling], dtype=torch.long)
        self._rolling = torch.arange(len(rolling))
        self._squash = torch.tensor([channel.squash for channel in order])
        self._squash_all = bool(self._squash.all())
        self._of_said = torch.tensor([channel.clock == SAID for channel in order])
        self._feature = [self._product.feature(channel.column) for channel in order]

    # --- slots ---

    def open(self, tokens: int) -> int:
        """A slot for a text of at most so many tokens, where nothing has been read."""
        if not self._free:
            self._grow()
        longest = min(tokens, int(self._window.max())) if len(self._window) else 0
        if self._ring.shape[1] <= longest:
            more = self._ring.new_zeros(len(self._ring), longest + 1 - self._ring.shape[1], self._ring.shape[2])
            self._ring = torch.cat([self._ring[:, :-1], more, self._ring[:, :1]], dim=1)
        slot = self._free.pop()
        self._state[slot], self._seen[slot], self._ring[slot] = 0, 0, 0
        return slot

    def close(self, slot: int) -> None:
        """Give a slot back."""
        self._free.append(slot)

    def _grow(self) -> None:
        have = len(self._state)
        more = max(8, have)
        for name in ("_state", "_seen", "_ring"):
            old = getattr(self, name)
            setattr(self, name, torch.cat([old, old.new_zeros(more, *old.shape[1:])]))
        self._free += range(have + more - 1, have - 1, -1)

    # --- reading ---

    def read(self, x: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens columns"]:
        """All features and projections of some tokens; NaN where the residual is not finite."""
        return self._product.read(x)

    def step(self, slots: Int[Tensor, "texts"], read: Float[Tensor, "texts columns"]) -> Scored:
        """The next token of the reply of some texts."""
        new = read if self._columns is None else read.index_select(1, self._columns)
        state = self._state.index_select(0, slots)
        seen = self._seen.index_select(0, slots).add_(1)
        first = self._first_sum
        if first:
            torch.maximum(state[:, :first], new[:, :first], out=state[:, :first])
        if first < state.shape[1]:
            state[:, first:] += new[:, first:]
        if len(self._window):
            state[:, self._first_rolling :] -= self._evict(slots, seen, new[:, self._first_rolling :])
        self._state.index_copy_(0, slots, state)
        self._seen.index_copy_(0, slots, seen)
        return self._weigh(state, seen)

    def take(self, slot: int, read: Float[Tensor, "tokens columns"]) -> Scored:
        """The next tokens of the prompt of one text."""
        new = read if self._columns is None else read.index_select(1, self._columns)
        new = torch.where(self._of_said, new, 0.0)
        before = self._seen[slot].clone()
        first, rolling = self._first_sum, self._first_rolling
        gain = new[:, first:].clone()
        if len(self._window):
            gain[:, rolling - first :] -= self._evict_many(slot, before, new[:, rolling:])
        begin = self._state[slot][None]
        peaks = torch.cat([begin[:, :first], new[:, :first]]).cummax(0).values[1:]
        sums = torch.cat([begin[:, first:], gain]).cumsum(0)[1:]
        state = torch.cat([peaks, sums], dim=1)
        ticks = torch.arange(1, len(new) + 1, dtype=torch.double)
        seen = torch.stack([before[SAID] + ticks, before[REPLY].expand(len(new))], dim=1)
        self._state[slot], self._seen[slot] = state[-1], seen[-1]
        return self._weigh(state, seen)

    def now(self, slot: int) -> Scored:
        """The scores of a text as they stand."""
        return self._weigh(self._state[slot][None], self._seen[slot][None])

    def shares(self, values: Float[Tensor, "channels"], detector: int) -> list[tuple[int, float]]:
        """What each feature added to a score, the largest first."""
        parts = (values * self._weights[:, detector]).tolist()
        found = [
            (feature, part) for feature, part in zip(self._feature, parts, strict=True) if feature is not None and part
        ]
        return sorted(found, key=lambda each: -each[1])

    def _weigh(self, state: Float[Tensor, "rows channels"], seen: Float[Tensor, "rows 2"]) -> Scored:
        first = self._first_sum
        pooled = state
        if first < state.shape[1]:
            among = torch.minimum(seen.index_select(1, self._clock_of_sum), self._most).clamp_(min=1)
            sums = state[:, first:] / among
            pooled = torch.cat([state[:, :first], sums], dim=1) if first else sums
        values = pooled.log1p() if self._squash_all else torch.where(self._squash, pooled.log1p(), pooled)
        scores = torch.addmm(self._bias, values, self._weights)
        return Scored(scores, seen.index_select(1, self._clocks), values)

    def _evict(self, slots: Tensor, seen: Tensor, new: Tensor) -> Tensor:
        """What leaves each rolling window as a token enters; before the window is full it is nothing."""
        place = torch.remainder(seen.index_select(1, self._clock_of_rolling).long() - 1, self._window)
        where = (slots[:, None], place, self._rolling)
        old = self._ring[where]
        self._ring[where] = new
        return old

    def _evict_many(self, slot: int, before: Tensor, new: Tensor) -> Tensor:
        """The same for several tokens of one text, one after another."""
        ring, count = self._ring[slot], len(new)
        start = before.index_select(0, self._clock_of_rolling).long()
        at = torch.arange(count)[:, None]
        leaving = at + start - self._window
        of_new = new.gather(0, (leaving - start).clamp(min=0))
        of_old = ring.gather(0, torch.remainder(leaving, self._window).clamp(max=len(ring) - 1))
        old = torch.where(leaving >= start, of_new, torch.where(leaving >= 0, of_old, 0.0))
        # Of more tokens than a window holds only the last are kept.
        kept = at >= count - self._window
        ring.scatter_(0, torch.where(kept, torch.remainder(at + start, self._window), len(ring) - 1), new)
        return old


class _Product:
    """Everything that detectors read of a token, as one matrix product. Mutable: it follows the residual's device."""

    def __init__(self, detectors: Sequence[Detector], dictionary: Dictionary) -> None:
        self._features = sorted({feature for detector in detectors for feature in detector.features.tolist()})
        self._column = {feature: number for number, feature in enumerate(self._features)}
        probes = [(number, each) for number, each in enumerate(detectors) if each.probe is not None]
        self._probe = {number: len(self._features) + place for place, (number, _) in enumerate(probes)}
        chosen, weights = torch.tensor(self._features, dtype=torch.long), dictionary.weights
        rows = [dictionary.encoder_rows[chosen].float().cpu()]
        rows += [each.probe.float()[None] for _, each in probes if each.probe is not None]
        bias = [weights.b_enc[chosen].float().cpu(), torch.tensor([each.probe_bias for _, each in probes]).float()]
        floor = torch.zeros(len(chosen)) if weights.threshold is None else weights.threshold[chosen].float().cpu()
        self._rows, self._bias = torch.cat(rows).T.contiguous(), torch.cat(bias)
        # A feature fires above its threshold and above 0; a projection is read as it is.
        self._floor = torch.cat([floor.clamp(min=0), torch.full((len(probes),), -torch.inf)])
        self.width = len(self._bias)

    def column(self, feature: int) -> int:
        """Where a feature is read."""
        return self._column[feature]

    def probe_column(self, detector: int) -> int:
        """Where a detector's projection is read."""
        return self._probe[detector]

    def feature(self, column: int) -> int | None:
        """The feature of a column; None for a projection."""
        return self._features[column] if column < len(self._features) else None

    def read(self, x: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens columns"]:
        if x.device != self._rows.device:
            self._rows, self._bias, self._floor = (each.to(x.device) for each in (self._rows, self._bias, self._floor))
        pre = torch.addmm(self._bias, x, self._rows)
        # What is no number stays none: 0 times it is not 0.
        return (pre * (pre > self._floor)).cpu().double()


def _channels_of(detector: Detector, clock: int, number: int, product: _Product) -> list[tuple[_Channel, float]]:
    """The channels of one detector with their weights."""
    kind = _KINDS[detector.statistic]
    window = detector.window if kind == _ROLLING else 0
    pairs = zip(detector.features.tolist(), detector.weights.tolist(), strict=True)
    found = [
        (_Channel(kind, window, clock, detector.squash, product.column(feature)), weight) for feature, weight in pairs
    ]
    if detector.probe is not None:
        pooled = _MEAN if kind == _MAX else kind
        found.append((_Channel(pooled, window, clock, False, product.probe_column(number)), detector.probe_weight))
    return found


def check_readable(dictionary: Dictionary) -> None:
    """Agree that features can be read one by one.

    Raises
        BadRequest  whether one fires depends on all others.
    """
    if not dictionary.reads_alone:
        raise BadRequest(
            f"Dictionary {dictionary.name} is a {dictionary.architecture}, where a feature cannot be read without all "
            "others; watch with a dictionary that has thresholds, such as batchtopk or jumprelu."
        )
