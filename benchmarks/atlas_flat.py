"""Whether a feature of an atlas costs the same however many there are.

Dictionaries of random unit rows, k = 32 on every token at every size, over the run's real activations. A threshold
would give the same L0 on average, but most of it on a few long vectors, the more so the larger the dictionary. Each
size has a process of its own, so that its peak memory is its own; sizes alternate.

Reading the activations and encoding are timed where they happen and taken off. What is left, `beyond`, is what a
feature is to cost the same of; it is also told in two parts: *token* (writing codes, counting, choosing and filling
contexts) and *feature* (labels, trials, neighbours, co-firing, promoted tokens, the database, and what is done once for
a text). `marginal_ms` is what each feature beyond those of the size before adds. `cpu` figures are processor time of
all threads, which other people's work disturbs less.

Run as a program it builds one atlas and prints its figures as one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import bench_cache, say, shards_of, spread, text_of
from environments import last_line
from torch import Tensor

from monoscope.atlas.build import build_atlas
from monoscope.core.blocks import ActivationBlock
from monoscope.core.run import Run
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Stats, Weights
from monoscope.dictionary.topk import TopKDictionary
from monoscope.harvest.shards import ShardStore
from monoscope.model.transformer import load_model
from monoscope.stages import HARVEST_DTYPE

GOAL, GOAL_BYTES = 0.2, 4_000_000_000
SIZES = (9_216, 32_768, 131_072)
COLUMNS = (
    "latents",
    "tokens",
    "encode_seconds",
    "token_seconds",
    "feature_seconds",
    "ms_beyond_per_feature",
    "us_per_token",
    "ms_per_feature",
    "marginal_ms",
    "ms_cpu_per_feature",
    "peak_bytes",
)
_SAMPLE = 8_192
_BY_TOKEN = ("atlas", "gather", "contexts")


def flat(run: Run, settings: Any) -> list[dict[str, Any]]:
    """Rows of all sizes."""
    found: dict[int, list[dict[str, Any]]] = {latents: [] for latents in settings.flat_latents}
    for turn in range(settings.flat_turns):
        for latents, figures in found.items():
            say(f"turn {turn + 1} of {settings.flat_turns}: an atlas of {latents:,} latents")
            figures.append(_one(run, latents, settings))
    rows, before = [], None
    for latents, figures in sorted(found.items()):
        row = {name: spread(one[name] for one in figures) for name in figures[0] if name.endswith("seconds")}
        row |= {name: max(one[name] for one in figures) for name in ("peak_bytes", "bytes", "tokens", "rows", "alive")}
        for kind in ("", "_cpu"):
            row[f"us{kind}_per_token"] = spread(1e6 * one[f"token{kind}_seconds"] / one["rows"] for one in figures)
            row[f"ms{kind}_beyond_per_feature"] = spread(
                1e3 * (one[f"token{kind}_seconds"] + one[f"feature{kind}_seconds"]) / latents for one in figures
            )
            row[f"ms{kind}_per_feature"] = spread(1e3 * one[f"feature{kind}_seconds"] / latents for one in figures)
            if before is not None:
                row[f"marginal{kind}_ms"] = spread(
                    1e3 * (one[f"feature{kind}_seconds"] - less[f"feature{kind}_seconds"]) / (latents - before)
                    for one, less in zip(figures, found[before], strict=True)
                )
        before = latents
        rows.append(
            {"tool": "build_atlas", "latents": latents, "l0": figures[0]["l0"], **row, "stages": figures[-1]["stages"]}
        )
    return rows


def verdict(rows: list[dict[str, Any]]) -> None:
    """Say how the largest compares with the smallest, and what memory they took."""
    small, large = rows[0], rows[-1]
    less, more = (row["ms_beyond_per_feature"]["median"] for row in (small, large))
    met = "met" if more <= (1 + GOAL) * less else "NOT met"
    print(
        f"beyond reading and encoding {less:.3g} milliseconds a feature at {small['latents']:,} latents, {more:.3g} at "
        f"{large['latents']:,}; goal {100 * GOAL:.0f} % more at most {met}"
    )
    by_token = (row["us_per_token"]["median"] for row in (small, large))
    print("of it by token: {:.3g} and {:.3g} microseconds a token".format(*by_token))
    peak = max(row["peak_bytes"] for row in rows)
    print(
        f"peak memory {peak / 1e9:.2f} GB; goal {GOAL_BYTES / 1e9:.0f} GB {'met' if peak < GOAL_BYTES else 'NOT met'}"
    )


def _one(run: Run, latents: int, settings: Any) -> dict[str, Any]:
    words = ["--run", str(run.path), "--latents", str(latents), "--tokens", str(settings.flat_tokens)]
    words += ["--k", str(settings.k), "--threads", str(settings.threads), "--seed", str(settings.seed)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the atlas of {latents:,} latents failed: {last_line(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


# --- one atlas, in a process of its own ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall and of the processor, all threads together."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> "Spent":
        """Since some moment in the past."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def named(self, name: str) -> dict[str, float]:
        """For a row of results."""
        return {f"{name}_seconds": self.wall, f"{name}_cpu_seconds": self.cpu}


