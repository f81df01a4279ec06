"""How much of a known truth a dictionary has found: which features, and on which tokens.

Definitions as in SynthSAEBench (Chanin and Garriga-Alonso 2026), so that figures can be compared: every latent is a
detector of the true feature whose direction is nearest to its decoder row, by |cosine|; precision, recall and F1 are
means over all latents, dead ones counting 0. Because several latents may be nearest to one feature, the same is also
told for the best one-to-one assignment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.synthetic import SyntheticStore

_PIECE = 8192


class Coder(Protocol):
    """What is scored: a dictionary, or anything that codes like one."""

    def encode(self, x: Float[Tensor, "tokens d_in"]) -> SparseCode:
        """The code of some tokens."""
        ...

    def decode(self, code: SparseCode) -> Float[Tensor, "tokens d_out"]:
        """The tokens of a code."""
        ...


@dataclass(frozen=True)
class Detection:
    """Latents as detectors of features; one entry for each latent. A figure without any case counts 0."""

    feature: Int[Tensor, "n_latents"]
    cosine: Float[Tensor, "n_latents"]
    precision: Float[Tensor, "n_latents"]
    recall: Float[Tensor, "n_latents"]

    @property
    def f1(self) -> Float[Tensor, "n_latents"]:
        """2 precision recall / (precision + recall)."""
        return 2 * self.precision * self.recall / (self.precision + self.recall).clamp(min=1e-12)


@dataclass(frozen=True)
class Recovery:
    """Figures over `tokens` held tokens of a world with known features.

    mcc         mean |cosine| of decoder rows and true directions under the best one-to-one assignment (Hungarian).
    uniqueness  distinct features among the nearest of each latent, as a share of the latents.
    f1, precision, recall  means over latents, each against its nearest feature; `matched_f1` under the assignment.
    fvu         Σ|x - x̂|² / Σ|x - mean|² over all tokens; explained variance is 1 - fvu.
    l0, true_l0 latents and true features active on a mean token.
    dead        latents that never fired on these tokens.
    shrinkage   mean of |x̂| / |x| over tokens where something fires; 1 is none.
    nearest     the same for each latent; `density` is each latent's share of tokens.
    """

    tokens: int
    mcc: float
    uniqueness: float
    f1: float
    precision: float
    recall: float
    matched_f1: float
    fvu: float
    l0: float
    true_l0: float
    dead: int
    shrinkage: float
    nearest: Detection
    matched: Detection
    density: Float[Tensor, "n_latents"]

    def plain(self) -> dict[str, float | int]:
        """The figures without what is told for each latent."""
        return {name: value for name, value in vars(self).items() if isinstance(value, (int, float))}


@dataclass(frozen=True)
class Matching:
    """|cosine| of every direction of a dictionary with every true one, the nearest of each, and the best assignment."""

    cosines: Float[Tensor, "n_latents features"]
    nearest: Int[Tensor, "n_latents"]
    matched: Int[Tensor, "n_latents"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n_latents d_out"], directions: Float[Tensor, "features d_out"]) -> "Matching":
        """Compare decoder rows with true directions.

        Raises
            BadRequest  they have different widths.
        """
        if rows.shape[1] != directions.shape[1]:
            raise BadRequest(
                f"The dictionary writes {rows.shape[1]} dimensions and the world has {directions.shape[1]}."
            )
        cosines = (_unit(rows) @ _unit(directions).T).abs()
        return cls(cosines, cosines.max(1).indices, assign(cosines))


def _unit(rows: Tensor) -> Tensor:
    return rows.float() / rows.float().norm(dim=1, keepdim=True).clamp(min=1e-8)


def recovery(dictionary: Dictionary, store: SyntheticStore, progress: Progress = SILENT) -> Recovery:
    """Score a dictionary on all held rows, with the threshold it is read with."""
    matching = Matching.of(dictionary.W_dec, store.truth.directions)
    return score(dictionary, matching, store, store.shards("held"), progress)


def score(
    coder: Coder,
    matching: Matching,
    store: SyntheticStore,
    shards: Sequence[dict[str, Any]],
    progress: Progress = SILENT,
) -> Recovery:
    """The same for anything that codes, on some pieces of a store.

    Raises
        BadRequest  there are no rows.
    """
    if not shards:
        raise BadRequest("There are no held rows to score on; make the synthetic store with held_rows above 0.")
    tally = _Tally(len(matching.nearest), store, (matching.nearest, matching.matched))
    progress.start("score", sum(shard["rows"] for shard in shards), "tokens")
    for shard in shards:
        truth = store.code(shard)
        for start in range(0, shard["rows"], _PIECE):
            part = truth.row_slice(start, min(start + _PIECE, shard["rows"]))
            tally.add(store.truth.activations(part), part, coder)
            progress.advance(part.n_rows)
    progress.finish()
    return tally.result(matching.cosines)


class _Tally:
    """Running sums; energies in float64."""

    def __init__(self, n_latents: int, store: SyntheticStore, features: tuple[Tensor, Tensor]) -> None:
        self._features, self._n = features, store.settings.features
        self._hits = [torch.zeros(n_latents, dtype=torch.long) for _ in features]
        self._fires = torch.zeros(n_latents, dtype=torch.long)
        self._true = torch.zeros(self._n, dtype=torch.long)
        self._sum = torch.zeros(store.d_model, dtype=torch.float64)
        self._error = self._energy = self._ratio = 0.0
        self._tokens = self._full = 0

    def add(self, x: Tensor, truth: SparseCode, coder: Coder) -> None:
        code = coder.encode(x)
        found = coder.decode(code)
        latent, row = code.indices.long(), code.rows
        self._fires += torch.bincount(latent, minlength=len(self._fires))
        self._true += torch.bincount(truth.indices, minlength=self._n)
        # True entries are sorted by row and feature, so their keys are sorted too.
        keys = truth.rows * self._n + truth.indices
        for hits, feature in zip(self._hits, self._features, strict=True):
            wanted = row * self._n + feature[latent]
            there = _contains(keys, wanted) & (feature[latent] >= 0)
            hits += torch.bincount(latent[there], minlength=len(hits))
        self._error += float((x - found).double().square().sum())
        self._energy += float(x.double().square().sum())
        self._sum += x.double().sum(0)
        there = x.norm(dim=1) > 0  # where nothing fires there is nothing to shrink
        self._ratio += float((found[there].norm(dim=1) / x[there].norm(dim=1)).sum())
        self._full += int(there.sum())
        self._tokens += len(x)

    def result(self, cosines: Tensor) -> Recovery:
        nearest, matched = (
            self._detection(hits, feature, cosines) for hits, feature in zip(self._hits, self._features, strict=True)
        )
        taken = matched.feature >= 0
        variance = self._energy - float(self._sum.square().sum()) / self._tokens
        return Recovery(
            tokens=self._tokens,
            mcc=float(matched.cosine[taken].mean()),
            uniqueness=len(nearest.feature.unique()) / len(nearest.feature),
            f1=float(nearest.f1.mean()),
            precision=float(nearest.precision.mean()),
            recall=float(nearest.recall.mean()),
            matched_f1=float(matched.f1[taken].mean()),
            fvu=self._error / max(variance, 1e-30),
            l0=float(self._fires.sum()) / self._tokens,
            true_l0=float(self._true.sum()) / self._tokens,
            dead=int((self._fires == 0).sum()),
            shrinkage=self._ratio / max(1, self._full),
            nearest=nearest,
            matched=matched,
            density=(self._fires / self._tokens).float(),
        )

    def _detection(self, hits: Tensor, feature: Tensor, cosines: Tensor) -> Detection:
        none = feature < 0
        true = self._true[feature.clamp(min=0)].masked_fill(none, 0)
        cosine = cosines.gather(1, feature.clamp(min=0)[:, None]).flatten().masked_fill(none, 0.0)
        return Detection(feature, cosine, hits / self._fires.clamp(min=1), hits / true.clamp(min=1))


def _contains(keys: Int[Tensor, "entries"], wanted: Int[Tensor, "asked"]) -> Tensor:
    if not len(keys):
        return torch.zeros(len(wanted), dtype=torch.bool)
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return keys[place] == wanted


def assign(score: Float[Tensor, "n m"]) -> Int[Tensor, "n"]:
    """The one-to-one assignment with the largest total score: a column for each row, -1 for rows that get none.

    Shortest augmenting paths with potentials (Jonker and Volgenant 1987). A row whose best column is still free takes
    it, which is nearly all of them in trained dictionaries; the others displace rows until the total is best.
    """
    if score.shape[0] > score.shape[1]:
        row = assign(score.T)
        column = torch.full((score.shape[0],), -1)
        column[row] = torch.arange(len(row))
        return column
    cost = (score.max() - score).numpy() if len(score) else score.numpy()
    n, m = cost.shape
    u, v, owner = cost.min(1).astype(np.float64), np.zeros(m), np.full(m, -1)
    best, first = np.unique(cost.argmin(1), return_index=True)
    owner[best] = first
    for row in np.setdiff1d(np.arange(n), first):
        _augment(cost, int(row), u, v, owner)
    column = torch.full((n,), -1)
    taken = np.nonzero(owner >= 0)[0]
    column[torch.from_numpy(owner[taken])] = torch.from_numpy(taken)
    return column


def _augment(cost: np.ndarray, row: int, u: np.ndarray, v: np.ndarray, owner: np.ndarray) -> None:
    """Give `row` a column by the cheapest path of reassignments; potentials keep reduced costs above zero."""
    m = cost.shape[1]
    length, before = np.full(m, np.inf), np.full(m, -1)
    done, seen = np.zeros(m, dtype=bool), []
    at, reached = row, 0.0
    while True:
        offered = reached + cost[at] - u[at] - v
        better = (offered < length) & ~done
        length[better] = offered[better]
        before[better] = at
        column = int(np.argmin(np.where(done, np.inf, length)))
        reached = float(length[column])
        done[column] = True
        if owner[column] < 0:
            break
        seen.append(column)
        at = int(owner[column])
    u[row] += reached
    for passed in seen:
        u[owner[passed]] += reached - length[passed]
        v[passed] -= reached - length[passed]
    while True:
        at = int(before[column])
        following = np.nonzero(owner == at)[0]
        owner[column] = at
        if at == row:
            return
        column = int(following[0])
