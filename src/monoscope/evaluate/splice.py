"""What the model loses when a reconstruction takes the activation's place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax

from monoscope.core.progress import SILENT, Progress
from monoscope.core.runtime import random_stream
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.read import batches_of
from monoscope.harvest.token_store import TokenStore
from monoscope.model.sinks import keep_mask

SPLICE_TOKENS = 16_384
_ROWS = 128


class Speaker(Protocol):
    """What is asked of a model here."""

    def logits(
        self,
        ids: Int[Tensor, "windows length"],
        *,
        site: Site | None = None,
        change: Callable | None = None,
        reading: Site | None = None,
    ) -> Float[Tensor, "windows length vocab"]:
        """Next-token logits, with the activations at a site changed on the way, perhaps by what stands at another."""
        ...


@dataclass(frozen=True)
class Splice:
    """Mean next-token cross-entropies in nats over the same tokens; `kl` is of the spliced model from the clean one."""

    tokens: int
    ce_clean: float
    ce_spliced: float
    ce_zero: float
    ce_mean: float
    kl: float

    @property
    def ce_recovered(self) -> float:
        """(ce_mean - ce_spliced) / (ce_mean - ce_clean): 1 loses nothing, 0 is as bad as the mean activation."""
        return (self.ce_mean - self.ce_spliced) / max(self.ce_mean - self.ce_clean, 1e-12)

    @property
    def ce_recovered_zero(self) -> float:
        """The same against activations set to zero, which flatters."""
        return (self.ce_zero - self.ce_spliced) / max(self.ce_zero - self.ce_clean, 1e-12)


def splice(
    dictionary: Dictionary,
    model: Speaker,
    store: TokenStore,
    *,
    tokens: int = SPLICE_TOKENS,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Splice:
    """Run held-out windows four times: as they are, spliced, with zeros, with the mean activation.

    Sinks and the first position are left as they are in all four. Targets are the windows' own tokens.
    """
    windows = _some_held(store, tokens, seed)
    progress.start("splice", int(store.windows.length[windows].sum()), "tokens")
    sums, count = torch.zeros(5, dtype=torch.float64), 0
    for batch in batches_of(store, windows):
        block = store.block(batch)
        target = torch.arange(1, block.ids.shape[1]) < block.lengths[:, None]
        found, many = _one_batch(dictionary, model, block.ids, block.lengths, target)
        sums += found
        count += many
        progress.advance(many)
    progress.finish()
    return Splice(count, *(sums / max(1, count)).tolist())


def _some_held(store: TokenStore, tokens: int, seed: int) -> Tensor:
    held = torch.nonzero(store.windows.held).flatten()
    held = held[torch.randperm(len(held), generator=random_stream(seed, "splice"))]
    enough = int(torch.searchsorted(store.windows.length[held].long().cumsum(0), tokens)) + 1
    return held[:enough]


def _one_batch(
    dictionary: Dictionary,
    model: Speaker,
    ids: Tensor,
    lengths: Tensor,
    target: Bool[Tensor, "windows length_minus_1"],
) -> tuple[Tensor, int]:
    def replaced(by: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        def change(y: Tensor, x: Tensor | None = None) -> Tensor:
            x = y if x is None else x
            keep = keep_mask(x, lengths, dictionary.stats.sink_limit)
            out = y.clone()
            out[keep] = by(x[keep].float(), y[keep].float()).to(y.dtype)
            return out

        return change

    reading = dictionary.site if dictionary.transcodes else None
    mean = dictionary.mean_target
    ways: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
        lambda x, _: dictionary.reconstruct(x),
        lambda _, y: torch.zeros_like(y),
        lambda _, y: mean.expand_as(y),
    )
    following = ids[:, 1:][target]
    clean = model.logits(ids)[:, :-1][target]
    sums = torch.zeros(2 + len(ways), dtype=torch.float64)
    sums[0] = _losses(clean, None, following)[0]
    for number, way in enumerate(ways):
        changed = model.logits(ids, site=dictionary.target, change=replaced(way), reading=reading)[:, :-1][target]
        loss, divergence = _losses(changed, clean if number == 0 else None, following)
        sums[1 + number] = loss
        if number == 0:
            sums[-1] = divergence
    return sums, len(following)


def _losses(logits: Tensor, clean: Tensor | None, following: Tensor) -> tuple[float, float]:
    """Summed cross-entropy, and summed KL from the clean logits; a few rows at a time, to stay in cache."""
    loss = divergence = 0.0
    for first in range(0, len(logits), _ROWS):
        rows = slice(first, first + _ROWS)
        found = log_softmax(logits[rows].float(), -1)
        loss -= float(found.gather(1, following[rows, None]).double().sum())
        if clean is not None:
            true = log_softmax(clean[rows].float(), -1)
            divergence += float((true.exp() * (true - found)).sum(1).double().sum())
    return loss, divergence
