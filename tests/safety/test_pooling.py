"""Pooled features against a slow loop over texts, tokens and features."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import BadRequest
from monoscope.safety.pooling import POOLS, TOP_TOKENS, columns_of, firing_texts, pool_features, pool_residual

from .conftest import reading_of, sparse_table


def slowly(dense: torch.Tensor, pool: str) -> torch.Tensor:
    """One text's features from its tokens' activations [tokens, features]."""
    found = []
    for column in dense.T.tolist():
        largest = sorted(column, reverse=True)[:TOP_TOKENS]
        found.append({"max": largest[0], "mean": sum(column) / len(column), "top": sum(largest) / len(largest)}[pool])
    return torch.tensor(found)


@given(
    st.sampled_from(POOLS),
    st.lists(st.integers(1, 14), min_size=1, max_size=6),
    st.integers(1, 9),
    st.integers(0, 1000),
    st.sampled_from([0.05, 0.4, 1.0]),
)
def test_pooled_features_are_those_of_a_slow_loop(
    pool: str, counts: list[int], width: int, seed: int, share: float
) -> None:
    dense = sparse_table(seed, sum(counts), width, share)
    found = pool_features(reading_of(dense, counts), pool)
    expected = torch.stack([slowly(text, pool) for text in dense.split(counts)])
    assert torch.allclose(found.to_dense(), expected, rtol=1e-5)
    assert (found.values > 0).all()
    for row in range(found.n_rows):
        inside = found.indices[int(found.starts[row]) : int(found.starts[row + 1])]
        assert (inside[1:] > inside[:-1]).all(), "indices rise inside a row"
    assert torch.equal(firing_texts(found), (expected > 0).sum(0))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_the_mean_residual_of_each_text(counts: list[int]) -> None:
    reading = reading_of(torch.zeros(sum(counts), 3), counts)
    expected = torch.stack([part.mean(0) for part in reading.x.split(counts)])
    assert torch.allclose(pool_residual(reading), expected, atol=1e-6)


def test_columns_come_in_the_order_asked_for() -> None:
    dense = sparse_table(3, 12, 8)
    code = reading_of(dense, [12]).code
    assert torch.equal(columns_of(code, torch.tensor([6, 0, 3])), dense[:, [6, 0, 3]])
    assert columns_of(code, torch.zeros(0, dtype=torch.long)).shape == (12, 0)


def test_an_unknown_pool_is_refused() -> None:
    with pytest.raises(BadRequest, match="--pool 'median' is not known; choose max, mean, top"):
        pool_features(reading_of(torch.ones(2, 2), [2]), "median")
