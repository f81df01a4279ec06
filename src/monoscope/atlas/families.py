"""Features that say what another says already: duplicates, and those that lose some of their tokens to another.

*Duplicate*: decoder rows with cosine of at least 0.8 that fire together with a correlation of at least 0.5; the rarer
one is the duplicate. *Absorbed* (Chanin et al. 2024): where the token occurs on which a feature typically fires and
the feature is silent, one and the same other feature, whose row points its way, fires at least half of the time. Both
are signs to look at and no verdicts. Splitting between dictionaries of different width is `monoscope compare`.
"""

import numpy as np

from monoscope.atlas.label import Known
from monoscope.atlas.sample import Sample
from monoscope.atlas.trials import TrialMaker

_SAME_COSINE, _SAME_CORRELATION = 0.8, 0.5
_POINTS_ALIKE, _HALF, _FEWEST, _MOST = 0.2, 0.5, 4, 24


def duplicates(neighbours: np.ndarray, cosines: np.ndarray, correlation: np.ndarray, firings: np.ndarray) -> np.ndarray:
    """For each feature the commoner one that it repeats, or -1."""
    mine = np.arange(len(neighbours))[:, None]
    if not neighbours.size:
        return np.full(len(neighbours), -1, np.int32)
    commoner = (firings[neighbours] > firings[mine]) | ((firings[neighbours] == firings[mine]) & (neighbours < mine))
    alike = (cosines >= _SAME_COSINE) & (correlation >= _SAME_CORRELATION) & commoner
    return np.where(alike.any(1), neighbours[mine[:, 0], alike.argmax(1)], -1).astype(np.int32)


def misses(maker: TrialMaker, known: Known) -> np.ndarray:
    """Rows on which the typical token stands and the feature is silent all through the window, one a window."""
    windows = known.open.silent[: min(_MOST, known.open.lookalikes)]
    return maker.rows_of(windows, known.typical)


def absorbed_into(sample: Sample, rows: np.ndarray, feature: int, unit_rows: np.ndarray) -> int:
    """The feature that fires instead of this one on the rows it misses, or -1. `unit_rows` are decoder rows [F, d]."""
    if len(rows) < _FEWEST:
        return -1
    _, others = sample.firings(rows)
    found, counts = np.unique(others, return_counts=True)
    often = found[counts >= _HALF * len(rows)]
    cosines = unit_rows[often] @ unit_rows[feature]
    cosines[often == feature] = -1
    return int(often[cosines.argmax()]) if len(often) and cosines.max() >= _POINTS_ALIKE else -1
