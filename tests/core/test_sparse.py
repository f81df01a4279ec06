import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from monoscope.core.sparse import SparseCode, starts_from_counts


@st.composite
def dense_codes(draw: st.DrawFn, width: int | None = None) -> Tensor:
    rows, columns = draw(st.integers(0, 9)), width or draw(st.integers(1, 20))
    seed = draw(st.integers(0, 2**31))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    stream = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, columns, generator=stream) + 0.01
    return torch.where(torch.rand(rows, columns, generator=stream) < share, values, 0.0)


@given(dense_codes())
def test_dense_to_sparse_and_back(dense: Tensor) -> None:
    code = SparseCode.from_dense(dense)
    assert torch.equal(code.to_dense(), dense)
    assert code.n_rows == len(dense)
    assert code.counts.tolist() == (dense > 0).sum(1).tolist()
    assert code.rows.tolist() == torch.nonzero(dense)[:, 0].tolist()


@given(dense_codes(width=7), dense_codes(width=7))
def test_concatenating_is_stacking_rows_and_slicing_undoes_it(first: Tensor, second: Tensor) -> None:
    codes = [SparseCode.from_dense(first), SparseCode.from_dense(second)]
    both = SparseCode.concatenate(codes)
    assert torch.equal(both.to_dense(), torch.cat([first, second]))
    assert torch.equal(both.row_slice(0, len(first)).to_dense(), first)
    assert torch.equal(both.row_slice(len(first), both.n_rows).to_dense(), second)


@given(dense_codes(width=11), st.integers(0, 2**11 - 1))
def test_selecting_zeroes_the_other_columns(dense: Tensor, mask: int) -> None:
    wanted = torch.tensor([bool(mask >> place & 1) for place in range(11)])
    found = SparseCode.from_dense(dense).select(wanted)
    assert torch.equal(found.to_dense(), dense * wanted)
    assert found.n_latents == 11


@given(dense_codes(), st.integers(0, 99))
def test_taking_rows_is_indexing(dense: Tensor, seed: int) -> None:
    rows = torch.randint(len(dense) or 1, (5 if len(dense) else 0,), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(SparseCode.from_dense(dense).take(rows).to_dense(), dense[rows])


def test_negative_entries_are_not_active() -> None:
    code = SparseCode.from_dense(torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.5, 3.0]]))
    assert code.indices.tolist() == [0, 1, 2]
    assert code.values.tolist() == [1.0, 0.5, 3.0]
    assert code.starts.tolist() == [0, 1, 3]
    assert code.l0 == 1.5


def test_no_rows_have_no_features() -> None:
    code = SparseCode.from_dense(torch.zeros(0, 5))
    assert (code.n_rows, code.l0, code.to_dense().shape) == (0, 0.0, (0, 5))


def test_starts_are_the_sums_before() -> None:
    assert starts_from_counts(torch.tensor([2, 0, 3])).tolist() == [0, 2, 2, 5]
