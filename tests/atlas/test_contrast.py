import pytest
import torch

from monoscope.atlas.contrast import auroc, contrast, pooled
from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode


def test_auroc_is_the_share_of_won_pairs_with_half_for_ties():
    positive = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    negative = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    # Column 0: 3 beats 2, 0, 1; 1 beats 0, ties 1, loses to 2: (3 + 1.5) / 6.
    assert auroc(positive, negative).tolist() == [0.75, 0.5]


def test_the_feature_of_the_positive_texts_comes_first():
    positive, negative = torch.zeros(8, 5), torch.zeros(10, 5)
    positive[:, 3] = torch.arange(1.0, 9.0)  # always, and only there
    positive[:, 1], negative[:, 1] = 4.0, 2.0  # stronger there, but everywhere
    positive[::2, 4] = 5.0  # fires only in the texts that choose
    negative[:, 2] = 6.0
    hits = contrast(positive, negative)
    assert [hit.feature for hit in hits] == [3, 4, 1]
    best, fluke, common = hits
    assert (best.score, best.auroc_heldout, best.rate_pos, best.rate_neg, best.direction) == (1, 1, 1, 0, 1)
    assert common.score == pytest.approx(0.5)
    assert fluke.auroc_heldout == 0.5
    assert fluke.rate_pos == 0.5


def test_both_ways_finds_what_belongs_to_the_negatives():
    positive, negative = torch.zeros(4, 3), torch.zeros(4, 3)
    positive[:, 0], negative[:, 2] = 1.0, 1.0
    hits = contrast(positive, negative, both_ways=True)
    assert {(hit.feature, hit.direction, hit.auroc_heldout) for hit in hits} == {(0, 1, 1.0), (2, -1, 0.0)}


def test_codes_and_vectors_are_the_same_texts():
    dense = torch.tensor([[0.0, 2.0, 0.0], [1.0, 3.0, 0.0]])
    torch.testing.assert_close(pooled([SparseCode.from_dense(dense)]), dense.amax(0)[None])
    torch.testing.assert_close(pooled([dense[0], dense[1]]), dense)


def test_random_features_do_not_pass_the_held_half():
    stream = torch.Generator().manual_seed(0)
    positive, negative = torch.rand(60, 400, generator=stream), torch.rand(60, 400, generator=stream)
    hits = contrast(positive, negative, limit=40)
    assert abs(sum(hit.auroc_heldout for hit in hits) / len(hits) - 0.5) < 0.05


def test_one_text_is_no_set():
    with pytest.raises(BadRequest, match="two negative"):
        contrast(torch.ones(3, 2), torch.ones(1, 2))
