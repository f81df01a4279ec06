"""The tools of the serving benchmark, and how they take turns."""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import bench_cache, say
from environments import PeerMissing, environment
from serve_http import Served
from serve_scene import ADD, CLAMP, ReadLimit, Scene
from workers import Worker, WorkerLost

PLAIN, OURS, HTTP = "transformers generate", "monoscope batcher", "monoscope http"
# `monoscope serve` has its model in this format.
SERVED = "float32"


@dataclass(frozen=True)
class Entrant:
    """One tool in one number format, and the edits that it is asked for."""

    tool: str
    dtype: str
    script: str
    edits: tuple[str, ...]
    peer: tuple[str, str, str] | None = None  # requirements, module, package

    @property
    def name(self) -> str:
        return f"{self.tool}, {self.dtype}"


@dataclass(frozen=True)
class Cell:
    """What one figure is about."""

    entrant: Entrant
    streams: int
    edits: str


@dataclass
class Found:
    """What the turns that count brought. Mutable: it grows with them."""

    rates: dict[Cell, dict[int, float]] = field(default_factory=dict)
    peaks: dict[Cell, int] = field(default_factory=dict)
    replies: dict[Cell, list[list[int]]] = field(default_factory=dict)
    lost: dict[Entrant, str] = field(default_factory=dict)
    limits: dict[str, ReadLimit] = field(default_factory=dict)

    def lose(self, entrant: Entrant, error: Exception) -> None:
        """A tool is out, and why."""
        self.lost[entrant] = str(error)
        say(f"{entrant.name} is missing: {error}")

    def add(self, cell: Cell, turn: int, answer: dict[str, Any]) -> None:
        """Keep one answer; the first turn's figures do not count."""
        counts = answer.get("counts") or [len(reply) for reply in answer["ids"]]
        rate = sum(counts) / answer["seconds"]
        self.replies[cell] = answer.get("ids", [])
        if turn:
            self.rates.setdefault(cell, {})[turn] = rate
            self.peaks[cell] = max(answer["peak_bytes"], self.peaks.get(cell, 0))
        say(
            f"turn {turn}: {cell.entrant.name}, {cell.streams} streams, edits {cell.edits}: {rate:,.1f} tokens a second"
        )


def entrants(dtypes: list[str], words: list[str]) -> list[Entrant]:
    """All tools, or plain generation and those whose names hold one of the words."""
    found = []
    for dtype in dtypes:
        nnsight, saelens = ("nnsight", "nnsight", "nnsight"), ("saelens", "sae_lens", "sae-lens")
        found += [
            Entrant(PLAIN, dtype, "plain_generate.py", ("none",)),
            Entrant(OURS, dtype, "monoscope_generate.py", ("none", "add", "clamp")),
            Entrant(HTTP, dtype, "monoscope_serve.py", ("none", "add")),
            Entrant("nnsight", dtype, "nnsight_generate.py", ("none", "add"), nnsight),
            Entrant("sae-lens", dtype, "saelens_generate.py", ("none", "add", "clamp"), saelens),
        ]
    found = [each for each in found if each.tool != HTTP or each.dtype == SERVED]
    return [each for each in found if each.tool == PLAIN or not words or any(word in each.tool for word in words)]


def cells_of(line: list[Entrant], dtypes: list[str], streams: list[int]) -> Iterator[Cell]:
    """All figures, in an order in which what is compared stands side by side."""
    for dtype in dtypes:
        for count in streams:
            for entrant in line:
                if entrant.dtype == dtype:
                    yield from (Cell(entrant, count, edits) for edits in entrant.edits)


def race(scene: Scene, cells: list[Cell], settings: Any) -> Found:
    """Start everybody, then turn after turn. A tool that fails has a reason, and the others go on."""
    found = Found()
    workers: dict[Entrant, Worker | Served] = {}
    try:
        with tempfile.TemporaryDirectory(dir=bench_cache(), prefix="scene-") as scratch:
            tensors = Path(scratch) / "scene.safetensors"
            scene.write(tensors)
            for entrant in dict.fromkeys(cell.entrant for cell in cells):
                try:
                    workers[entrant] = start_worker(entrant, scene, tensors, settings.threads, found)
                except (PeerMissing, WorkerLost) as error:
                    found.lose(entrant, error)
        for turn in range(settings.turns + 1):
            for cell in cells if turn % 2 else reversed(cells):
                if cell.entrant in workers and (cell.entrant.peer is None or turn <= settings.peer_turns):
                    _take_turn(cell, turn, settings.new, workers, found)
            for limit in found.limits.values():
                limit.measure()
    finally:
        for worker in workers.values():
            worker.stop()
    return found


def start_worker(entrant: Entrant, scene: Scene, tensors: Path, threads: int, found: Found) -> Worker | Served:
    """A worker that is ready for its first order."""
    say(f"starting {entrant.name}")
    if entrant.tool == HTTP:
        return Served(scene, entrant.script, entrant.dtype, threads)
    python = Path(sys.executable) if entrant.peer is None else environment(*entrant.peer[:2])
    words = [str(scene.model), str(scene.folder), str(tensors), "--add", ADD, "--clamp", CLAMP]
    words += ["--dtype", entrant.dtype, "--layer", str(scene.layer), "--threads", str(threads)]
    worker = Worker(f"{entrant.tool}-{entrant.dtype}".replace(" ", "-"), python, entrant.script, words, threads=threads)
    ready = worker.hear()
    if entrant.tool == PLAIN:
        found.limits[entrant.dtype] = ReadLimit(ready["weight_bytes"])
    return worker


def _take_turn(cell: Cell, turn: int, tokens: int, workers: dict[Entrant, Worker | Served], found: Found) -> None:
    try:
        answer = workers[cell.entrant].ask(streams=cell.streams, edits=cell.edits, tokens=tokens)
    except WorkerLost as error:
        found.lose(cell.entrant, error)
        workers.pop(cell.entrant).stop()
    else:
        found.add(cell, turn, answer)
