"""What every tool of the serving benchmark is given, and the bound that none can pass."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import dictionary_of, shards_of, text_of
from safetensors.torch import save_file
from torch import Tensor

from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore
from monoscope.model.sources import resolve_model
from monoscope.steer.resolve import resolve

ADD, CLAMP = "add 0.4r", "clamp 2x"


@dataclass(frozen=True)
class Scene:
    """A model folder, a dictionary of it, and for each stream a prompt and a feature of its own."""

    run: Run
    source: str
    model: Path
    dictionary: Dictionary
    prompts: Tensor
    features: list[int]

    @classmethod
    def of(cls, run: Run, settings: Any) -> "Scene":
        """Prompts of one length from the run's text and features that fire, drawn by the seed."""
        name = dictionary_of(run, settings.dictionary, latents=settings.latents, k=settings.k)
        origin = run.provenance(name)
        dictionary = load_dictionary(run.dictionary(name))
        shards = ShardStore.load(run.activations(origin["activations"])) if "activations" in origin else shards_of(run)
        streams = max(settings.streams)
        alive = torch.nonzero(dictionary.stats.max > 0).flatten()
        order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(settings.seed))
        return cls(
            run,
            origin["model"],
            resolve_model(origin["model"]).folder,
            dictionary,
            prompts_of(text_of(run, shards), streams, settings.prompt, settings.seed),
            alive[order[:streams]].tolist(),
        )

    @property
    def layer(self) -> int:
        """The block whose output is edited."""
        return self.dictionary.site.layer

    @property
    def folder(self) -> Path:
        """Where the dictionary lies."""
        return self.run.dictionary(self.dictionary.name).resolve()

    def edits(self, kind: str, streams: int) -> list[list[str]]:
        """The edits of each stream, as text; none where `kind` says so."""
        values = {"add": ADD, "clamp": CLAMP}
        return [[f"{feature} {values[kind]}"] if kind in values else [] for feature in self.features[:streams]]

    def write(self, path: Path) -> None:
        """The same as tensors, for tools that do not know our edits: see `peers/orders.py`."""
        added = [resolve(f"{feature} {ADD}", self.dictionary) for feature in self.features]
        clamped = [resolve(f"{feature} {CLAMP}", self.dictionary) for feature in self.features]
        tensors = {
            "prompts": self.prompts.contiguous(),
            "features": torch.tensor(self.features),
            "added": torch.stack([edit.value * edit.direction for edit in added]),
            "clamped": torch.tensor([edit.value for edit in clamped]),
        }
        save_file(tensors, path)


def prompts_of(store: TokenStore, count: int, length: int, seed: int) -> Tensor:
    """Beginnings of windows [count, length], each with the start token in front."""
    long = torch.nonzero(store.windows.length >= length - 1).flatten()
    if len(long) < count:
        raise SystemExit(f"The text has {len(long)} windows of {length} tokens; take shorter prompts.")
    chosen = long[torch.randperm(len(long), generator=torch.Generator().manual_seed(seed))[:count]]
    place = store.windows.start[chosen].long()[:, None] + torch.arange(length - 1)
    return torch.cat([torch.full((count, 1), store.prefix_id), store.ids[place].long()], dim=1)


class ReadLimit:
    """The bound of a decoding step: the weights are read once. Measured on a buffer of their size, best of all runs."""

    def __init__(self, weight_bytes: int) -> None:
        self.bytes = weight_bytes
        # Rows for a product with a vector, written once: pages that were never touched are not in memory at all.
        self._buffer = torch.ones(max(1, weight_bytes // 4096), 1024)
        self._vector, self._seconds = torch.ones(1024), float("inf")

    def measure(self, repeats: int = 3) -> None:
        """Read it a few times, in the two ways that stock operators read fastest."""
        with torch.inference_mode():
            for read in [self._buffer.sum, lambda: torch.mv(self._buffer, self._vector)] * repeats:
                began = time.perf_counter()
                read()
                self._seconds = min(self._seconds, time.perf_counter() - began)

    def tokens_per_second(self, streams: int) -> float:
        """The bound for so many streams in step."""
        return streams / self._seconds

    def terms(self) -> dict[str, float]:
        """What it follows from."""
        return {"weight_bytes": self.bytes, "bytes_per_second": self.bytes / self._seconds}
