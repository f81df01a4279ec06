"""Every set of kernels against the slow, obvious one."""

import sys
from types import ModuleType

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.kernels import cpu, portable, reference
from monoscope.dictionary.kernels.choose import kernels_for

SETS = pytest.mark.parametrize("kernels", [portable, cpu], ids=["portable", "cpu"])
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])


@st.composite
def pre_activations(draw: st.DrawFn) -> Tensor:
    """Of both precisions; some full of ties, some without a positive entry, some without a row."""
    rows = draw(st.sampled_from([0, 1, 2, 5, 17]))
    width = draw(st.sampled_from([1, 3, 16, 64, 65, 256]))
    stream = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    pre = torch.randn(rows, width, generator=stream)
    kind = draw(st.sampled_from(["random", "ties", "negative", "zeros", "sparse"]))
    if kind == "ties":
        pre = (2 * pre).round() / 2
    elif kind == "negative":
        pre = -pre.abs() - 0.01
    elif kind == "zeros":
        pre = torch.zeros(rows, width)
    elif kind == "sparse":
        pre -= 2.0
    return pre.to(draw(DTYPES))


def _same(found: SparseCode, wanted: SparseCode) -> None:
    assert found.n_latents == wanted.n_latents
    assert found.starts.tolist() == wanted.starts.tolist()
    assert found.indices.tolist() == wanted.indices.tolist()
    assert found.values.dtype == torch.float32 and torch.equal(found.values, wanted.values)


@SETS
@given(pre=pre_activations(), seed=st.integers(0, 2**31), level=st.sampled_from([-1.0, 0.0, 0.3, 2.0]))
def test_above(kernels: ModuleType, pre: Tensor, seed: int, level: float) -> None:
    threshold = level + 0.3 * torch.rand(pre.shape[1], generator=torch.Generator().manual_seed(seed))
    _same(kernels.above(pre, threshold), reference.above(pre, threshold))


@SETS
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_nothing_at_or_below_zero_is_active(kernels: ModuleType, zero: float) -> None:
    pre = torch.tensor([[-1.0, -0.0, 0.0, 1e-30, 2.0]])
    assert kernels.above(pre, torch.full((5,), zero)).indices.tolist() == [3, 4]


@SETS
def test_a_threshold_finer_than_the_activations_is_still_a_threshold(kernels: ModuleType) -> None:
    # 0.9999 rounds to 1 in bfloat16, yet 1 is above it; 1.0001 rounds to 1 too, and 1 is below.
    pre = torch.ones(1, 2, dtype=torch.bfloat16)
    assert kernels.above(pre, torch.tensor([0.9999, 1.0001])).indices.tolist() == [0]


@SETS
@given(pre=pre_activations(), k=st.integers(1, 9))
def test_top_rows(kernels: ModuleType, pre: Tensor, k: int) -> None:
    k = min(k, pre.shape[1])
    found, wanted = kernels.top_rows(pre, k), reference.top_rows(pre, k)
    # Of equals either may be kept, so the values are compared, and that each is where its index says.
    assert found.counts.tolist() == wanted.counts.tolist()
    assert torch.equal(found.to_dense().sort(dim=1).values, wanted.to_dense().sort(dim=1).values)
    assert torch.equal(pre.float()[found.rows, found.indices.long()], found.values)
    _check_order(found)


@SETS
@given(pre=pre_activations(), k=st.integers(1, 6), floor=st.sampled_from([0.0, 1e-9, 0.2, 0.5, 1.7, 1e4]))
@example(pre=torch.ones(4, 64), k=3, floor=1.0)
@example(pre=torch.full((3, 16), 1e-20), k=2, floor=0.5)
def test_top_batch_whatever_the_guess(kernels: ModuleType, pre: Tensor, k: int, floor: float) -> None:
    total = k * len(pre)
    found = kernels.top_batch(pre, total, floor)
    assert len(found.values) == min(total, int((pre > 0).sum()))
    _same(found, reference.top_batch(pre, total))


@pytest.mark.parametrize("kernels", [reference, portable, cpu])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_and_row_selection_worked_by_hand(kernels: ModuleType, dtype: torch.dtype) -> None:
    pre = torch.tensor([[0.9, 0.8, 0.7, -1.0], [0.2, 0.1, 0.65, 0.05]]).to(dtype)
    batch = kernels.top_batch(pre, 4)
    assert batch.indices.tolist() == [0, 1, 2, 2] and batch.counts.tolist() == [3, 1]
    assert batch.values.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.65], rel=4e-3)
    rows = kernels.top_rows(pre, 2)
    assert rows.indices.tolist() == [0, 1, 0, 2] and rows.counts.tolist() == [2, 2]
    assert rows.values.tolist() == pytest.approx([0.9, 0.8, 0.2, 0.65], rel=4e-3)


@st.composite
def problems(draw: st.DrawFn) -> tuple[SparseCode, Tensor, Tensor, Tensor]:
    """A code, decoder rows, a bias and targets."""
    rows, width, d = draw(st.integers(0, 9)), draw(st.integers(1, 33)), draw(st.sampled_from([1, 3, 16, 31]))
    stream = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    chance = draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    dense = torch.rand(rows, width, generator=stream) + 0.1
    dense *= torch.rand(rows, width, generator=stream) < chance
    code = SparseCode.from_dense(dense)
    code = SparseCode(code.indices.int(), code.values, code.starts, width)
    return (
        code,
        torch.randn(width, d, generator=stream),
        torch.randn(d, generator=stream),
        torch.randn(rows, d, generator=stream),
    )


@SETS
@given(problem=problems())
def test_decode(kernels: ModuleType, problem: tuple[SparseCode, Tensor, Tensor, Tensor]) -> None:
    code, weights, bias, _ = problem
    torch.testing.assert_close(kernels.decode(code, weights, bias), reference.decode(code, weights, bias))


@SETS
@given(problem=problems())
def test_the_backward_chain(kernels: ModuleType, problem: tuple[SparseCode, Tensor, Tensor, Tensor]) -> None:
    code, weights, bias, target = problem
    found, wanted = (s.residual_and_pull(code, weights, bias, target) for s in (kernels, reference))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)
    places = [
        (torch.full_like(weights, 7.0), torch.full_like(weights, 7.0), torch.full((code.n_latents,), 7.0))
        for _ in range(2)
    ]
    for each, place in zip((kernels, reference), places, strict=True):
        each.weight_gradients(code, wanted[1], wanted[0], target, place)
    for one, other in zip(*places, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


def test_without_numba_the_portable_kernels_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels_for(torch.device("cpu")) is cpu
    monkeypatch.setitem(sys.modules, "numba", None)
    assert kernels_for(torch.device("cpu")) is portable


def test_choosing_kernels_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    kernels_for(torch.device("cpu")).top_batch(torch.ones(2, 3), 2)
    assert torch.get_num_threads() == before


def _check_order(code: SparseCode) -> None:
    for row in range(code.n_rows):
        indices = code.indices[code.starts[row] : code.starts[row + 1]].tolist()
        assert indices == sorted(set(indices))
