"""Which latents of two dictionaries are the same feature: by where they point, and by where they fire.

Directions: cosine of decoder rows, signed, as the opposite direction is another feature. Firing: Pearson's correlation
of activations over the same tokens, silence counted as 0. Beside every figure stands what chance gives: rows drawn at
random with the mean and covariance of the second dictionary's, and its codes shifted by half the text.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.runtime import random_stream
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.evaluate.codes import Codes, Columns

ALIKE, SAME = 0.7, 0.9
MATCHING = "greedy: mutual nearest neighbours by decoder cosine are paired and set aside, round after round"
_TABLE = 1 << 23  # entries of one block of a latents × latents table
_DECILES = 10


@dataclass(frozen=True)
class Partners:
    """For each latent of A its best partner in B and how alike they are, and the same from B to A."""

    partner: Int[Tensor, "n_a"]
    score: Float[Tensor, "n_a"]
    back: Int[Tensor, "n_b"]
    back_score: Float[Tensor, "n_b"]

    @property
    def mutual(self) -> Bool[Tensor, "n_a"]:
        """Whether A's latent is also the best partner of its best partner."""
        return self.back[self.partner] == torch.arange(len(self.partner))


@dataclass(frozen=True)
class Likeness:
    """Partners by cosine and by correlation over `rows` tokens.

    `correlation_of_nearest` is the correlation of A's latents with their nearest by cosine, `correlation_back` that of
    B's latents with theirs. `fires_a` and `fires_b` count firings.
    """

    cosine: Partners
    correlation: Partners
    correlation_of_nearest: Float[Tensor, "n_a"]
    correlation_back: Float[Tensor, "n_b"]
    fires_a: Int[Tensor, "n_a"]
    fires_b: Int[Tensor, "n_b"]
    rows: int


class _Best:
    """The best column of each row and the best row of each column of a table that comes in blocks of rows."""

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self._row, self._row_score = torch.zeros(n_rows, dtype=torch.long), torch.full((n_rows,), -2.0)
        self._column, self._column_score = torch.zeros(n_columns, dtype=torch.long), torch.full((n_columns,), -2.0)

    def add(self, first: int, table: Tensor) -> None:
        rows = slice(first, first + len(table))
        score, place = table.max(1)
        self._row_score[rows], self._row[rows] = score.float(), place
        score, place = table.max(0)
        better = score > self._column_score
        self._column_score = torch.where(better, score.float(), self._column_score)
        self._column = torch.where(better, place + first, self._column)

    def partners(self) -> Partners:
        return Partners(self._row, self._row_score, self._column, self._column_score)