class RandomTopK(TopKDictionary):
    """A TopK dictionary that knows how long it encoded."""

    encoding = Spent()

    def encode(self, x: Tensor) -> SparseCode:
        """The features of each token."""
        began = Spent.now()
        code = super().encode(x)
        self.encoding += Spent.now() - began
        return code


class Clock:
    """A listener that notes when the stages of a build begin and end."""

    def __init__(self) -> None:
        self.began = self._start = Spent.now()
        self.stages: list[tuple[str, Spent, Spent]] = []
        self._stage = ""

    def start(self, stage: str, total: int | None, unit: str, already: int = 0) -> None:
        """A stage begins."""
        self._stage, self._start = stage, Spent.now()

    def advance(self, amount: int, **facts: float) -> None:
        """Nothing to note."""

    def finish(self) -> None:
        """The stage is over."""
        self.stages.append((self._stage, self._start - self.began, Spent.now() - self.began))

    def spent(self, *names: str) -> Spent:
        """In some stages together."""
        return sum((end - begin for name, begin, end in self.stages if name in names), Spent())


class Reading:
    """Blocks of whole shards up to so many rows, and what it took to read them."""

    def __init__(self, blocks: Iterable[ActivationBlock], most: int) -> None:
        self._blocks, self._left, self.spent, self.rows = iter(blocks), most, Spent(), 0

    def __iter__(self) -> Iterator[ActivationBlock]:
        while self._left > 0:
            began = Spent.now()
            block = next(self._blocks, None)
            self.spent += Spent.now() - began
            if block is None:
                return
            self._left -= len(block.token)
            self.rows += len(block.token)
            yield block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--latents", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=0, help="rows to read; 0 for all")
    for name, default in (("k", 32), ("threads", 2), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    run = Run(settings.run)
    shards = shards_of(run)
    store = text_of(run, shards)
    model = load_model(shards.manifest["request"]["model"], dtype=HARVEST_DTYPE)
    dictionary = random_dictionary(shards, settings.latents, settings.k, settings.seed)
    reading = Reading(shards.blocks("all"), settings.tokens or shards.rows("all"))
    unembedding = model.unembedding()
    with tempfile.TemporaryDirectory(dir=bench_cache(), prefix="atlas-flat-") as scratch:
        clock = Clock()
        summary = build_atlas(
            Path(scratch) / "atlas",
            reading,
            dictionary,
            store,
            unembedding=unembedding,
            request={"dictionary": dictionary.name},
            progress=clock,
        )
        whole = Spent.now() - clock.began
    token = clock.spent(*_BY_TOKEN) - dictionary.encoding - reading.spent
    figures = {
        **whole.named("whole"),
        **dictionary.encoding.named("encode"),
        **reading.spent.named("read"),
        **token.named("token"),
        **(whole - token - dictionary.encoding - reading.spent).named("feature"),
        "tokens": store.n_tokens,
        "rows": reading.rows,
        "l0": settings.k,
        "alive": summary.alive,
        "bytes": summary.bytes,
        "peak_bytes": peak_bytes(),
        "stages": [[name, round(begin.wall, 2), round(end.wall, 2)] for name, begin, end in clock.stages],
    }
    print(json.dumps(figures))


def random_dictionary(shards: ShardStore, latents: int, k: int, seed: int) -> RandomTopK:
    """Random unit rows about the mean of the activations."""
    x = next(shards.blocks("train")).x[:_SAMPLE].float()
    mean = x.mean(0)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(latents, shards.d_in, generator=generator), dim=1)
    largest = torch.full((latents,), 1e-3)
    for piece in (x - mean).split(max(1, (1 << 26) // latents)):
        largest = torch.maximum(largest, (piece @ rows.T).amax(0))
    stats = Stats(
        max=largest,
        p999=largest,
        density=torch.full((latents,), k / latents),
        mean_vector=mean,
        tokens=len(x),
        mean_norm=float(x.norm(dim=1).mean()),
        sink_limit=shards.sink_limit,
    )
    weights = Weights(rows.T.contiguous(), -(rows @ mean), rows, mean)
    return RandomTopK(weights, site=shards.site, name="random", stats=stats, settings={"k": k})


def peak_bytes() -> int:
    """The most memory this process had, mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
