"""Whether a feature fires on other tokens than before, though perhaps as often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.core.runtime import numpy_stream
from monoscope.safety.statistics import false_discovery

# A firing is kept as one integer: feature, unit of evidence and token id.
UNIT_BITS, TOKEN_BITS = 20, 20
# It is asked of features with so many firings in either model, and no more overlap, which differ in so many units.
FEWEST_FIRINGS, FEWEST_UNITS, MOST_OVERLAP = 30, 10, 0.8
_RARE_TYPE = 5
_FIRST_DRAWS, _ALL_DRAWS, _FEW = 500, 10_000, 10
_BOTH = 3


def packed(
    features: Int[Tensor, "entries"], units: Int[Tensor, "entries"], tokens: Int[Tensor, "entries"]
) -> Int[Tensor, "entries"]:
    """One integer for each firing."""
    return (features << (UNIT_BITS + TOKEN_BITS)) | (units << TOKEN_BITS) | tokens


@dataclass(frozen=True)
class Firings:
    """Every firing, as feature, unit and token id in one integer; `kind` is 1 where A alone fires there, 2 where B
    alone does, 3 where both do."""

    keys: Int[np.ndarray, "firings"]
    kind: Int[np.ndarray, "firings"]

    def of(self, features: Sequence[int]) -> "Firings":
        """Those of some features, in the order of their keys."""
        wanted = np.zeros(int(self.keys.max() >> (UNIT_BITS + TOKEN_BITS)) + 2 if len(self.keys) else 1, bool)
        wanted[[feature for feature in features if feature < len(wanted)]] = True
        rows = np.flatnonzero(wanted[self.keys >> (UNIT_BITS + TOKEN_BITS)])
        rows = rows[np.argsort(self.keys[rows], kind="stable")]
        return Firings(self.keys[rows], self.kind[rows])

    def feature(self, feature: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
        """Unit, token id and kind of each firing of one feature; for firings that `of` has put in order."""
        bits = UNIT_BITS + TOKEN_BITS
        first, last = np.searchsorted(self.keys, [feature << bits, (feature + 1) << bits])
        keys = self.keys[first:last]
        return (keys >> TOKEN_BITS) & ((1 << UNIT_BITS) - 1), keys & ((1 << TOKEN_BITS) - 1), self.kind[first:last]


def candidates(
    firings_a: Int[Tensor, "n_latents"], firings_b: Int[Tensor, "n_latents"], overlap: Float[Tensor, "n_latents"]
) -> list[int]:
    """The features of which it can be asked whether they fire on other tokens than before."""
    enough = torch.minimum(firings_a, firings_b) >= FEWEST_FIRINGS
    return torch.nonzero(enough & (overlap <= MOST_OVERLAP)).flatten().tolist()


def context_changes(
    firings: Firings, features: Sequence[int], *, seed: int = 0, progress: Progress = SILENT
) -> dict[int, float]:
    """q of each feature's having moved to other token types, whatever its rate does; none where it differs in fewer
    than 10 units.

    The statistic is Pearson's, of the table of two models by token types, which is blind to how often each fires:

        Σ over types (A_t B - B_t A)² / (T_t A B)        A = Σ A_t, B = Σ B_t, T_t = A_t + B_t

    Its law is that of the same statistic with both models exchanged in each unit by lot. Types with fewer than 5
    firings count as one.

    Cost    500 draws a feature, 10,000 where it looks changed.
    """
    chosen = firings.of(features)
    progress.start("contexts", len(features), "features")
    p: dict[int, float] = {}
    for feature in features:
        table, totals = _table(*chosen.feature(feature))
        if len(table) >= FEWEST_UNITS:
            p[feature] = _swap_p(table, totals, seed, feature)
        progress.advance(1)
    progress.finish()
    q = false_discovery(torch.tensor(list(p.values()), dtype=torch.float64)).tolist()
    return dict(zip(p, q, strict=True))


def _table(
    units: np.ndarray, tokens: np.ndarray, kind: np.ndarray
) -> tuple[Float[np.ndarray, "units types"], Float[np.ndarray, "types"]]:
    """B's firings less A's of each unit that differs and each token type, and all firings of the type."""
    _, token = np.unique(tokens, return_inverse=True)
    weight = (kind & 1) + (kind >> 1)
    common = np.bincount(token, weights=weight) >= _RARE_TYPE
    column = np.where(common, np.cumsum(common), 0)[token]
    totals = np.bincount(column, weights=weight, minlength=int(common.sum()) + 1)
    one = kind != _BOTH
    names, unit = np.unique(units[one], return_inverse=True)
    table = np.zeros((len(names), len(totals)))
    np.add.at(table, (unit, column[one]), np.where(kind[one] == 1, -1.0, 1.0))
    return table[:, totals > 0], totals[totals > 0]


def _swap_p(
    table: Float[np.ndarray, "units types"], totals: Float[np.ndarray, "types"], seed: int, feature: int
) -> float:
    stream, real = numpy_stream(seed, "contexts", feature), float(_pearson(table.sum(0)[None], totals)[0])
    narrow = table.astype(np.float32)
    above = done = 0
    for draws in (_FIRST_DRAWS, _ALL_DRAWS - _FIRST_DRAWS):
        signs = (2 * stream.integers(0, 2, (draws, len(table)), dtype=np.int8) - 1).astype(np.float32)
        above += int((_pearson(signs @ narrow, totals) >= real * (1 - 1e-5)).sum())
        done += draws
        if above >= _FEW:
            break
    return (1 + above) / (1 + done)


def _pearson(d: Float[np.ndarray, "draws types"], totals: Float[np.ndarray, "types"]) -> Float[np.ndarray, "draws"]:
    """From B's firings less A's of each type; 0 where one of both fires nowhere."""
    whole, gap = float(totals.sum()), d.sum(1, dtype=np.float64)
    across = np.square(totals * gap[:, None] - d * whole) / totals
    ends = np.square(whole) - np.square(gap)
    return np.where(ends > 0, across.sum(1) / np.maximum(ends, 1.0), 0.0)


def moved_tokens(
    firings: Firings, features: Sequence[int], *, limit: int = 5
) -> dict[int, tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]]:
    """For each feature the token ids on which it fires more in B, and those on which it fires more in A, each with its
    firings in A and in B; the largest differences first."""
    chosen = firings.of(features)
    return {feature: _moved(*chosen.feature(feature)[1:], limit) for feature in features}


def _moved(tokens: np.ndarray, kind: np.ndarray, limit: int) -> tuple[list, list]:
    ids, place = np.unique(tokens, return_inverse=True)
    a = np.bincount(place, weights=kind & 1, minlength=len(ids)).astype(int)
    b = np.bincount(place, weights=kind >> 1, minlength=len(ids)).astype(int)
    up = [i for i in np.argsort(a - b, kind="stable")[:limit] if b[i] > a[i]]
    down = [i for i in np.argsort(b - a, kind="stable")[:limit] if a[i] > b[i]]
    return tuple([(int(ids[i]), int(a[i]), int(b[i])) for i in some] for some in (up, down))  # type: ignore[return-value]
