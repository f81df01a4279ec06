import numpy as np
import pytest
import torch

from monoscope.atlas.neighbours import largest, nearest, pointed_tokens


def rows(count, d, seed=0):
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed))


def test_nearest_equals_the_whole_cosine_matrix():
    table = rows(300, 16)
    cosine = torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=2)
    cosine.fill_diagonal_(-2)
    wanted, places = cosine.sort(dim=1, descending=True)
    indices, cosines = nearest(table, 10)
    torch.testing.assert_close(cosines, wanted[:, :10])
    assert torch.equal(indices, places[:, :10])


def test_only_the_living_are_neighbours_and_all_have_some():
    among = torch.zeros(50, dtype=torch.bool)
    among[[3, 8, 20]] = True
    indices, cosines = nearest(rows(50, 4), 10, among)
    assert indices.shape == (50, 2)
    assert set(indices[3].tolist()) == {8, 20}
    assert set(indices.flatten().tolist()) == {3, 8, 20}
    assert (cosines[:, 0] >= cosines[:, 1]).all()


@pytest.mark.parametrize("columns", [5, 31, 700, 2001])
def test_the_two_stage_top_is_exact(columns):
    values = rows(9, columns, seed=columns)
    best, places = largest(values, 5)
    torch.testing.assert_close(best, values.topk(5, dim=1).values)
    torch.testing.assert_close(values.gather(1, places), best)


def test_pointed_tokens_are_those_of_the_dense_product():
    decoder, unembedding = rows(20, 8), rows(900, 8, seed=1)
    allowed = torch.arange(0, 900, 2)
    logits = decoder @ unembedding[allowed].T
    logits = logits - logits.mean(1, keepdim=True)
    (raised, raised_by), (lowered, lowered_by) = pointed_tokens(decoder, unembedding, allowed, 10)
    torch.testing.assert_close(raised_by, logits.topk(10, dim=1).values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lowered_by, -(-logits).topk(10, dim=1).values, rtol=1e-4, atol=1e-5)
    assert torch.equal(raised, allowed[logits.topk(10, dim=1).indices])
    assert np.all(lowered_by.numpy() < 0)
    assert not (lowered % 2).any()
