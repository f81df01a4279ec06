"""The contract of a dictionary: `encode`, `decode`, and the meaning of each weight.

With row vectors, in units of the residual stream, and with every decoder row of norm 1:

    pre = x @ W_enc + b_enc        code = select(pre)        reconstruction = code @ W_dec + b_dec

so a code of 3 adds a vector of length 3. `select` is what an architecture is.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.errors import BadNumbers, FeatureNotFound
from monoscope.core.site import Site
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.kernels.choose import kernels_for

# Encoding goes in pieces whose pre-activations stay near this many floats, so that memory is bounded.
_PIECE_FLOATS = 1 << 24


@dataclass(frozen=True)
class Stats:
    """What is known of each latent and of the site, measured over `tokens` training tokens.

    `max`, `p999` (the 99.9 % quantile over all tokens on which the latent fires) and `mean_norm` are in units of the
    residual stream; `density` is the share of tokens on which a latent fires; norms above `sink_limit` are sinks.
    `mean_target` is the mean of what a transcoder is to tell.
    """

    max: Float[Tensor, "n_latents"]
    p999: Float[Tensor, "n_latents"]
    density: Float[Tensor, "n_latents"]
    mean_vector: Float[Tensor, "d_in"]
    tokens: int
    mean_norm: float
    sink_limit: float
    mean_target: Float[Tensor, "d_out"] | None = None


@dataclass(frozen=True)
class Weights:
    """The tensors of a dictionary, folded as the head of this file says."""

    W_enc: Float[Tensor, "d_in n_latents"]
    b_enc: Float[Tensor, "n_latents"]
    W_dec: Float[Tensor, "n_latents d_out"]
    b_dec: Float[Tensor, "d_out"]
    threshold: Float[Tensor, "n_latents"] | None = None
    W_skip: Float[Tensor, "d_out d_in"] | None = None


class Dictionary(ABC):
    """A trained dictionary. Children state only how pre-activations become a code."""

    architecture: ClassVar[str]

    def __init__(  # noqa: PLR0913  the parts of a dictionary
        self,
        weights: Weights,
        *,
        site: Site,
        name: str,
        stats: Stats,
        settings: dict[str, Any],
        target: Site | None = None,
    ) -> None:
        self.weights, self.site, self.name, self.stats, self.settings = weights, site, name, stats, settings
        self.target = target or site
        self.kernels = kernels_for(weights.W_enc.device)

    @property
    def transcodes(self) -> bool:
        """Whether it reads one site and writes another."""
        return self.target != self.site

    @cached_property
    def encoder_rows(self) -> Float[Tensor, "n_latents d_in"]:
        """The encoder with one row for each latent."""
        return self.W_enc.T.contiguous()

    W_enc = property(lambda self: self.weights.W_enc)
    b_enc = property(lambda self: self.weights.b_enc)
    W_dec = property(lambda self: self.weights.W_dec)
    b_dec = property(lambda self: self.weights.b_dec)
    d_in = property(lambda self: self.weights.W_enc.shape[0])
    d_out = property(lambda self: self.weights.W_dec.shape[1])
    n_latents = property(lambda self: self.weights.W_enc.shape[1])

    @property
    def mean_target(self) -> Float[Tensor, "d_out"]:
        """The mean of what stands at `target`."""
        return self.stats.mean_vector if self.stats.mean_target is None else self.stats.mean_target

    @abstractmethod
    def select(self, pre: Float[Tensor, "tokens n_latents"]) -> SparseCode:
        """The code of some tokens, given their pre-activations."""

    @property
    def reads_alone(self) -> bool:
        """Whether one latent's activation can be told without computing the others'."""
        return True

    def encode(self, x: Float[Tensor, "tokens d_in"]) -> SparseCode:
        """The features of each token, computed in float32.

        Raises
            BadNumbers  an activation is NaN or infinite.
        """
        if not torch.isfinite(x).all():
            raise BadNumbers(f"Activations at {self.site} hold NaN or infinity; they cannot be encoded.")
        rows = max(64, _PIECE_FLOATS // self.n_latents)
        codes = [self.encode_piece(piece) for piece in x.split(rows)] if len(x) else []
        if not codes:
            return SparseCode.from_dense(torch.zeros(0, self.n_latents))
        return SparseCode.concatenate(codes)

    def encode_piece(self, x: Float[Tensor, "tokens d_in"]) -> SparseCode:
        """The code of a piece whose pre-activations fit in memory; a child may know a faster way to the same."""
        return self.select(torch.addmm(self.b_enc, x.to(self.W_enc.dtype), self.W_enc))

    def decode(self, code: SparseCode) -> Float[Tensor, "tokens d_out"]:
        """What the features write, and the bias."""
        return self.kernels.decode(code, self.W_dec, self.b_dec)

    def reconstruct(self, x: Float[Tensor, "tokens d_in"]) -> Float[Tensor, "tokens d_out"]:
        """What stands at `target`, told from what stands at `site`: the features and, where there is one, the skip."""
        return self.complete(x, self.encode(x))

    def complete(self, x: Float[Tensor, "tokens d_in"], code: SparseCode) -> Float[Tensor, "tokens d_out"]:
        """The same from a code that is known already."""
        found, skip = self.decode(code), self.weights.W_skip
        return found if skip is None else found.addmm_(x.to(skip.dtype), skip.T)

    def activations_of(
        self, x: Float[Tensor, "tokens d_in"], features: Int[Tensor, "wanted"]
    ) -> Float[Tensor, "tokens wanted"]:
        """The activations of some features only; cost grows with their number where `reads_alone`."""
        if not self.reads_alone:
            return self.encode(x).to_dense()[:, features]
        pre = torch.addmm(self.b_enc[features], x.float(), self.encoder_rows[features].T)
        floor = self.weights.threshold[features] if self.weights.threshold is not None else 0.0
        return torch.where((pre > floor) & (pre > 0), pre, 0.0)

    def check_feature(self, feature: int) -> None:
        """Agree that the number is one of this dictionary's.

        Raises
            FeatureNotFound  it is not.
        """
        if not 0 <= feature < self.n_latents:
            last = self.n_latents - 1
            raise FeatureNotFound(f"Dictionary {self.name} has no feature {feature}; its features are 0 to {last}.")
