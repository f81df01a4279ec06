"""What a feature's page costs: an atlas of all features beside SAEDashboard's pages of some, from the same tokens.

Both start with token ids and end with pages' worth of data: contexts, histograms, promoted tokens, likenesses. Ours has
labels, their trials and a database in its time; SAEDashboard's writing of HTML is told apart and left out of its time.
Turns alternate, and ratios are taken within a turn.

SAEDashboard reads the text once more for every 256 features. `ms_per_feature` is that; `ms_per_feature_read_once`
spreads one reading over all features of the dictionary, which its cache on disk would come to; `ms_per_feature_rest`
has no model in it, on either side. `cpu_ms_per_feature` is processor time of all threads, model included: other
people's work on the machine disturbs it less.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from common import bench_cache, say, spread
from environments import PeerMissing, environment, pinned
from safetensors.torch import save_file
from torch import Tensor
from workers import Worker, WorkerLost

from monoscope.atlas.build import build_atlas
from monoscope.atlas.query import Atlas
from monoscope.core.blocks import ActivationBlock
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.read import Gate, groups_of_windows, live_blocks
from monoscope.harvest.token_store import TokenStore, Windows
from monoscope.model.sources import resolve_model
from monoscope.model.transformer import LanguageModel

GOAL = 100
FEATURES = 256
PROMPT = 256
WARM = 2_000
COLUMNS = (
    "tool",
    "tokens",
    "features",
    "seconds",
    "ms_per_feature",
    "ms_per_feature_read_once",
    "ms_per_feature_rest",
    "times",
    "times_read_once",
    "times_rest",
    "times_cpu",
    "maxima_correlation",
)


@dataclass(frozen=True)
class Turn:
    """Seconds of one build, those of them in the model, and the largest activation of each feature that was shown."""

    seconds: float
    cpu: float
    forward: float
    features: int
    maxima: np.ndarray
    extra: dict[str, float]

    def per_feature(self, latents: int) -> dict[str, float]:
        """Milliseconds a feature, counted in three ways."""
        rest = (self.seconds - self.forward) / self.features
        counted = {
            "ms_per_feature": self.seconds / self.features,
            "ms_per_feature_read_once": rest + self.forward / latents,
            "ms_per_feature_rest": rest,
            "cpu_ms_per_feature": self.cpu / self.features,
        }
        return {name: 1000 * value for name, value in counted.items()}


@dataclass(frozen=True)
class Scene:
    """What both tools read: a model, the dictionary of a folder, and a text with its rule for rows."""

    model: LanguageModel
    dictionary: Dictionary
    folder: Path
    store: TokenStore
    gate: Gate


def compare(scene: Scene, tokens: int, turns: int, settings: Any) -> list[dict[str, Any]]:
    """Rows of both tools over about so many tokens, or the reason why there are none."""
    model, dictionary, folder, gate = scene.model, scene.dictionary, scene.folder, scene.gate
    part = documents_of(scene.store, tokens, settings.seed)
    chosen = torch.randperm(dictionary.n_latents, generator=torch.Generator().manual_seed(settings.seed))
    features = chosen[: settings.dashboard_features].sort().values.tolist()
    with tempfile.TemporaryDirectory(dir=bench_cache(), prefix="dashboards-") as scratch:
        try:
            worker = start(model, folder, prompts_of(part), Path(scratch), settings)
        except (PeerMissing, WorkerLost) as error:
            return [{"tool": "sae-dashboard", "tokens": part.n_tokens, "reason": str(error)}]
        heard(worker, features, prompts=4)  # both begin warm
        build(model, dictionary, documents_of(part, WARM, settings.seed), gate, Path(scratch) / "warm")
        ours, theirs = [], []
        for number in range(turns):
            say(f"turn {number + 1} of {turns}: {part.n_tokens:,} tokens")
            ours.append(build(model, dictionary, part, gate, Path(scratch) / f"atlas-{number}"))
            theirs.append(heard(worker, features))
        worker.stop()
    return rows_of(ours, theirs, features, part, dictionary)


def verdict(rows: list[dict[str, Any]]) -> None:
    """Say how many times less time a feature takes."""
    for row in rows:
        if "times" in row:
            met = "met" if row["times"]["median"] >= GOAL else "NOT met"
            print(
                f"on {row['tokens']:,} tokens a feature takes {row['times']['median']:.0f} times less than with "
                f"SAEDashboard; goal {GOAL} {met} ({row['times_rest']['median']:.1f} times without the model)"
            )
        elif "reason" in row:
            print(f"SAEDashboard was not compared: {row['reason']}")


def start(model: LanguageModel, folder: Path, prompts: Tensor, scratch: Path, settings: Any) -> Worker:
    """SAEDashboard with model and dictionary loaded."""
    python = environment("saedashboard", "sae_dashboard")
    save_file({"tokens": prompts.int()}, scratch / "tokens.safetensors")
    words = [str(resolve_model(model.source).folder), str(folder.resolve()), str(scratch / "tokens.safetensors")]
    words += ["--threads", str(settings.threads), "--prompts", str(settings.dashboard_prompts)]
    say("starting SAEDashboard")
    worker = Worker("saedashboard", python, "saedashboard_build.py", words, threads=settings.threads)
    worker.hear()
    return worker


def heard(worker: Worker, features: list[int], prompts: int | None = None) -> Turn:
    """One build of SAEDashboard's."""
    found = worker.ask(features=features, prompts=prompts)
    while "seconds" not in found:
        found = worker.hear()
    extra = {name: found[name] for name in ("page_seconds", "page_bytes", "peak_bytes")}
    return Turn(
        found["seconds"],
        found["cpu_seconds"],
        found["forward_seconds"],
        len(features),
        np.array(found["maxima"]),
        extra,
    )


