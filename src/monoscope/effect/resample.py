"""How sure a difference between two measurements of the same items is."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from monoscope.core.runtime import numpy_stream

_DRAWS, _LEVEL = 2000, 0.95


def ratio(total: Float[np.ndarray, "*draws"], count: Float[np.ndarray, "*draws"]) -> Float[np.ndarray, "*draws"]:
    """A mean: what was summed over how much it was summed."""
    return total / count


def perplexity(loss: Float[np.ndarray, "*draws"], tokens: Float[np.ndarray, "*draws"]) -> Float[np.ndarray, "*draws"]:
    """exp of the mean loss of a token."""
    return np.exp(loss / tokens)


def paired_interval(
    plain: Float[np.ndarray, "items"],
    edited: Float[np.ndarray, "items"],
    count: Float[np.ndarray, "items"],
    figure: Callable[[np.ndarray, np.ndarray], np.ndarray] = ratio,
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of figure(edited) - figure(plain).

    Items are drawn anew with replacement, both measurements of an item together; `figure` is of the sums over a draw.

    Edges  equal measurements give (0, 0); a single item gives its own difference twice.
    """
    drawn = numpy_stream(seed, "bootstrap").integers(0, len(plain), (_DRAWS, len(plain)))
    counts = count[drawn].sum(1)
    differences = figure(edited[drawn].sum(1), counts) - figure(plain[drawn].sum(1), counts)
    low, high = np.quantile(differences, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
