"""An atlas of a million features: what building it takes, and how fast questions to it are answered.

No dictionary of a million features is at hand, so codes are planted: a rule of hashes says which of the features fire
on each token of the run's text, and how strongly, some 32 of them. Every feature belongs to one token of the
vocabulary, or to the few of a small group, so that contexts, labels and words make sense:

- *fine* features fire where their token stands after some words and not after others, so that they have near misses;
- *coarse* ones wherever one of their tokens stands.

Densities fall like those of words do. Decoder rows point along a vector of the token, with noise of their own, so that
features of one token are neighbours; they have 64 dimensions unless `--width` says otherwise. All that follows the
encoding is the ordinary build.

`--keep` leaves the atlas in the cache of the benchmarks, and a later run asks that one.
"""

import argparse
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from atlas_flat import Clock, peak_bytes
from common import Results, arguments, bench_cache, say, shards_of, show, study, text_of
from torch import Tensor

from monoscope.atlas.build import build_atlas, is_finished
from monoscope.atlas.likeness import search_like
from monoscope.atlas.query import Atlas
from monoscope.atlas.schema import MANIFEST
from monoscope.atlas.search import search_words
from monoscope.core.artifact import read_json
from monoscope.core.blocks import ActivationBlock
from monoscope.core.site import Site
from monoscope.core.sparse import SparseCode, starts_from_counts
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.harvest.token_store import TokenStore

GOALS = {"show_ms": 20.0, "words_ms": 100.0, "like_ms": 50.0}
COLUMNS = (
    "latents",
    "width",
    "tokens",
    "seconds",
    "anonymous_peak_bytes",
    "bytes",
    "show_ms",
    "show_p95_ms",
    "words_ms",
    "words_p95_ms",
    "like_ms",
    "like_p95_ms",
)
_SILENCE = 0.1
_COARSE_LEAST, _COARSE_MOST = 1_000, 20_000
_FINE_LEAST, _FINE_MOST = 8, 512
_WINDOWS = 64
# Places in the text are told as shares of this many, exactly so in float32.
_PLACES = 1 << 24


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64, help="dimensions of a decoder row")
    parser.add_argument("--k", type=int, default=32, help="features that fire on a token, about")
    parser.add_argument("--asked", type=int, default=200, help="questions of each kind")
    parser.add_argument("--keep", action="store_true", help="leave the atlas in the cache")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    results = Results("atlas_million", settings, keys=("latents", "width", "tokens", "cpu"))
    run = study(settings.run, settings.study_tokens)
    store = text_of(run, shards_of(run))
    folder = bench_cache() / f"atlas-{settings.latents}-{settings.width}-{store.digest[:8]}"
    planted = Planted.of(store, settings)
    built = kept(folder) if is_finished(folder) else build(folder, planted, store)
    asked = ask(folder, planted, settings)
    old = next((row for row in results.rows if row["latents"] == settings.latents), {})
    known = {"latents": settings.latents, "width": settings.width, "tokens": store.n_tokens}
    results.put([{"tool": "build_atlas", **old, **known, **built, **asked}])
    if not settings.keep:
        shutil.rmtree(folder)
    show(results.rows, COLUMNS)
    for name, goal in GOALS.items():
        worst = asked[name.replace("_ms", "_p95_ms")]
        print(f"{name.removesuffix('_ms')} p95 {worst:.1f} ms; goal {goal:g} ms {'met' if worst < goal else 'NOT met'}")


# --- codes that are planted ------------------------------------------------------------------------------------------


