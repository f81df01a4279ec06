import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monoscope.atlas.outputs import outputs_of, save_outputs, steerable_first
from monoscope.atlas.search import search_words
from monoscope.core.errors import ArtifactNotFound
from monoscope.effect.output_score import PROMOTED, output_scores, rank_weighted


def test_rank_weighted_by_hand():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    share = logits.softmax(-1)[0].tolist()
    assert float(rank_weighted(logits, torch.tensor([[1, 0]]))) == pytest.approx(share[1])
    # Of tokens 2 and 3 the likelier is 2, behind one of the four.
    assert float(rank_weighted(logits, torch.tensor([[3, 2]]))) == pytest.approx(share[2] * 0.75)


@given(st.lists(st.floats(-20, 20), min_size=4, max_size=4), st.integers(0, 3))
def test_raising_a_token_never_lowers_its_score(values, token):
    logits = torch.tensor([values])
    raised = logits.clone()
    raised[0, token] += 1.5
    tokens = torch.tensor([[token]])
    before, after = float(rank_weighted(logits, tokens)), float(rank_weighted(raised, tokens))
    assert 0 <= before <= after + 1e-6 <= 1 + 1e-5


def test_planted_features_write_what_they_read(toy, dictionary, opened, monkeypatch):
    features = list(range(24))
    promoted = torch.tensor([row["promoted"] for row in opened.rows("promoted", features)])
    found = output_scores(toy, dictionary, features, promoted)
    assert float(found.median()) > 0.05
    assert float(found.min()) > -0.05
    assert promoted.shape[1] >= PROMOTED
    # Pushed up, a feature raises its own tokens, and hardly those of another.
    other = output_scores(toy, dictionary, features, promoted.roll(7, 0))
    assert float((found > other).float().mean()) > 0.9
    monkeypatch.setattr("monoscope.effect.output_score._ROWS", 5)
    assert torch.allclose(output_scores(toy, dictionary, features, promoted), found, atol=1e-5)


def test_scores_are_kept_for_one_atlas_and_rank_its_hits(opened):
    hits = search_words(opened, "python silver mint")
    with pytest.raises(ArtifactNotFound, match="monoscope steerable"):
        steerable_first(opened, hits)
    assert len(hits) >= 3
    scores = np.full(opened.n_features, np.nan)
    scores[hits[1].feature], scores[hits[2].feature] = 0.2, 0.4
    save_outputs(opened.folder, opened.digest, scores)
    ranked = steerable_first(opened, hits)
    assert [hit.feature for hit in ranked[:3]] == [hits[2].feature, hits[1].feature, hits[0].feature]
    assert ranked[0].why.endswith("output score 0.400") and ranked[2].why == hits[0].why
    found = outputs_of(opened)
    assert found is not None and np.isnan(found[hits[0].feature])
    save_outputs(opened.folder, "another atlas", scores)
    assert outputs_of(opened) is None
