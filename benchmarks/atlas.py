"""What an atlas costs: beyond reading the text, for a feature beside SAEDashboard, and as features become many.

`--parts` names what is measured: `pass` stands here, `dashboards` and `flat` in `atlas_dashboards.py`, `atlas_flat.py`.

A pass is a build from live activations, against forward passes and encoding. The build reads blocks from a generator.
Between its chunks of windows the generator does the bare work on the same windows, now before, now after, on its own
clock: a plain forward pass that stops at the layer, and encoding of the same rows, nothing kept. `ratio` is whole to
bare; the whole has everything, neighbours, labels, trials and the database included. What is done for features hardly
grows with the text, so `ratio_pass` is without it, and `ratio_text` what the two give for all tokens of the run.

`bare` encodes as the dictionary itself does; `plain` by one float32 product and a selection, as it is usually done.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atlas_dashboards
import atlas_flat
import torch
from atlas_dashboards import FEATURES, Scene, compare
from atlas_flat import SIZES, Clock, flat
from common import Results, arguments, bench_cache, dictionary_of, say, shards_of, show, spread, study, text_of
from reading import Stopwatch, some_windows, stopping_at
from torch import Tensor

from monoscope.atlas.build import build_atlas
from monoscope.core.blocks import ActivationBlock
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.harvest.read import Gate, batches_of, live_blocks
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.stages import HARVEST_DTYPE

GOAL = 1.25
PARTS = ("pass", "dashboards", "flat")
CHUNK_WINDOWS = 256
COLUMNS = (
    "latents",
    "tokens",
    "seconds",
    "bare_seconds",
    "closing_seconds",
    "ratio",
    "ratio_pass",
    "ratio_text",
    "ratio_plain",
)


class Beside:
    """Blocks for a build, and the bare work on the same windows. `laps`: (build, bare, plain) seconds of each chunk."""

    def __init__(self, model: LanguageModel, dictionary: Dictionary, store: TokenStore, gate: Gate) -> None:
        self._model, self._dictionary, self._store, self._gate = model, dictionary, store, gate
        self._site: Site = dictionary.site
        self.laps: list[tuple[float, float, float]] = []
        self.aside = 0.0
        self.rows = 0

    def blocks(self, chunks: list[Tensor]) -> Iterator[ActivationBlock]:
        """What the build reads."""
        for number, windows in enumerate(chunks):
            bare = self._aside(windows) if number % 2 else None
            began = time.perf_counter()
            for block in live_blocks(self._model, self._store, self._site, self._gate, [windows]):
                self.rows += len(block.token)
                yield block
            lap = time.perf_counter() - began
            self.laps.append((lap, *(bare or self._aside(windows))))

    def _aside(self, windows: Tensor) -> tuple[float, float]:
        began = time.perf_counter()
        found = self.bare(windows)
        self.aside += time.perf_counter() - began
        return found

    @torch.inference_mode()
    def bare(self, windows: Tensor) -> tuple[float, float]:
        """Seconds of forward and encoding: the dictionary's own way, and plainly."""
        watch, read = Stopwatch(), self._dictionary
        for batch in batches_of(self._store, windows):
            block = self._store.block(batch)
            with watch.timing("forward"), stopping_at(self._model, self._site) as forward:
                x = forward(block.ids)
            rows = x[self._gate.rows(x, block, self._store)[0]]
            with watch.timing("encode"):
                read.encode(rows)
            with watch.timing("plain"):
                for piece in rows.split(1024):
                    read.select(torch.addmm(read.b_enc, piece.float(), read.W_enc))
        return watch["forward"] + watch["encode"], watch["forward"] + watch["plain"]