class Planted(Dictionary):
    """A dictionary whose codes follow from where a token stands; activations carry the token's place in the text."""

    architecture = "planted"

    @classmethod
    def of(cls, store: TokenStore, settings: argparse.Namespace) -> "Planted":
        """Features for the tokens of a text, as many as asked for; a few at the end may stay silent."""
        latents, width = settings.latents, settings.width
        slots = Slots(store, latents, settings.k, settings.seed)
        generator = torch.Generator().manual_seed(settings.seed)
        tokens = torch.nn.functional.normalize(torch.randn(len(store.vocabulary), width, generator=generator), dim=1)
        rows = torch.randn(latents, width, generator=generator).mul_(0.7 / width**0.5)
        rows += tokens[torch.from_numpy(slots.token_of_feature)]
        rows = torch.nn.functional.normalize(rows, dim=1)
        nothing = torch.zeros(1).expand(latents)
        weights = Weights(torch.zeros(1, 1).expand(width, latents), nothing, rows, torch.zeros(width))
        most = torch.from_numpy(slots.strength)
        stats = Stats(
            most, most, torch.full((1,), settings.k / latents).expand(latents), torch.zeros(width), 1, 1.0, 2.0
        )
        made = cls(weights, site=Site.parse("resid_post.0"), name="planted", stats=stats, settings={})
        made.slots, made.tokens = slots, tokens
        return made

    slots: "Slots"
    tokens: Tensor

    def select(self, pre: Tensor) -> SparseCode:
        """Nothing can be told from pre-activations here."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> SparseCode:
        """The features of each token, whose place in the text is the first number of its row."""
        return self.slots.code((x[:, 0] * _PLACES).long().numpy())

    def blocks(self, store: TokenStore) -> Iterator[ActivationBlock]:
        """All windows in reading order."""
        for windows in torch.arange(len(store.windows)).split(_WINDOWS):
            first, length = store.windows.start[windows].long(), store.windows.length[windows].long()
            begins = torch.repeat_interleave(first - (length.cumsum(0) - length), length)
            token = begins + torch.arange(int(length.sum()))
            x = torch.randn(len(token), self.d_in, generator=torch.Generator().manual_seed(int(windows[0])))
            x[:, 0] = token.float() / _PLACES
            yield ActivationBlock(x, token)


class Slots:
    """One feature of each slot may fire on a token; slots share no feature."""

    def __init__(self, store: TokenStore, latents: int, k: int, seed: int) -> None:
        self.latents, self._seed = latents, seed
        self._ids = store.ids.numpy().astype(np.int64)
        self._before = np.concatenate([[-1], self._ids[:-1]])
        count = np.bincount(self._ids, minlength=len(store.vocabulary))
        slots = round(k / (1 - _SILENCE))
        coarse = np.geomspace(_COARSE_LEAST, _COARSE_MOST, slots // 2).astype(int)
        coarse = np.minimum(coarse, max(1, latents // (4 * len(coarse))))
        left = latents - int(coarse.sum())
        self._groups = [_hash(np.arange(len(count)), number, seed) % size for number, size in enumerate(coarse)]
        scale = _fitting(count, slots - len(coarse), left)
        self._parts = [_parts(count, share) for share in _shares(scale, slots - len(coarse))]
        # A dictionary too small for all tokens of the text gives some of them one feature.
        wanted, room = [int(parts.sum()) for parts in self._parts], left // len(self._parts)
        self._sizes = wanted if sum(wanted) <= left else [min(size, room) for size in wanted]
        self._first = np.cumsum([0, *coarse, *self._sizes])
        self._begins = [np.cumsum(parts) - parts for parts in self._parts]
        self.strength = (2 + 18 * _unit(np.arange(latents), 99, seed) ** 2).astype(np.float32)
        self.token_of_feature = self._tokens(count)

    def _tokens(self, count: np.ndarray) -> np.ndarray:
        """The commonest token of each feature."""
        found = np.zeros(self.latents, np.int64)
        order = np.argsort(count, kind="stable")
        for number, group in enumerate(self._groups):
            found[self._first[number] + group[order]] = order
        for number, parts in enumerate(self._parts):
            tokens = np.repeat(np.arange(len(parts)), parts)
            found[self._first[len(self._groups) + number] + np.arange(len(tokens)) % self._sizes[number]] = tokens
        return found

    def code(self, token: np.ndarray) -> SparseCode:
        """The features of some tokens of the text."""
        ids, before = self._ids[token], self._before[token]
        features = [self._first[number] + group[ids] for number, group in enumerate(self._groups)]
        for number, parts in enumerate(self._parts):
            part = _hash(before, number, self._seed) % np.maximum(1, parts[ids])
            place = (self._begins[number][ids] + part) % self._sizes[number]
            features.append(self._first[len(self._groups) + number] + place)
        feature = np.stack(features, axis=1)  # rising along each row, as slots are
        chance = _unit(token[:, None] * len(features) + np.arange(len(features)), 7, self._seed)
        fires = chance >= _SILENCE
        strength = 0.2 + 0.8 * _unit(token[:, None] * len(features) + np.arange(len(features)), 8, self._seed)
        values = (self.strength[feature] * strength)[fires].astype(np.float32)
        counts = torch.from_numpy(fires.sum(1))
        indices = torch.from_numpy(feature[fires].astype(np.int32))
        return SparseCode(indices, torch.from_numpy(values), starts_from_counts(counts), self.latents)


def _shares(scale: float, slots: int) -> np.ndarray:
    return scale * np.geomspace(_FINE_LEAST, _FINE_MOST, slots)


def _parts(count: np.ndarray, share: float) -> np.ndarray:
    """How many features a slot has for each token: one for every `share` of its occurrences."""
    return np.ceil(count / max(1.0, share)).astype(np.int64)


def _fitting(count: np.ndarray, slots: int, room: int) -> float:
    """The smallest scale at which all slots fit; where the text has too few tokens, features stay silent."""
    low, high = 1e-3, 1e6
    for _ in range(60):
        middle = (low * high) ** 0.5
        wanted = sum(int(_parts(count, share).sum()) for share in _shares(middle, slots))
        low, high = (middle, high) if wanted > room else (low, middle)
    return high


def _hash(values: np.ndarray, salt: int, seed: int) -> np.ndarray:
    mixed = values.astype(np.uint64) + np.uint64((salt * 1_000_003 + seed * 7_919 + 1) & 0xFFFFFFFF)
    for multiplier in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(multiplier)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


def _unit(values: np.ndarray, salt: int, seed: int) -> np.ndarray:
    return _hash(values, salt, seed) / float(1 << 63)


# --- building and asking ---------------------------------------------------------------------------------------------


def build(folder: Path, planted: Planted, store: TokenStore) -> dict[str, Any]:
    """Build it and say what that took."""
    say(f"building an atlas of {planted.n_latents:,} features in {folder.name}")
    clock = Told()
    with Watched() as watched:
        summary = build_atlas(
            folder,
            planted.blocks(store),
            planted,
            store,
            unembedding=planted.tokens,
            request={"dictionary": "planted", "latents": planted.n_latents, "width": planted.d_out},
            progress=clock,
        )
    return {
        "seconds": summary.seconds,
        "alive": summary.alive,
        "bytes": summary.bytes,
        "peak_bytes": peak_bytes(),
        "anonymous_peak_bytes": watched.peak,
        "stages": [[name, round(begin.wall, 1), round(end.wall, 1)] for name, begin, end in clock.stages],
    }


def kept(folder: Path) -> dict[str, Any]:
    """What the manifest of a finished one says of its building."""
    manifest = read_json(folder / MANIFEST)
    return {name: manifest[name] for name in ("seconds", "alive", "bytes")}


class Told(Clock):
    """A clock that says what it notes."""

    def finish(self) -> None:
        """The stage is over."""
        super().finish()
        name, begin, end = self.stages[-1]
        say(f"{name}: from {begin.wall:.0f} to {end.wall:.0f} s; peak {peak_bytes() / 1e9:.2f} GB")


class Watched:
    """The most memory that is this process's own: files mapped into it, which the system may drop, are not counted."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watched":
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            lines = Path("/proc/self/status").read_text().splitlines()
            now = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
            self.peak = max(self.peak, now)


