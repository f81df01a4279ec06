"""A dictionary is set to the L0 that was asked for, on rows it did not learn from."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.dictionary.base import Dictionary, Weights
from monoscope.harvest.feed import Rows, reserved_rows

_PIECE = 8192
# Further than this from where training left it, something went wrong that should not be hidden. Above, there is room
# for those who ask for fewer entries than they trained with.
_LEAST, _MOST, _MOST_ASKED = 0.75, 1.25, 8.0


def calibrate(
    made: Callable[[Weights], Dictionary], weights: Weights, l0: float, shards: Rows, *, asked: bool = False
) -> Weights:
    """The weights with which the mean L0 over reserved training rows is `l0`.

    In training a threshold is met by the batch it was made from, and weights go on moving under a running mean; a
    penalty is steered to the mean of the last steps; and on rows that were learnt a few percent fewer latents fire than
    on others. So all thresholds are multiplied by one factor (between 0.75 and 1.25; up to 8 where a sparser reading
    than the training's was `asked` for), or, where there is none, all biases moved by one distance of at most a quarter
    of the mean activation. What is read by a count is left alone.
    """
    dictionary = made(weights)
    rows = reserved_rows(shards)[:, : dictionary.d_in]
    if weights.threshold is not None:
        most = _MOST_ASKED if asked else _MOST
        factor = _factor(made(replace(weights, threshold=weights.threshold * _LEAST)), weights.threshold, l0, rows)
        return replace(weights, threshold=weights.threshold * min(most, max(_LEAST, factor)))
    if not dictionary.reads_alone:
        return weights
    return replace(weights, b_enc=weights.b_enc + _shift(made, weights, l0, rows))


def _factor(lowest: Dictionary, threshold: Tensor, l0: float, rows: Float[Tensor, "rows d_in"]) -> float:
    """By what the thresholds are multiplied so that the strongest entries remain; `lowest` lets more through."""
    found = []
    for piece in rows.split(_PIECE):
        code = lowest.encode(piece.float())
        found.append(code.values / threshold[code.indices.long()].clamp(min=1e-30))
    ratios, wanted = torch.cat(found), round(l0 * len(rows))
    if len(ratios) <= wanted:
        return _LEAST
    return float(ratios.kthvalue(len(ratios) - wanted).values)


def _shift(
    made: Callable[[Weights], Dictionary], weights: Weights, l0: float, rows: Float[Tensor, "rows d_in"]
) -> float:
    """How far all biases move, in units of the residual stream, so that as many entries are above zero."""
    values = _values(made(weights), rows)
    if not len(values):
        return 0.0
    reach, wanted = float(values.mean()) * (1 - _LEAST), round(l0 * len(rows))
    values = _values(made(replace(weights, b_enc=weights.b_enc + reach)), rows)
    if len(values) <= wanted:
        return reach
    return reach - min(2 * reach, float(values.kthvalue(len(values) - wanted).values))


def _values(dictionary: Dictionary, rows: Float[Tensor, "rows d_in"]) -> Float[Tensor, " entries"]:
    return torch.cat([dictionary.encode(piece.float()).values for piece in rows.split(_PIECE)])