def main() -> None:
    settings = _settings()
    torch.set_num_threads(settings.threads)
    results = Results("atlas", settings, keys=("part", "tool", "dictionary", "latents", "tokens_asked", "cpu"))
    run = study(settings.run, settings.study_tokens)
    shards = shards_of(run)
    name = dictionary_of(run, settings.name, latents=settings.latents, k=settings.k)
    dictionary = load_dictionary(run.dictionary(name))
    model = load_model(shards.manifest["request"]["model"], dtype=HARVEST_DTYPE)
    scene = Scene(model, dictionary, run.dictionary(name), text_of(run, shards), shards.gate)
    if "pass" in settings.parts:
        if results.done(dictionary=name, tokens_asked=settings.tokens):
            say("this pass was measured at this commit; --again measures it again")
        else:
            row = measure(model, dictionary, scene.store, shards.gate, settings)
            results.put([{**row, "tool": "build_atlas", "dictionary": name, "tokens_asked": settings.tokens}])
        rows = [row for row in results.rows if "part" not in row]
        show(rows, COLUMNS)
        verdict(rows)
    if "dashboards" in settings.parts:
        for tokens, turns in zip(settings.dashboard_tokens, settings.dashboard_turns, strict=True):
            known = {"part": "dashboards", "dictionary": name, "latents": dictionary.n_latents, "tokens_asked": tokens}
            if not results.done(**known):
                results.put([{**row, **known} for row in compare(scene, tokens, turns, settings)])
        rows = [row for row in results.rows if row.get("part") == "dashboards"]
        show(rows, atlas_dashboards.COLUMNS)
        atlas_dashboards.verdict(rows)
    if "flat" in settings.parts:
        known = {"part": "flat", "dictionary": "random", "tokens_asked": settings.flat_tokens}
        if not all(results.done(**known, latents=latents) for latents in settings.flat_latents):
            results.put([{**row, **known} for row in flat(run, settings)])
        rows = [row for row in results.rows if row.get("part") == "flat"]
        show(rows, atlas_flat.COLUMNS)
        atlas_flat.verdict(rows)


def _settings() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tokens", type=int, default=0, help="tokens of the run's text to read; 0 for all")
    parser.add_argument("--name", help="the dictionary; without it the first of the run")
    parser.add_argument("--latents", type=int, default=9216, help="of the quick dictionary of a small study")
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--dashboard-tokens", type=int, nargs="+", default=[16_384, 65_536, 262_144])
    parser.add_argument("--dashboard-features", type=int, default=FEATURES, help="features SAEDashboard makes pages of")
    parser.add_argument("--dashboard-prompts", type=int, default=64, help="prompts of one forward pass of SAEDashboard")
    parser.add_argument("--dashboard-turns", type=int, nargs="+", default=[3, 3, 1], help="for each of these sizes")
    parser.add_argument("--flat-latents", type=int, nargs="+", default=SIZES)
    parser.add_argument("--flat-tokens", type=int, default=0, help="rows that each of those reads; 0 for all")
    parser.add_argument("--flat-turns", type=int, default=3)
    return parser.parse_args()


def verdict(rows: list[dict[str, Any]]) -> None:
    """Say whether passes stay within the goal."""
    for row in rows:
        met = "met" if row["ratio"] <= GOAL else "NOT met"
        print(
            f"atlas of {row['latents']:,} latents at {row['ratio']:.3f} of forward passes and encoding on "
            f"{row['tokens']:,} tokens; goal {GOAL:g} {met} "
            f"({row['ratio_text']:.3f} on all {row['tokens_text']:,} tokens of the run)"
        )


def measure(
    model: LanguageModel, dictionary: Dictionary, store: TokenStore, gate: Gate, settings: Any
) -> dict[str, Any]:
    """Build an atlas that is thrown away."""
    part = some_windows(store, settings.tokens or store.n_tokens, settings.seed)
    windows = torch.searchsorted(store.windows.start, part.windows.start)
    windows = windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(settings.seed))]
    chunks = list(windows.split(CHUNK_WINDOWS))
    beside = Beside(model, dictionary, store, gate)
    beside.bare(chunks[0][:8])
    unembedding = model.unembedding()
    with tempfile.TemporaryDirectory(dir=bench_cache(), prefix="atlas-") as scratch:
        began, clock = time.perf_counter(), Clock()
        summary = build_atlas(
            Path(scratch) / "atlas",
            beside.blocks(chunks),
            dictionary,
            store,
            unembedding=unembedding,
            request={"dictionary": dictionary.name},
            progress=clock,
        )
        wall = time.perf_counter() - began
    build, bare, plain = (sum(lap[place] for lap in beside.laps) for place in range(3))
    again = clock.spent("gather", "contexts").wall
    closing = wall - build - beside.aside - again
    build += again
    tokens = int(part.windows.length.sum())
    by_chunk = spread(lap[0] / lap[1] for lap in beside.laps)
    return {
        "latents": dictionary.n_latents,
        "l0": float(dictionary.stats.density.sum()),
        "alive": summary.alive,
        "bytes": summary.bytes,
        "tokens": tokens,
        "tokens_text": store.n_tokens,
        "rows": beside.rows,
        "seconds": build + closing,
        "bare_seconds": bare,
        "closing_seconds": closing,
        "ratio": (build + closing) / bare,
        "ratio_pass": build / bare,
        "ratio_text": build / bare + closing * tokens / store.n_tokens / bare,
        "ratio_plain": (build + closing) / plain,
        **{f"chunk_ratio_{name}": value for name, value in by_chunk.items()},
        "tokens_per_second": tokens / (build + closing),
    }


if __name__ == "__main__":
    main()
