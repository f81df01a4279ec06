"""What a monitor computes: channels of a token, pooled over the text so far, weighed into one score.

A channel is a feature's activation or a probe's projection. After each token every channel is pooled over what was read
(its largest value, its mean, or the mean of the last `window` tokens; a probe, which was fitted on means, is averaged
where features take their largest), features are squashed by log(1 + f) where the detector was fitted so, and

    score(t) = bias + sum of weight · channel(t)        score of a text = max of score(t) over t >= warm-up

A text shorter than the warm-up is scored at its end. Reading a text at once or token by token runs the same lines of
code, and all sums go in one order whatever the pieces: scores are equal to the last bit, so that a threshold set
offline holds for a stream.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.dictionary.base import Dictionary
from monoscope.safety.pooling import columns_of
from monoscope.safety.reading import Reading

STATISTICS = ("max", "mean", "rolling")
LONGEST = 100_000
# A rolling mean holds about this many numbers at once.
_PIECE = 1 << 20


@dataclass(frozen=True)
class Detector:
    """A calibrated score over few channels. Features come first, in the order of `features`, then the probe.

    `statistic` is how each channel is pooled; `window` is the length of a rolling mean; `warm_up` the number of tokens
    before which no alarm is raised.

    Raises
        BadRequest  the statistic is unknown, a length is not from 1 to 100,000, or a feature has no weight or two.
    """

    features: Int[Tensor, "features"]
    weights: Float[Tensor, "features"]
    bias: float
    statistic: str = "max"
    window: int = 16
    warm_up: int = 1
    squash: bool = True
    probe: Float[Tensor, "d_model"] | None = None
    probe_bias: float = 0.0
    probe_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise BadRequest(f"There is no statistic {self.statistic!r}; choose {', '.join(STATISTICS)}.")
        if not (1 <= self.window <= LONGEST and 1 <= self.warm_up <= LONGEST):
            raise BadRequest(
                f"window {self.window} and warm_up {self.warm_up} must be numbers of tokens from 1 to {LONGEST:,}."
            )
        if not len(self.features) == len(self.weights) == len(set(self.features.tolist())):
            raise BadRequest("A detector needs one weight for each of its features, and each feature once.")

    @property
    def channels(self) -> int:
        """How many numbers are pooled."""
        return len(self.features) + (self.probe is not None)

    def channels_of(
        self, dictionary: Dictionary, x: Float[Tensor, "tokens d_model"]
    ) -> Float[Tensor, "tokens channels"]:
        """The channels of some tokens, in float64."""
        parts = [dictionary.activations_of(x.float(), self.features)] if len(self.features) else []
        if self.probe is not None:
            parts.append((x.float() @ self.probe.float() + self.probe_bias)[:, None])
        return torch.cat(parts, dim=1).double() if parts else x.new_zeros(len(x), 0, dtype=torch.double)

    def read(self, reading: Reading) -> Float[Tensor, "tokens channels"]:
        """The same from a reading, whose features are known already."""
        parts = [columns_of(reading.code, self.features)] if len(self.features) else []
        if self.probe is not None:
            parts.append((reading.x.float() @ self.probe.float() + self.probe_bias)[:, None])
        return torch.cat(parts, dim=1).double() if parts else torch.zeros(len(reading.ids), 0, dtype=torch.double)

    def weigh(self, pooled: Float[Tensor, "*rows channels"]) -> Float[Tensor, "*rows"]:
        """The score of pooled channels, added up from the first to the last: a matrix product would round each row
        after the number of rows that it stands among."""
        count = len(self.features)
        features = pooled[..., :count].contiguous()
        parts = (features.log1p() if self.squash else features) * self.weights.double()
        begin = parts.new_full((*parts.shape[:-1], 1), self.bias)
        return torch.cat([begin, parts, self.probe_weight * pooled[..., count:]], dim=-1).cumsum(-1)[..., -1]

    def shares(self, pooled: Float[Tensor, "channels"]) -> list[tuple[int, float]]:
        """What each feature added to a score, the largest first: why an alarm was raised."""
        count = len(self.features)
        values = pooled[:count].log1p() if self.squash else pooled[:count]
        parts = (values * self.weights.double()).tolist()
        return sorted(zip(self.features.tolist(), parts, strict=True), key=lambda part: -part[1])


@dataclass
class Running:
    """The pooled channels of one text so far. Mutable: `advance` takes the next tokens in."""

    detector: Detector
    count: int = 0
    pooled: Float[Tensor, "channels"] = field(init=False)
    best: float = -torch.inf
    _carry: Float[Tensor, "rows channels"] = field(init=False)

    def __post_init__(self) -> None:
        width = self.detector.channels
        self.pooled = torch.zeros(width, dtype=torch.double)
        self._carry = torch.zeros(0, width, dtype=torch.double)

    def advance(self, channels: Float[Tensor, "tokens channels"]) -> Float[Tensor, "tokens"]:
        """The score after each of the next tokens."""
        if not len(channels):
            return torch.zeros(0, dtype=torch.double)
        pooled = self._pool(channels)
        scores = self.detector.weigh(pooled)
        self.count += len(channels)
        self.pooled = pooled[-1]
        due = scores[max(0, self.detector.warm_up - 1 - (self.count - len(channels))) :]
        if len(due):
            self.best = max(self.best, float(_worst(due)))
        return scores

    @property
    def score(self) -> float:
        """The score of the text so far."""
        return self.best if self.count >= self.detector.warm_up else float(self.detector.weigh(self.pooled))

    def _pool(self, channels: Float[Tensor, "tokens channels"]) -> Float[Tensor, "tokens channels"]:
        """The pooled channels after each token. Sums go token by token, so that the pieces they come in do not
        matter."""
        statistic = self.detector.statistic
        if statistic == "rolling":
            return self._roll(channels)
        whole = torch.cat([self._carry, channels])
        largest = len(self.detector.features) if statistic == "max" else 0
        total = torch.cat([whole[:, :largest].cummax(0).values, whole[:, largest:].cumsum(0)], dim=1)
        self._carry = total[-1:]
        total = total[len(whole) - len(channels) :]
        seen = torch.arange(self.count + 1, self.count + len(channels) + 1)[:, None]
        return torch.cat([total[:, :largest], total[:, largest:] / seen], dim=1)

    def _roll(self, channels: Float[Tensor, "tokens channels"]) -> Float[Tensor, "tokens channels"]:
        window, before = self.detector.window, len(self._carry)
        whole = torch.cat([self._carry, channels])
        padded = torch.cat([whole.new_zeros(window - 1, whole.shape[1]), whole])
        windows = padded.unfold(0, window, 1)[before:]
        rows = max(1, _PIECE // (window * max(1, whole.shape[1])))
        sums = torch.cat([piece.cumsum(-1)[..., -1] for piece in windows.split(rows)])
        seen = torch.arange(self.count + 1, self.count + len(channels) + 1).clamp(max=window)
        self._carry = whole[max(0, len(whole) - (window - 1)) :] if window > 1 else whole[:0]
        return sums / seen[:, None]


def _worst(scores: Float[Tensor, "tokens"]) -> Tensor:
    """The largest; what is no number counts as infinite, so that it is never passed over."""
    return torch.nan_to_num(scores, nan=torch.inf, neginf=-torch.inf, posinf=torch.inf).max()


def score_texts(detector: Detector, reading: Reading) -> Float[Tensor, "texts"]:
    """The score of each text."""
    channels = detector.read(reading)
    scores = []
    for first, last in zip(reading.starts[:-1].tolist(), reading.starts[1:].tolist(), strict=True):
        running = Running(detector)
        running.advance(channels[first:last])
        scores.append(running.score)
    return torch.tensor(scores, dtype=torch.double)


def score_tokens(detector: Detector, reading: Reading, text: int) -> Float[Tensor, "tokens"]:
    """The score after each token of one text."""
    first, last = int(reading.starts[text]), int(reading.starts[text + 1])
    return Running(detector).advance(detector.read(reading)[first:last])


def crosses(scores: Float[Tensor, "tokens"], threshold: float, warm_up: int, already: int) -> Bool[Tensor, "tokens"]:
    """After which tokens an alarm is due; `already` tokens were read before. What is no number counts as above."""
    seen = torch.arange(already + 1, already + len(scores) + 1)
    return ~(scores <= threshold) & (seen >= warm_up)