def build(model: LanguageModel, dictionary: Dictionary, store: TokenStore, gate: Gate, folder: Path) -> Turn:
    """One atlas, straight from the model."""
    windows = [group for held in (False, True) for group in groups_of_windows(store, held=held, seed=0)]
    reading = Reading(live_blocks(model, store, dictionary.site, gate, windows))
    began, processor = time.perf_counter(), time.process_time()
    summary = build_atlas(
        folder, reading, dictionary, store, unembedding=model.unembedding(), request={"dictionary": dictionary.name}
    )
    seconds, cpu = time.perf_counter() - began, time.process_time() - processor
    atlas = Atlas.open(folder)
    maxima = np.array(atlas.maxima)
    atlas.close()
    return Turn(seconds, cpu, reading.seconds, dictionary.n_latents, maxima, {"bytes": float(summary.bytes)})


class Reading:
    """Blocks as they come, and the seconds they took."""

    def __init__(self, blocks: Iterable[ActivationBlock]) -> None:
        self._blocks, self.seconds = iter(blocks), 0.0

    def __iter__(self) -> Iterator[ActivationBlock]:
        while True:
            began = time.perf_counter()
            block = next(self._blocks, None)
            self.seconds += time.perf_counter() - began
            if block is None:
                return
            yield block


def documents_of(store: TokenStore, tokens: int, seed: int) -> TokenStore:
    """A text of whole documents of this one, drawn by `seed`, with at least so many tokens, in their order here."""
    lengths = store.offsets.diff()
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    count = int((lengths[order].cumsum(0) < tokens).sum()) + 1
    chosen = order[:count].sort().values
    offsets = torch.zeros(len(chosen) + 1, dtype=store.offsets.dtype)
    offsets[1:] = lengths[chosen].cumsum(0)
    place = torch.repeat_interleave(store.offsets[:-1][chosen] - offsets[:-1], lengths[chosen])
    place = place + torch.arange(len(place))
    number = torch.full((len(lengths),), -1)
    number[chosen] = torch.arange(len(chosen))
    old = store.windows
    kept = torch.nonzero(number[old.document.long()] >= 0).flatten()
    document = number[old.document[kept].long()]
    shift = (offsets[:-1] - store.offsets[:-1][chosen])[document]
    windows = Windows(
        start=(old.start[kept].long() + shift).to(old.start.dtype),
        length=old.length[kept],
        prefixed=old.prefixed[kept],
        document=document.to(old.document.dtype),
        held=old.held[kept],
    )
    return replace(
        store,
        ids=store.ids[place],
        offsets=offsets,
        template=store.template[place],
        windows=windows,
        documents=store.documents.take(pa.array(chosen.numpy())),
    )


def prompts_of(store: TokenStore) -> Tensor:
    """The same tokens as SAEDashboard wants them: rows of one length, each with the start token in front."""
    own = PROMPT - 1
    count = max(1, store.n_tokens // own)
    rows = store.ids[: count * own].long().view(count, -1)
    return torch.cat([torch.full((count, 1), store.prefix_id), rows], dim=1)


def rows_of(
    ours: list[Turn], theirs: list[Turn], features: list[int], store: TokenStore, dictionary: Dictionary
) -> list[dict[str, Any]]:
    """What both tools' turns come to."""
    latents = dictionary.n_latents
    shown = np.corrcoef(ours[-1].maxima[features], theirs[-1].maxima)[0, 1]
    shared = {"tokens": store.n_tokens, "latents": latents}
    ways = {"ms_per_feature": "times", "cpu_ms_per_feature": "times_cpu"}
    ways |= {f"ms_per_feature{kind}": f"times{kind}" for kind in ("_read_once", "_rest")}
    times = {
        name: spread(
            their.per_feature(latents)[way] / mine.per_feature(latents)[way]
            for mine, their in zip(ours, theirs, strict=True)
        )
        for way, name in ways.items()
    }
    return [
        {**shared, "tool": "build_atlas", **_figures(ours, latents), "maxima_correlation": float(shown), **times},
        {
            **shared,
            "tool": "sae-dashboard",
            "version": pinned("saedashboard", "sae-dashboard"),
            **_figures(theirs, latents),
        },
    ]


def _figures(turns: list[Turn], latents: int) -> dict[str, Any]:
    counted = [turn.per_feature(latents) for turn in turns]
    return {
        "features": turns[0].features,
        "seconds": spread(turn.seconds for turn in turns),
        "forward_seconds": spread(turn.forward for turn in turns),
        **{name: spread(one[name] for one in counted) for name in counted[0]},
        **{name: max(turn.extra[name] for turn in turns) for name in turns[0].extra},
    }
