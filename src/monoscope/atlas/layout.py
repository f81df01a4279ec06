"""The map: a place in the plane for every living feature, and named clusters for three levels of zoom.

Features whose decoder rows point alike lie close together (PaCMAP, Wang et al. 2021, on unit rows, with a fixed seed).
The picture is for looking around: distances in it prove nothing, the neighbour table has the cosines. A cache: it can
be made again from dictionary and atlas.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monoscope.core.artifact import read_json, replacing, write_json
from monoscope.core.errors import MonoscopeError, Unavailable

PLACES, CLUSTERS = "map.npz", "clusters.json"
LEVELS = (12, 60, 300)
_SEED = 7
_GRID = 65_535
_NAME_WORDS = 3
_WORD = re.compile(r"[^\W\d_]{3,}")
_DULL = frozenset(
    [
        "near",
        "after",
        "the",
        "and",
        "about",
        "text",
        "words",
        "names",
        "numbers",
        "start",
        "python",
        "code",
        "english",
        "french",
        "spanish",
        "with",
    ]
)


@dataclass(frozen=True)
class Cluster:
    """A group of features at one level of zoom; `x` and `y` are its middle, between 0 and 1."""

    level: int
    name: str
    x: float
    y: float
    features: int


@dataclass(frozen=True)
class FeatureMap:
    """`features` are those that have a place; `places` [features, 2] are 0 to 65,535; `cluster` [features, levels]."""

    features: np.ndarray
    places: np.ndarray
    cluster: np.ndarray
    clusters: tuple[Cluster, ...]

    @classmethod
    def open(cls, folder: Path, digest: str) -> "FeatureMap | None":
        """The map of an atlas; None where there is none of this very atlas or it cannot be read."""
        try:
            about = read_json(folder / CLUSTERS)
            if about.get("digest") != digest:
                return None
            with np.load(folder / PLACES, allow_pickle=False) as found:
                arrays = [found[name] for name in ("features", "places", "cluster")]
            features, places, cluster = arrays
            return cls(features, places, cluster, tuple(Cluster(**one) for one in about["clusters"]))
        except (MonoscopeError, OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, folder: Path, digest: str) -> None:
        """Keep it beside an atlas."""
        with replacing(folder / PLACES) as aside, aside.open("wb") as stream:
            np.savez(stream, features=self.features, places=self.places, cluster=self.cluster)
        write_json(folder / CLUSTERS, {"digest": digest, "clusters": [vars(one) for one in self.clusters]})

    def of(self, feature: int) -> tuple[float, float] | None:
        """The place of a feature, both coordinates between 0 and 1."""
        at = int(np.searchsorted(self.features, feature))
        if at >= len(self.features) or self.features[at] != feature:
            return None
        x, y = (self.places[at] / _GRID).tolist()
        return round(x, 5), round(y, 5)


def lay_out(rows: np.ndarray, features: np.ndarray, labels: Sequence[str], seed: int = _SEED) -> FeatureMap:
    """Place features by their decoder rows [features, d] and name what lies together. Same seed, same map.

    Raises
        Unavailable  pacmap is not installed.
    """
    unit = rows / np.maximum(1e-12, np.linalg.norm(rows, axis=1, keepdims=True))
    places = _placed(unit.astype(np.float32), seed)
    levels = _levels(places, seed)
    clusters = [cluster for level, number in enumerate(levels) for cluster in _named(level, number, places, labels)]
    grid = np.round(places * _GRID).astype(np.uint16)
    return FeatureMap(features.astype(np.int32), grid, np.stack(levels, axis=1).astype(np.int16), tuple(clusters))


def _placed(unit: np.ndarray, seed: int) -> np.ndarray:
    """Places between 0 and 1; a few features are only spread along their first two components."""
    if len(unit) < 16:
        places = (unit - unit.mean(0))[:, :2] if len(unit) else np.zeros((0, 2))
    else:
        try:
            import pacmap
        except ImportError as error:
            raise Unavailable(
                "The map needs the package pacmap; install it with: pip install 'monoscope[map]'"
            ) from error
        logging.getLogger("pacmap.pacmap").setLevel(logging.ERROR)  # it warns of every seed
        places: Any = pacmap.PaCMAP(n_components=2, random_state=seed, verbose=False).fit_transform(unit, init="pca")
    low, high = (places.min(0), places.max(0)) if len(places) else (0, 1)
    return (places - low) / np.maximum(1e-9, high - low)


def _levels(places: np.ndarray, seed: int) -> list[np.ndarray]:
    """Cluster numbers at each level, coarse ones made of fine ones."""
    import sklearn.cluster

    library: Any = sklearn.cluster  # its stubs are stricter than it is

    wanted = min(LEVELS[-1], max(1, len(places) // 8))
    if len(places) < 2:
        return [np.zeros(len(places), int) for _ in LEVELS]
    fine = library.KMeans(n_clusters=wanted, random_state=seed, n_init=1).fit(places)
    found = []
    for count in LEVELS[:-1]:
        joined = (
            library.AgglomerativeClustering(n_clusters=min(count, wanted)).fit(fine.cluster_centers_)
            if wanted > 1
            else None
        )
        found.append(joined.labels_[fine.labels_] if joined is not None else np.zeros(len(places), int))
    return [*found, fine.labels_]


def _named(level: int, number: np.ndarray, places: np.ndarray, labels: Sequence[str]) -> list[Cluster]:
    """The clusters of a level, each named by the words that its labels have and others' have not."""
    words = [set(_WORD.findall(label.lower())) - _DULL for label in labels]
    everywhere = Counter(word for found in words for word in found)
    clusters = []
    for one in range(int(number.max(initial=-1)) + 1):
        inside = np.flatnonzero(number == one)
        here = Counter(word for place in inside.tolist() for word in words[place])
        ranked = sorted(
            here, key=lambda word: (-_telling(here[word], everywhere[word], len(inside), len(labels)), word)
        )
        middle = np.median(places[inside], axis=0)
        name = ", ".join(ranked[:_NAME_WORDS]) or "–"
        clusters.append(Cluster(level, name, round(float(middle[0]), 5), round(float(middle[1]), 5), len(inside)))
    return clusters


def _telling(here: int, everywhere: int, inside: int, total: int) -> float:
    """How much a word says about a cluster: its count there times the logarithm of how much commoner it is there."""
    return here * np.log(max(1.0, here / inside / (everywhere / total)))
