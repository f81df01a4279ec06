"""The bare work that harvest and atlas are measured against: a plain forward pass that stops at the layer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from monoscope.core.site import Site
from monoscope.harvest.read import groups_of_windows
from monoscope.harvest.token_store import TokenStore, Windows
from monoscope.model.transformer import LanguageModel


class _Enough(Exception):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


@contextmanager
def stopping_at(model: LanguageModel, site: Site) -> Iterator[Any]:
    """A function from token ids to the block's output that calls the Hugging Face module and nothing else."""

    def forward(ids: Tensor) -> Tensor:
        handle = model.blocks[site.layer].register_forward_hook(_stop)
        try:
            with torch.inference_mode():
                model.module(input_ids=ids, use_cache=False)
        except _Enough as reached:
            return reached.output
        finally:
            handle.remove()
        raise AssertionError("the block was never run")

    yield forward


def _stop(_block: Any, _inputs: Any, output: Any) -> None:
    raise _Enough(output if isinstance(output, Tensor) else output[0])


class Stopwatch:
    """Sums seconds under names; `lap` gives what came since the last one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the seconds inside to a name."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def __getitem__(self, name: str) -> float:
        return self.seconds.get(name, 0.0)


def some_windows(store: TokenStore, tokens: int, seed: int) -> TokenStore:
    """The store with about so many tokens of its windows, drawn by `seed`, in the order of the text."""
    order = torch.cat([group for held in (False, True) for group in groups_of_windows(store, held=held, seed=seed)])
    order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))]
    count = int((store.windows.length[order].long().cumsum(0) < tokens).sum()) + 1
    chosen = order[:count].sort().values
    names = ("start", "length", "prefixed", "document", "held")
    return replace(store, windows=Windows(*(getattr(store.windows, name)[chosen] for name in names)))
