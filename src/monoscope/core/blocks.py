"""What travels from text to activations: tensors that remember where each row came from."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class TokenBlock:
    """A right-padded batch of windows, ready for a model.

    A window is a run of tokens of one document. `prefix` of its first positions are not in the token store: 1 where a
    start token was put in front to carry the attention sink, 0 where the text brings its own.
    `first` is the index in the token store of the window's first own token.
    """

    ids: Int[Tensor, "windows length"]
    lengths: Int[Tensor, "windows"]
    prefix: Int[Tensor, "windows"]
    first: Int[Tensor, "windows"]


@dataclass(frozen=True)
class ActivationBlock:
    """Activations at one site, each row with the index of its token in the token store.

    The rows of a window are contiguous and in reading order; sinks and thinned template tokens are missing.
    """

    x: Float[Tensor, "rows d_model"]
    token: Int[Tensor, "rows"]
