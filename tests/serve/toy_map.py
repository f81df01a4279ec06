"""A map of the toy atlas made by hand: no library, and every place is known."""

import numpy as np

from monoscope.atlas.layout import Cluster, FeatureMap
from monoscope.atlas.query import Atlas

SIDE = 65_535


def lay_map(folder, names=("animals", "bridges")):
    """Feature n at column n % 12, row n // 12 of a grid; the left half is the first group, four fine ones in all."""
    atlas = Atlas.open(folder)
    features = np.arange(atlas.n_features, dtype=np.int32)
    column, row = features % 12, features // 12
    places = np.stack([column * SIDE // 11, row * SIDE // 7], axis=1).astype(np.uint16)
    side = (column >= 6).astype(np.int16)
    fine = side * 2 + (row >= 4)
    clusters = [Cluster(0, names[n], 0.25 + 0.5 * n, 0.5, 48) for n in range(2)]
    clusters += [Cluster(1, f"{names[n]}, middle", 0.25 + 0.5 * n, 0.4, 48) for n in range(2)]
    clusters += [Cluster(2, f"fine {n}", 0.25 + 0.5 * (n // 2), 0.25 + 0.5 * (n % 2), 24) for n in range(4)]
    found = FeatureMap(features, places, np.stack([side, side, fine], axis=1).astype(np.int16), tuple(clusters))
    found.save(folder, atlas.digest)
    atlas.close()
    return found