def nearest(rows_a: Float[Tensor, "n_a d"], rows_b: Float[Tensor, "n_b d"]) -> Partners:
    """Partners by cosine.

    Cost  n_a × n_b × d multiply-adds; memory is bounded by blocks.
    """
    unit_a, unit_b = (torch.nn.functional.normalize(rows.float(), dim=1) for rows in (rows_a, rows_b))
    best = _Best(len(unit_a), len(unit_b))
    for numbers in torch.arange(len(unit_a)).split(max(1, _TABLE // max(1, len(unit_b)))):
        best.add(int(numbers[0]), unit_a[numbers] @ unit_b.T)
    return best.partners()


def correlations(a: Codes, b: Codes, near: Partners | None = None) -> tuple[Partners, Tensor, Tensor]:
    """Partners by Pearson's correlation over the same rows; and the correlations of the pairs in `near`, both ways.

    Every pair of latents is looked at; only pairs that fire together cost anything. A latent that never fires, or
    fires alike on all rows, has correlation 0 with all.
    Cost  the sum over rows of (active in A) × (active in B) additions; memory is bounded by blocks.
    """
    n, n_a, n_b = a.code.n_rows, a.code.n_latents, b.code.n_latents
    (sum_a, spread_a), (sum_b, spread_b) = _moments(a.code), _moments(b.code)
    best = _Best(n_a, n_b)
    forward, backward = torch.zeros(n_a), torch.zeros(n_b)
    for first, table in _products(a.columns, b.code, n_a):
        block = slice(first, first + len(table))
        table -= sum_a[block, None] * (sum_b / max(1, n))
        table *= spread_a[block, None]
        table *= spread_b
        best.add(first, table)
        if near is not None:
            forward[block] = table.gather(1, near.partner[block, None])[:, 0].float()
            mine = torch.nonzero((near.back >= first) & (near.back < first + len(table))).flatten()
            backward[mine] = table[near.back[mine] - first, mine].float()
    return best.partners(), forward, backward


def _moments(code: SparseCode) -> tuple[Tensor, Tensor]:
    """Sums, and one over the root of the summed squares about the mean (0 where there is no spread)."""
    latents, values = code.indices.long(), code.values.double()
    total = torch.bincount(latents, weights=values, minlength=code.n_latents)
    squares = torch.bincount(latents, weights=values.square(), minlength=code.n_latents)
    about = squares - total.square() / max(1, code.n_rows)
    sound = about > 1e-9 * squares
    return total, torch.where(sound, about.clamp(min=1e-300).rsqrt(), 0.0)


def _products(columns: Columns, other: SparseCode, n_latents: int) -> Iterator[tuple[int, Tensor]]:
    """Blocks of Σ over rows of f_i g_j in float64, with the first i of each."""
    size = (other.n_rows, other.n_latents)
    by_row = _sparse(other.rows, other.indices.long(), other.values, size)
    width = max(1, _TABLE // max(1, other.n_latents))
    for first in range(0, n_latents, width):
        last = min(first + width, n_latents)
        here = slice(int(columns.starts[first]), int(columns.starts[last]))
        latent = torch.repeat_interleave(torch.arange(last - first), columns.starts[first : last + 1].diff())
        block = _sparse(latent, columns.rows[here], columns.values[here], (last - first, other.n_rows))
        with warnings.catch_warnings():
            # The product goes through compressed rows, which torch calls a beta.
            warnings.filterwarnings("ignore", message="Sparse CSR")
            table = torch.sparse.mm(block, by_row).to_dense()
        yield first, table


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A sparse matrix of entries that come in order, each place once; in float64."""
    places = torch.stack([rows, columns])
    return torch.sparse_coo_tensor(places, values.double(), size, is_coalesced=True, check_invariants=False)


def likeness(a: Dictionary, b: Dictionary, codes_a: Codes, codes_b: Codes) -> Likeness:
    """Both ways of being alike, over codes of the same rows."""
    cosine = nearest(a.W_dec, b.W_dec)
    correlation, forward, backward = correlations(codes_a, codes_b, cosine)
    return Likeness(cosine, correlation, forward, backward, codes_a.fires, codes_b.fires, codes_a.code.n_rows)


def matched(rows_a: Float[Tensor, "n_a d"], rows_b: Float[Tensor, "n_b d"]) -> Float[Tensor, "pairs"]:
    """The cosines of a one-to-one matching of all rows of the smaller side: see `MATCHING`.

    It is what taking the best pair of all, again and again, gives. The mean is the MCC of the literature with this
    matching in the place of Hungarian's, which is cubic; it can only be a little lower.
    """
    left_a, left_b, found = torch.arange(len(rows_a)), torch.arange(len(rows_b)), []
    while len(left_a) and len(left_b):
        pairs = nearest(rows_a[left_a], rows_b[left_b])
        taken = pairs.mutual
        if not taken.any():  # only equal scores can do this
            taken = torch.arange(len(left_a)) == pairs.score.argmax()
        found.append(pairs.score[taken])
        free = torch.ones(len(left_b), dtype=torch.bool)
        free[pairs.partner[taken]] = False
        left_a, left_b = left_a[~taken], left_b[free]
    return torch.cat(found) if found else torch.zeros(0)


def random_rows(rows: Float[Tensor, "n d"], seed: int = 0) -> Float[Tensor, "n d"]:
    """Unit rows drawn at random with the mean and the covariance of `rows`: what chance alone points like."""
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(rows)))
    root = vectors * values.clamp(min=0).sqrt()
    drawn = torch.randn(len(rows), len(values), generator=random_stream(seed, "random rows"), dtype=torch.float64)
    return torch.nn.functional.normalize((drawn @ root.T + mean).float(), dim=1)


def shifted(codes: Codes) -> Codes:
    """The same codes half a text later: each latent fires as often and in such runs, but on other tokens."""
    half = codes.code.n_rows // 2
    code = SparseCode.concatenate([codes.code.row_slice(half, codes.code.n_rows), codes.code.row_slice(0, half)])
    return Codes(code, torch.roll(codes.token, -half))


def likeness_figures(
    found: Likeness, a: Dictionary, b: Dictionary, chance: Partners, mixed: Partners
) -> dict[str, Any]:
    """Shares, means and deciles of density, over the latents of A that fire; the chance figures beside them.

    `chance` are the partners of A among `random_rows` of B, `mixed` the correlations with B's `shifted` codes. A
    `same_number_share` that is not near 0 tells that both were started from the same random rows, as trainings of one
    seed are: their likeness is then partly inherited, not found.
    """
    live, live_b = found.fires_a > 0, found.fires_b > 0
    by_cosine, by_chance = found.cosine.score[live], chance.score[live]
    together, mixed_up = found.correlation.score[live], mixed.score[live]
    pairs = matched(a.W_dec[live], b.W_dec[live_b])
    random_pairs = matched(a.W_dec[live], random_rows(b.W_dec)[live_b])
    return {
        "rows": found.rows,
        "latents": int(live.sum()),
        "cosine": _spread(by_cosine) | {"random": _spread(by_chance)},
        "cosine_back": _spread(found.cosine.back_score[live_b]),
        "correlation": _spread(together) | {"random": _spread(mixed_up)},
        "mutual_share": _mean(found.cosine.mutual[live].double()),
        "same_number_share": _mean((found.cosine.partner == torch.arange(len(live)))[live].double()),
        "both_agree_share": _mean((found.cosine.partner == found.correlation.partner)[live].double()),
        "mcc": _mean(pairs),
        "mcc_random": _mean(random_pairs),
        "mcc_by": MATCHING,
        "deciles": _deciles(found, live, chance, mixed),
    }


def _spread(scores: Tensor) -> dict[str, float]:
    return {
        "mean": _mean(scores),
        "median": float(scores.median()) if len(scores) else 0.0,
        "above_0.7": _mean((scores > ALIKE).double()),
        "above_0.9": _mean((scores > SAME).double()),
    }


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else 0.0


def _deciles(found: Likeness, live: Tensor, chance: Partners, mixed: Partners) -> list[dict[str, float]]:
    """The same, from the rarest tenth of A's latents to the most frequent."""
    numbers = torch.nonzero(live).flatten()
    numbers = numbers[torch.argsort(found.fires_a[numbers], stable=True)]
    tenths = []
    for part in numbers.tensor_split(_DECILES):
        if not len(part):
            continue
        tenths.append(
            {
                "density_from": float(found.fires_a[part[0]]) / max(1, found.rows),
                "density_to": float(found.fires_a[part[-1]]) / max(1, found.rows),
                "latents": len(part),
                "cosine": _mean(found.cosine.score[part]),
                "cosine_above_0.7": _mean((found.cosine.score[part] > ALIKE).double()),
                "cosine_random": _mean(chance.score[part]),
                "correlation": _mean(found.correlation.score[part]),
                "correlation_random": _mean(mixed.score[part]),
            }
        )
    return tenths
