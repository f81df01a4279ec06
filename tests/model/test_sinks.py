import pytest
import torch

from monoscope.core.errors import BadNumbers
from monoscope.model.sinks import keep_mask, sink_limit


def test_the_limit_is_three_medians():
    assert sink_limit(torch.tensor([1.0, 2.0, 2.0, 3.0, 900.0])) == 6.0


@pytest.mark.parametrize("norms", [[], [0.0, 0.0], [float("nan")]])
def test_no_limit_without_sound_norms(norms: list[float]):
    with pytest.raises(BadNumbers):
        sink_limit(torch.tensor(norms))


def test_first_tokens_padding_sinks_and_nan_are_dropped():
    x = torch.ones(2, 5, 4)
    x[0, 2] = 50.0
    x[0, 3, 0] = float("nan")
    kept = keep_mask(x, torch.tensor([5, 3]), limit=6.0)
    assert kept.tolist() == [[False, True, False, False, True], [False, True, True, False, False]]
