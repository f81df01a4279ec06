"""Activations to and from disk: `docs/formats/activations.md`.

A shard is one group of windows, so it depends on the request and the text alone. A killed harvest is continued at the
first shard that is missing.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from monoscope.core.artifact import (
    check_request,
    digest_file,
    digest_of,
    read_json,
    read_tensors,
    sweep,
    write_json,
    write_tensors,
)
from monoscope.core.blocks import ActivationBlock
from monoscope.core.errors import ArtifactNotFound, Damaged
from monoscope.core.progress import SILENT, Progress
from monoscope.core.site import Site
from monoscope.harvest.read import TEMPLATE_SHARE, Gate, Reader, calibrate, groups_of_windows, read_windows
from monoscope.harvest.token_store import TokenStore

VERSION = 1
_COUNTS = ("tokens", "sinks", "thinned", "rows")


@dataclass(frozen=True)
class ShardStore:
    """The activations of a text at one site."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "ShardStore":
        """Open a finished harvest.

        Raises
            ArtifactNotFound  there is none, or it was not finished.
            Damaged           a shard is missing or shorter than it was, or the version is unknown.
        """
        if not (folder / "manifest.json").is_file():
            raise ArtifactNotFound(f"There are no finished activations in {folder}; run monoscope harvest.")
        manifest = read_json(folder / "manifest.json")
        if manifest.get("version") != VERSION:
            raise Damaged(f"{folder} is of format version {manifest.get('version')}; this monoscope reads {VERSION}.")
        for shard in manifest["shards"]:
            path = folder / shard["file"]
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                raise Damaged(f"Shard {path} is missing or cut short; run monoscope repair, it is harvested again.")
        return cls(folder, manifest)

    @property
    def site(self) -> Site:
        """Where the activations were read."""
        return Site.parse(self.manifest["request"]["site"])

    @property
    def target(self) -> Site:
        """What a dictionary is to tell: the same."""
        return self.site

    @property
    def d_in(self) -> int:
        """Width of what a dictionary reads."""
        return self.d_model

    @property
    def sink_limit(self) -> float:
        """The norm above which a token counted as a sink."""
        return float(self.manifest["gate"]["sink_limit"])

    @property
    def gate(self) -> Gate:
        """The rule by which rows were stored."""
        return Gate(**self.manifest["gate"])

    @property
    def d_model(self) -> int:
        """Width of a row."""
        return int(self.manifest["d_model"])

    @cached_property
    def digest(self) -> str:
        """Depends on every byte of every shard."""
        return digest_of([shard["digest"] for shard in self.manifest["shards"]])

    def shards(self, split: str) -> list[dict[str, Any]]:
        """The shards of `train`, `held` or `all`."""
        return [shard for shard in self.manifest["shards"] if split in ("all", shard["split"])]

    def rows(self, split: str) -> int:
        """How many rows a side of the split has."""
        return sum(shard["rows"] for shard in self.shards(split))

    def read(self, shard: dict[str, Any]) -> ActivationBlock:
        """One shard, checked.

        Raises
            Damaged  its bytes are not those that were written.
        """
        path = self.folder / shard["file"]
        if digest_file(path) != shard["digest"]:
            raise Damaged(f"Shard {path} is damaged; run monoscope repair, it is harvested again.")
        tensors = read_tensors(path)
        return ActivationBlock(tensors["x"], tensors["token"])

    def blocks(self, split: str) -> Iterator[ActivationBlock]:
        """The shards, one after another."""
        for shard in self.shards(split):
            yield self.read(shard)

    def damaged(self) -> list[Path]:
        """Every shard whose bytes are not those that were written."""
        paths = [(self.folder / shard["file"], shard["digest"]) for shard in self.manifest["shards"]]
        return [path for path, digest in paths if not path.is_file() or digest_file(path) != digest]