def ask(folder: Path, planted: Planted, settings: argparse.Namespace) -> dict[str, Any]:
    """Open it and put questions; the first of each kind, which fills caches, is told apart."""
    began = time.perf_counter()
    atlas = Atlas.open(folder)
    opened = time.perf_counter() - began
    draw = np.random.default_rng(settings.seed)
    features = draw.integers(0, atlas.n_features, settings.asked + 1).tolist()
    words = queries(atlas, draw, settings.asked + 1)
    found: dict[str, Any] = {"open_seconds": opened}
    found |= timed("show", atlas.feature, features)
    found |= timed("words", lambda query: search_words(atlas, query), words)
    found |= timed("like", lambda feature: search_like(atlas, planted, str(feature)), features)
    pairs = [f"{one} - {other}" for one, other in zip(features, features[1:], strict=False)]
    found |= timed("difference", lambda pair: search_like(atlas, planted, pair), pairs)
    found |= {name: path.stat().st_size for name, path in (("words_bytes", folder / "words.sqlite"),) if path.is_file()}
    atlas.close()
    return found


def queries(atlas: Atlas, draw: np.random.Generator, count: int) -> list[str]:
    """One to three words of the text each, drawn by how often they occur, none shorter than three letters."""
    store, found = atlas.store, []
    while len(found) < count:
        wanted, words = int(draw.integers(1, 4)), []
        while len(words) < wanted:
            at = int(draw.integers(0, store.n_tokens - 8))
            pieces = [word for word in store.text_of(at, at + 8).split()[1:-1] if word.isalpha() and len(word) > 2]
            words += pieces[:1]
        found.append(" ".join(words))
    return found


def timed(name: str, question: Callable[[Any], Any], asked: Sequence[Any]) -> dict[str, float]:
    """Milliseconds of one kind of question."""
    spent = []
    for one in asked:
        began = time.perf_counter()
        question(one)
        spent.append(1000 * (time.perf_counter() - began))
    say(f"{name}: first {spent[0]:.0f} ms, then {statistics.median(spent[1:]):.1f} ms")
    rest = spent[1:]
    return {
        f"{name}_first_ms": spent[0],
        f"{name}_ms": statistics.median(rest),
        f"{name}_p95_ms": float(np.percentile(rest, 95)),
        f"{name}_max_ms": max(rest),
    }


if __name__ == "__main__":
    main()
