"""The one rule for attention sinks.

Models park attention on a first token whose residual vector then grows to a hundred times the usual length, and now and
then on a second one. A handful of such tokens carries half of all "variance" and makes every figure wrong, so they are
left out wherever activations are stored, fitted or edited.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.errors import BadNumbers

SINK_FACTOR = 3.0


def sink_limit(norms: Float[Tensor, "tokens"]) -> float:
    """The length above which a residual vector is a sink: 3 times the median of a sample without first tokens.

    Raises
        BadNumbers  there is no token, or the median is not a positive number.
    """
    median = float(norms.float().median()) if norms.numel() else float("nan")
    if not 0 < median < float("inf"):
        raise BadNumbers(
            f"The median length of {norms.numel():,} residual vectors is {median}; no sink rule can be made."
        )
    return SINK_FACTOR * median


def keep_mask(
    x: Float[Tensor, "windows length d_model"], lengths: Int[Tensor, "windows"], limit: float
) -> Bool[Tensor, "windows length"]:
    """Which tokens are neither a window's first, nor padding, nor longer than `limit`, nor not-a-number."""
    position = torch.arange(x.shape[1], device=x.device)
    inside = (position > 0) & (position < lengths.to(x.device)[:, None])
    return inside & (torch.linalg.vector_norm(x.float(), dim=-1) <= limit)
