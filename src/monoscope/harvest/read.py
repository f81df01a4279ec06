"""Token windows through a model to activations, in an order that depends on the request and the text alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.blocks import ActivationBlock, TokenBlock
from monoscope.core.errors import BadNumbers
from monoscope.core.runtime import random_stream
from monoscope.core.site import Site
from monoscope.harvest.token_store import TokenStore
from monoscope.model.sinks import keep_mask, sink_limit

GROUP_WINDOWS = 512
BATCH_TOKENS = 4608
_CALIBRATION_WINDOWS = 96
TEMPLATE_SHARE = 0.05


class Reader(Protocol):
    """What is asked of a model here."""

    def residual(self, ids: Int[Tensor, "windows length"], site: Site) -> Float[Tensor, "windows length d_model"]:
        """Activations at a site."""
        ...

    @property
    def weight_bytes(self) -> int:
        """Size of the weights in memory."""
        ...


@dataclass(frozen=True)
class Gate:
    """Which rows are stored: no sink, and template tokens only at a rate that keeps them near a share of the
    rows, 5 % unless asked otherwise.

    `template_rate` is the chance that a template token is kept; the draw depends on `seed` and the token's index.
    """

    sink_limit: float
    template_rate: float
    seed: int

    def rows(
        self, x: Float[Tensor, "windows length d"], block: TokenBlock, store: TokenStore
    ) -> tuple[Bool[Tensor, "windows length"], Int[Tensor, "windows length"], dict[str, int]]:
        """The mask of rows to store, each position's token index, and how many tokens were left out and why."""
        position = torch.arange(block.ids.shape[1])
        own = (position >= block.prefix[:, None]) & (position < block.lengths[:, None])
        token = (block.first - block.prefix)[:, None] + position
        sound = keep_mask(x, block.lengths, self.sink_limit) & own
        thinned = sound & store.template[token.clamp(0, store.n_tokens - 1)] & ~self._drawn(token)
        counts = {
            "tokens": int(own.sum()),
            "sinks": int((own & ~sound).sum()),
            "thinned": int(thinned.sum()),
        }
        return sound & ~thinned, token, counts

    def _drawn(self, token: Tensor) -> Tensor:
        if self.template_rate >= 1:
            return torch.ones_like(token, dtype=torch.bool)
        mixed = (token * 0x9E3779B1 + self.seed * 0x85EBCA77) & 0xFFFFFFFF
        mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        return (mixed ^ (mixed >> 12)).double() / 2**32 < self.template_rate


def groups_of_windows(store: TokenStore, *, held: bool, seed: int) -> list[Int[Tensor, "windows"]]:
    """The windows of one side of the split, shuffled, in groups of `GROUP_WINDOWS`: one group is one shard."""
    numbers = torch.nonzero(store.windows.held == held).flatten()
    order = torch.randperm(len(numbers), generator=random_stream(seed, "windows", int(held)))
    return list(numbers[order].split(GROUP_WINDOWS))


def batches_of(store: TokenStore, windows: Int[Tensor, "windows"]) -> Iterator[Int[Tensor, "windows"]]:
    """A group's windows, the longest first, in batches of at most `BATCH_TOKENS` padded tokens."""
    lengths = store.windows.length[windows].long() + store.windows.prefixed[windows].long()
    order = torch.argsort(lengths, descending=True, stable=True)
    at = 0
    while at < len(order):
        count = max(1, BATCH_TOKENS // int(lengths[order[at]]))
        yield windows[order[at : at + count]]
        at += count


def calibrate(
    model: Reader, store: TokenStore, site: Site, *, seed: int, template_share: float = TEMPLATE_SHARE
) -> Gate:
    """Learn the sink limit from the first windows, and the rate at which template tokens are kept.

    Raises
        BadNumbers  the model gives NaN or infinity at the site.
    """
    windows = groups_of_windows(store, held=False, seed=seed)[0][:_CALIBRATION_WINDOWS]
    norms = []
    for batch in batches_of(store, windows):
        block = store.block(batch)
        x = model.residual(block.ids, site).float()
        position = torch.arange(block.ids.shape[1])
        norms.append(x.norm(dim=-1)[(position > 0) & (position < block.lengths[:, None])])
    found = torch.cat(norms)
    if not torch.isfinite(found).all():
        raise BadNumbers(f"The model gives NaN or infinity at {site}; load it in another dtype or check its weights.")
    template = int(store.template.sum())
    wanted = template_share / (1 - template_share) * (store.n_tokens - template)
    return Gate(sink_limit(found), min(1.0, wanted / template) if template else 1.0, seed)


def read_windows(
    model: Reader, store: TokenStore, site: Site, gate: Gate, windows: Int[Tensor, "windows"]
) -> Iterator[tuple[ActivationBlock, dict[str, int]]]:
    """Activations of some windows, a batch at a time, with counts of what was left out.

    Raises
        BadNumbers  naming the document whose activations are NaN or infinite.
    """
    for batch in batches_of(store, windows):
        block = store.block(batch)
        x = model.residual(block.ids, site)
        mask, token, counts = gate.rows(x, block, store)
        rows = x[mask]
        if not torch.isfinite(rows.sum()):
            raise BadNumbers(_bad_rows(rows, token[mask], store, site))
        yield ActivationBlock(rows, token[mask]), counts


def _bad_rows(rows: Tensor, token: Tensor, store: TokenStore, site: Site) -> str:
    bad = token[~torch.isfinite(rows).all(dim=1)]
    where = f"document {int(store.document_of(bad[:1]))}" if len(bad) else "a batch"
    return f"The model gives NaN or infinity at {site} in {where} ({len(bad)} tokens); load it in another dtype."


def live_blocks(
    model: Reader, store: TokenStore, site: Site, gate: Gate, windows: Sequence[Int[Tensor, "windows"]]
) -> Iterator[ActivationBlock]:
    """The same activations as a harvest would store, straight from the model."""
    for group in windows:
        for block, _ in read_windows(model, store, site, gate, group):
            yield block
