"""How much of the activations a dictionary explains, and with how many features, on text it has not seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.feed import Rows

FVU_FORMULA = "FVU = Σ‖x − x̂‖² / Σ‖x − μ‖², sums over all held-out tokens, μ their mean; sinks excluded"
_PIECE = 8192


@dataclass(frozen=True)
class Fidelity:
    """Figures over `tokens` held-out tokens; `fires` counts, for each latent, the tokens on which it fires."""

    tokens: int
    fvu: float
    l0: float
    l0_p95: float
    cosine: float
    norm_ratio: float
    fires: Tensor


def fidelity(dictionary: Dictionary, shards: Rows, progress: Progress = SILENT) -> Fidelity:
    """Read all held-out rows with the deployed threshold.

    FVU = Σ|x - x̂|² / Σ|x - μ|², both sums in float64 over the whole set, μ the set's mean (never a batch's).
    Units   `cosine` is between x - μ₀ and x̂ - μ₀, μ₀ the site's mean; `norm_ratio` is Σ|x̂ - μ₀| / Σ|x - μ₀|.
    """
    total = _Sums(dictionary)
    progress.start("evaluate", shards.rows("held"), "tokens")
    for block in shards.blocks("held"):
        for piece in block.x.split(_PIECE):
            total.add(piece.float())
            progress.advance(len(piece))
    progress.finish()
    return total.result()


class _Sums:
    """Running sums in float64. Energy is summed about the dictionary's stored mean, which keeps it exact."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary, self._about = dictionary, dictionary.mean_target
        self._fires = torch.zeros(dictionary.n_latents, dtype=torch.long)
        self._drift = torch.zeros(dictionary.d_out, dtype=torch.float64)
        self._error = self._energy = self._cosine = self._norm = self._found_norm = 0.0
        self._counts: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        x = rows[:, : self._dictionary.d_in]
        target = rows[:, self._dictionary.d_in :] if self._dictionary.transcodes else x
        code = self._dictionary.encode(x)
        found = self._dictionary.complete(x, code)
        centred, found_centred = target - self._about, found - self._about
        norm, found_norm = centred.norm(dim=1), found_centred.norm(dim=1)
        self._error += float((target - found).double().square().sum())
        self._energy += float(centred.double().square().sum())
        self._drift += centred.double().sum(0)
        dots = (centred * found_centred).sum(1)
        self._cosine += float((dots / (norm * found_norm).clamp(min=1e-12)).sum())
        self._norm += float(norm.sum())
        self._found_norm += float(found_norm.sum())
        self._counts.append(code.counts)
        self._fires += torch.bincount(code.indices.long(), minlength=self._dictionary.n_latents)

    def result(self) -> Fidelity:
        counts = torch.cat(self._counts).double()
        tokens = len(counts)
        variance = self._energy - float(self._drift.square().sum()) / tokens
        return Fidelity(
            tokens=tokens,
            fvu=self._error / max(variance, 1e-30),
            l0=float(counts.mean()),
            l0_p95=float(counts.kthvalue(max(1, round(0.95 * tokens))).values),
            cosine=self._cosine / tokens,
            norm_ratio=self._found_norm / max(self._norm, 1e-30),
            fires=self._fires,
        )
