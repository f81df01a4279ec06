"""The next token of each row, each row with settings and random draws of its own.

The order is Hugging Face's: repetition penalty (prompt and reply alike), temperature, top-p. One uniform draw a step
is turned into a token by the inverse of the distribution function over the kept tokens in order of their ids, so two
runs with one seed use the same draws whatever the logits are.

A batch and a single row differ in the last bits of their logits, which may swap two tokens of equal probability.
That must not change what is drawn: hence the order by id, and hence top-p also keeps the tokens that are as likely as
the last one kept, where Hugging Face keeps whichever of them sorting puts first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.runtime import numpy_stream

# Almost always the most probable tokens hold all the mass that top-p keeps; otherwise the whole row is sorted.
_CANDIDATES = 256
# Shares that differ by less than this part of themselves count as equal.
_TIE = 1e-5


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `temperature` 0 is greedy; `top_p` in 0 to 1; `repetition_penalty` 1 is none.

    Raises
        BadRequest  a setting is out of range.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    repetition_penalty: float = 1.1
    seed: int = 0

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0.0, 100.0)
        _check("top-p", self.top_p, 0.0, 1.0)
        _check("repetition penalty", self.repetition_penalty, 0.01, 100.0)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise BadRequest(f"The seed {self.seed!r} is not a whole number.")


class Sampler:
    """Draws for a batch. Mutable: it knows which tokens each row has seen, and how far its random stream is."""

    def __init__(
        self, settings: Sequence[Sampling], prompts: Sequence[Sequence[int]], vocab_size: int, device: torch.device
    ) -> None:
        self._streams: list[np.random.Generator] = [numpy_stream(each.seed, "sampling") for each in settings]
        self._temperature = _row_floats([each.temperature for each in settings], device)
        self._top_p = _row_floats([each.top_p for each in settings], device)
        self._penalty = _row_floats([each.repetition_penalty for each in settings], device)
        self._seen = torch.zeros(len(settings), vocab_size, dtype=torch.bool, device=device)
        for row, prompt in enumerate(prompts):
            self._seen[row, torch.tensor(list(prompt), device=device)] = True
        self._note()

    def join(self, other: "Sampler") -> None:
        """Take in the rows of another, behind one's own."""
        self._streams += other._streams
        for name in ("_temperature", "_top_p", "_penalty", "_seen"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self._note()

    def arrange(self, order: Sequence[int]) -> None:
        """Put row `order[i]` in place i; rows that are not named leave."""
        self._streams = [self._streams[row] for row in order]
        rows = torch.tensor(order, dtype=torch.long, device=self._seen.device)
        for name in ("_temperature", "_top_p", "_penalty", "_seen"):
            setattr(self, name, getattr(self, name)[rows])
        self._note()

    def _note(self) -> None:
        """Which of the steps of a draw some row needs."""
        self._penalised, self._random = bool((self._penalty != 1).any()), bool((self._temperature > 0).any())

    def draw(self, logits: Float[Tensor, "rows vocab"]) -> tuple[Int[Tensor, "rows"], Bool[Tensor, "rows"]]:
        """The next token of each row, and whether its logits were sound numbers."""
        scores = logits.float()
        if self._penalised:
            penalised = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
            scores = torch.where(self._seen[:, : scores.shape[1]], penalised, scores)
        best, tokens = scores.max(dim=-1)
        sound = torch.isfinite(best)
        if self._random:
            tokens = torch.where(self._temperature[:, 0] > 0, self._sample(scores, best, tokens), tokens)
        tokens = torch.where(sound, tokens, 0)
        if self._penalised:
            self._seen.scatter_(1, tokens[:, None], True)
        return tokens, sound

    def _sample(self, scores: Tensor, best: Tensor, greedy: Tensor) -> Tensor:
        heat = torch.where(self._temperature > 0, self._temperature, 1.0)
        scaled = (scores - best[:, None]) / heat
        total = scaled.logsumexp(dim=-1, keepdim=True)
        top, ids = scaled.topk(min(_CANDIDATES, scaled.shape[1]), dim=-1)
        draws = _row_floats([stream.random() for stream in self._streams], scores.device)
        tokens, whole = _invert((top - total).exp(), ids, self._top_p, draws)
        short = ~whole & torch.isfinite(best) & (self._temperature[:, 0] > 0)
        if scaled.shape[1] > _CANDIDATES and bool(short.any()):
            every, all_ids = (scaled[short] - total[short]).exp().sort(dim=-1, descending=True)
            tokens[short] = _invert(every, all_ids, self._top_p[short], draws[short])[0]
        return torch.where(torch.isfinite(best), tokens, greedy)


def _invert(
    share: Float[Tensor, "rows candidates"],
    ids: Int[Tensor, "rows candidates"],
    top_p: Float[Tensor, "rows 1"],
    draws: Float[Tensor, "rows 1"],
) -> tuple[Int[Tensor, "rows"], Bool[Tensor, "rows"]]:
    """The token at each row's draw, given falling shares, and whether the candidates surely hold all that is kept."""
    kept = share.cumsum(dim=-1) - share < top_p
    kept[:, 0] = True
    cut = torch.where(kept, share, torch.inf).amin(dim=-1, keepdim=True) * (1 - _TIE)
    whole = share[:, -1] < cut[:, 0]
    order = ids.argsort(dim=-1)
    reached = torch.where(share >= cut, share, 0.0).gather(1, order).cumsum(dim=-1)
    # A draw that rounds to 1 would fall behind the last token.
    place = (reached <= draws.clamp(max=1 - 1e-6) * reached[:, -1:]).sum(dim=-1, keepdim=True)
    place = place.clamp(max=share.shape[1] - 1)
    return ids.gather(1, order.gather(1, place)).squeeze(1), whole


def _row_floats(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None]


def _check(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadRequest(f"The {name} {value!r} is not a finite number.")
    if not low <= value <= high:
        raise BadRequest(f"The {name} {value:g} is out of range; use {low:g} to {high:g}.")
