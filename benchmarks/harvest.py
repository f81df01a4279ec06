"""What a harvest costs beyond the model: shards written whole, against the bare forward pass on the same batches.

Each batch that `write_shards` asks the model for also goes through a plain forward pass that stops at the layer and
keeps nothing, now before, now after, on its own clock. So both meet the same disturbances, and their ratio is that of
the whole harvest (calibration, masks, disk, digests) to the least that any harvest must do. Tokens are real ones:
neither padding nor start tokens count. A round is one shard.
"""

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, bench_cache, say, shards_of, show, spread, study, text_of
from reading import Stopwatch, some_windows, stopping_at
from torch import Tensor

from monoscope.core.artifact import write_json
from monoscope.core.site import Site
from monoscope.harvest.read import batches_of, calibrate, groups_of_windows
from monoscope.harvest.shards import write_shards
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.stages import HARVEST_DTYPE

GOAL = 0.9
COLUMNS = ("tool", "tokens", "padding", "tokens_per_second", "min", "max", "ratio", "ratio_min", "ratio_max")


class Beside:
    """A model whose every read is also done bare. `laps` has (whole, bare) seconds of each shard that was written."""

    def __init__(self, model: LanguageModel, site: Site, batches: list[int]) -> None:
        self._model, self._site, self._batches = model, site, batches
        self._number, self._watch, self._began = 0, Stopwatch(), 0.0
        self.laps: list[tuple[float, float]] = []

    def begin(self) -> None:
        """The clock starts."""
        self._began = time.perf_counter()

    def residual(self, ids: Tensor, site: Site) -> Tensor:
        """What `write_shards` asks for."""
        if self._batches and self._number == self._batches[0]:
            self.end()
        self._number += 1
        if self._number % 2:
            self._bare(ids)
        found = self._model.residual(ids, site)
        if not self._number % 2:
            self._bare(ids)
        return found

    def end(self) -> None:
        """A shard is on disk."""
        now, bare = time.perf_counter(), self._watch["bare"]
        self.laps.append((now - self._began - bare, bare))
        self._number, self._watch, self._began = 0, Stopwatch(), now
        self._batches.pop(0)

    def _bare(self, ids: Tensor) -> None:
        with self._watch.timing("bare"), stopping_at(self._model, self._site) as forward:
            forward(ids)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=200_000, help="tokens of the run's text to harvest")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    results = Results("harvest", settings, keys=("tool", "tokens_asked", "cpu"))
    run = study(settings.run, settings.study_tokens)
    shards = shards_of(run)
    if results.done(tokens_asked=settings.tokens):
        say("this was measured at this commit; --again measures it again")
    else:
        store = some_windows(text_of(run, shards), settings.tokens, settings.seed)
        model = load_model(shards.manifest["request"]["model"], dtype=HARVEST_DTYPE)
        rows = measure(model, store, shards.site, settings.seed)
        results.put([{**row, "tokens_asked": settings.tokens} for row in rows])
    show(results.rows, COLUMNS)
    for row in results.rows:
        if "ratio" in row:
            met = "met" if row["ratio"] >= GOAL else "NOT met"
            print(f"harvest at {row['ratio']:.3f} of the bare forward pass; goal {GOAL:g} {met}")


def measure(model: LanguageModel, store: TokenStore, site: Site, seed: int) -> list[dict[str, Any]]:
    """Harvest into a folder that is thrown away."""
    groups = [group for held in (False, True) for group in groups_of_windows(store, held=held, seed=seed)]
    batches = [list(batches_of(store, group)) for group in groups]
    warm = store.block(batches[0][0])
    model.residual(warm.ids, site)
    beside = Beside(model, site, [len(found) for found in batches])
    began = time.perf_counter()
    gate = calibrate(model, store, site, seed=seed)
    calibration = time.perf_counter() - began
    with tempfile.TemporaryDirectory(dir=bench_cache(), prefix="harvest-") as scratch:
        folder = Path(scratch) / "activations"
        write_json(folder / "gate.json", asdict(gate))
        beside.begin()
        written = write_shards(folder, beside, store, site, request={"site": str(site)}, seed=seed)
        beside.end()
        size = sum(shard["bytes"] for shard in written.manifest["shards"])
    tokens = [int(store.windows.length[group].sum()) for group in groups]
    padded = sum(store.block(batch).ids.numel() for found in batches for batch in found)
    whole, bare = [lap[0] for lap in beside.laps], [lap[1] for lap in beside.laps]
    ratio = sum(bare) / (sum(whole) + calibration)
    by_shard = spread(b / w for w, b in zip(whole, bare, strict=True))
    common = {
        "tokens": sum(tokens),
        "padding": 1 - sum(tokens) / padded,
        "model": model.source,
        "dtype": str(model.dtype),
    }
    return [
        {
            "tool": "write_shards",
            **common,
            **_rate(tokens, whole),
            "calibration_seconds": calibration,
            "bytes": size,
            "ratio": ratio,
            "ratio_min": by_shard["min"],
            "ratio_median": by_shard["median"],
            "ratio_max": by_shard["max"],
        },
        {"tool": "bare forward", **common, **_rate(tokens, bare)},
    ]


def _rate(tokens: list[int], seconds: list[float]) -> dict[str, float]:
    found = spread(count / time for count, time in zip(tokens, seconds, strict=True))
    return {"tokens_per_second": found.pop("median"), **found}


if __name__ == "__main__":
    main()
