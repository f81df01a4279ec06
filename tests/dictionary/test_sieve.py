import pytest
import torch

from monoscope.dictionary.kernels import cpu, reference
from monoscope.dictionary.sieve import Sieve


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("level", [-0.5, 0.0, 1.0])
def test_the_sieve_finds_what_float32_finds(offset: float, level: float) -> None:
    stream = torch.Generator().manual_seed(3)
    centre = offset * torch.randn(48, generator=stream)
    x = centre + torch.randn(300, 48, generator=stream)
    rows = 0.3 * torch.randn(200, 48, generator=stream)
    bias = 0.3 * torch.randn(200, generator=stream) - rows @ centre
    threshold = level + 0.2 * torch.rand(200, generator=stream)
    found = Sieve(rows, bias, threshold, centre, cpu).encode(x)
    pre = x.double() @ rows.double().T + bias.double()
    off = (found.to_dense() - reference.above(pre.float(), threshold).to_dense()).abs() > 1e-3
    assert not (off & ((pre - threshold.clamp(min=0)).abs() > 1e-3)).any()
    assert 0 < len(found.values) < pre.numel()


def test_rounding_that_all_goes_one_way_loses_no_entry() -> None:
    # 1 + 2⁻⁸ lies halfway between two bfloat16 numbers and rounds to 1: every product comes out 2⁻⁷ too small, and 257
    # of them, a number that rounds to 256, once more 2⁻⁸.
    d, number = 257, 1 + 2.0**-8
    x, rows, true = torch.full((64, d), number), torch.full((3, d), number), d * number**2
    threshold = torch.tensor([0.9999, 0.5, 1.0001]) * true
    found = Sieve(rows, torch.zeros(3), threshold, torch.zeros(d), cpu).encode(x)
    assert found.counts.tolist() == [2] * 64 and found.indices[:2].tolist() == [0, 1]