def write_shards(
    folder: Path,
    model: Reader,
    store: TokenStore,
    site: Site,
    *,
    request: dict[str, Any],
    seed: int = 0,
    progress: Progress = SILENT,
) -> ShardStore:
    """Harvest, or continue a harvest that was stopped. `request` is everything the result depends on; its
    `template_share`, where it has one, is the share of rows left to the chat template.

    Raises
        RequestDiffers  the folder was begun with other settings.
        DiskFull        no room; what is finished stays, and the next call continues.
    """
    if (folder / "request.json").is_file():
        check_request(f"The harvest in {folder}", read_json(folder / "request.json"), request)
    else:
        write_json(folder / "request.json", request)
    sweep(folder)
    gate = _gate(folder, model, store, site, seed, request.get("template_share", TEMPLATE_SHARE))
    plan = [("train", group) for group in groups_of_windows(store, held=False, seed=seed)]
    plan += [("held", group) for group in groups_of_windows(store, held=True, seed=seed)]
    names = _names(plan)
    done = {name: shard for name in names if (shard := _counts_of(folder / name)) is not None}
    progress.start("harvest", store.n_tokens, "tokens", already=sum(shard["tokens"] for shard in done.values()))
    for name, (_, windows) in zip(names, plan, strict=True):
        if name not in done:
            done[name] = _write_shard(folder / name, model, store, site, gate, windows, progress)
    progress.finish()
    shards = [
        {"file": name, "split": split, "digest": digest_file(folder / name), **done[name]}
        for name, (split, _) in zip(names, plan, strict=True)
    ]
    write_json(
        folder / "manifest.json",
        {
            "version": VERSION,
            "request": request,
            "text_digest": store.digest,
            "gate": asdict(gate),
            "d_model": _width(folder / names[0]),
            **{name: sum(shard[name] for shard in shards) for name in _COUNTS},
            "shards": shards,
        },
    )
    return ShardStore.load(folder)


def _names(plan: list[tuple[str, Tensor]]) -> list[str]:
    seen = {"train": 0, "held": 0}
    names = []
    for split, _ in plan:
        names.append(f"{split}-{seen[split]:05d}.safetensors")
        seen[split] += 1
    return names


def _gate(folder: Path, model: Reader, store: TokenStore, site: Site, seed: int, template_share: float) -> Gate:  # noqa: PLR0913
    path = folder / "gate.json"
    if not path.is_file():
        write_json(path, asdict(calibrate(model, store, site, seed=seed, template_share=template_share)))
    return Gate(**read_json(path))


def _write_shard(
    path: Path, model: Reader, store: TokenStore, site: Site, gate: Gate, windows: Tensor, progress: Progress
) -> dict[str, int]:
    pieces, counts = [], dict.fromkeys(_COUNTS, 0)
    for block, found in read_windows(model, store, site, gate, windows):
        pieces.append(block)
        for name, amount in found.items():
            counts[name] += amount
        progress.advance(found["tokens"])
    x = torch.cat([piece.x.bfloat16() for piece in pieces])
    token = torch.cat([piece.token for piece in pieces]).int()
    counts["rows"] = len(x)
    # One key only: safetensors writes several in an order that differs from process to process.
    write_tensors(path, {"x": x, "token": token}, {"counts": json.dumps(counts)})
    return {**counts, "bytes": path.stat().st_size}


def _counts_of(path: Path) -> dict[str, int] | None:
    """What a shard's header says of it; None where there is no readable shard, which is then written again."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(str(path), "pt") as stream:
            found = json.loads(stream.metadata()["counts"])
            counts = {name: int(found[name]) for name in _COUNTS}
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError):
        return None
    return {**counts, "bytes": path.stat().st_size}


def _width(path: Path) -> int:
    with safetensors.safe_open(str(path), "pt") as stream:
        return int(stream.get_slice("x").get_shape()[1])


def repair(folder: Path) -> list[Path]:
    """Remove damaged shards and the manifest, so that the next harvest makes them again; say which they were."""
    store = ShardStore(folder, read_json(folder / "manifest.json"))
    damaged = store.damaged()
    if damaged:
        for path in damaged:
            path.unlink(missing_ok=True)
        (folder / "manifest.json").unlink()
    return damaged
