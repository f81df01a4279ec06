"""The map of an atlas as the page and its script want it."""

import hashlib
from typing import Any

import numpy as np

from monoscope.atlas.layout import FeatureMap
from monoscope.atlas.query import Atlas
from monoscope.core.errors import ArtifactNotFound
from monoscope.render.tokens import plain_text

_POINT = np.dtype([("feature", "<u4"), ("x", "<u2"), ("y", "<u2"), ("cluster", "<u2")])


def map_of(atlas: Atlas) -> FeatureMap:
    """The map.

    Raises
        ArtifactNotFound  none was made yet.
    """
    if atlas.map is None:
        raise ArtifactNotFound(f"There is no map of {atlas.dictionary} yet; monoscope map RUN makes it.")
    return atlas.map


def points(found: FeatureMap) -> bytes:
    """Ten bytes a feature, little-endian: its number (4), x, y (0 to 65,535) and the number of its finest cluster."""
    table = np.zeros(len(found.features), _POINT)
    table["feature"], table["cluster"] = found.features, found.cluster[:, -1]
    table["x"], table["y"] = found.places[:, 0], found.places[:, 1]
    return table.tobytes()


def version_of(found: FeatureMap) -> str:
    """Changes with any point."""
    return hashlib.sha256(points(found)).hexdigest()[:16]


def levels_of(found: FeatureMap) -> list[list[dict[str, Any]]]:
    """The clusters of each level, coarse ones first, by number; `parent` is the number one level up."""
    levels: list[list[dict[str, Any]]] = [[] for _ in range(found.cluster.shape[1])]
    for cluster in found.clusters:
        levels[cluster.level].append(
            {"name": plain_text(cluster.name)[:80], "x": cluster.x, "y": cluster.y, "features": cluster.features}
        )
    for level in range(1, len(levels)):
        parents = dict(zip(found.cluster[:, level].tolist(), found.cluster[:, level - 1].tolist(), strict=True))
        for number, cluster in enumerate(levels[level]):
            cluster["parent"] = parents.get(number, 0)
    return levels


def outline_of(levels: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The two coarse levels as a tree, large clusters first, for readers without a picture."""
    top = [{**cluster, "inside": []} for cluster in (levels[0] if levels else [])]
    for cluster in levels[1] if len(levels) > 1 else []:
        top[cluster["parent"]]["inside"].append(cluster)
    for cluster in top:
        cluster["inside"].sort(key=_size)
    return sorted(top, key=_size)


def _size(cluster: dict[str, Any]) -> int:
    return -cluster["features"]
