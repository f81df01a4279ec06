"""Searches by direction, by raised token, and with filters, on the planted atlas."""

import numpy as np
import pytest
import torch

from monoscope.atlas.likeness import cosines_with, parse_expression, search_like, search_token
from monoscope.atlas.near_index import approximate_nearest
from monoscope.atlas.neighbours import nearest
from monoscope.atlas.search import Filters, search_words
from monoscope.core.errors import BadRequest, FeatureNotFound


def test_a_single_feature_is_answered_by_its_neighbours(world, atlas):
    hits = search_like(atlas, world.dictionary, "3", 5)
    record = atlas.feature(3)
    assert [hit.feature for hit in hits] == [near.feature for near in record.neighbours[:5]]
    assert "cosine" in hits[0].why and "correlation" in hits[0].why


def test_arithmetic_is_that_of_unit_rows(world, atlas):
    rows = torch.nn.functional.normalize(world.dictionary.W_dec.float(), dim=1)
    wanted = rows[2] - rows[5] + rows[7]
    cosine = torch.nn.functional.cosine_similarity(rows, wanted[None])
    cosine[[2, 5, 7, 24]] = -2
    hits = search_like(atlas, world.dictionary, "2 - 5+7", 4)
    assert [hit.feature for hit in hits] == cosine.argsort(descending=True)[:4].tolist()
    assert hits[0].score == pytest.approx(float(cosine.max()), abs=1e-3)


def test_terms_are_signed_numbers():
    assert parse_expression(" 12 - 45+ 67 ") == [(12, 1), (45, -1), (67, 1)]
    assert parse_expression("-3") == [(3, -1)]
    for wrong in ("", "1 2", "1 * 2", "a", "1 -", "+"):
        with pytest.raises(BadRequest, match="feature numbers"):
            parse_expression(wrong)


def test_bad_expressions_are_refused(world, atlas):
    with pytest.raises(FeatureNotFound):
        search_like(atlas, world.dictionary, "999")
    with pytest.raises(BadRequest, match="cancels"):
        search_like(atlas, world.dictionary, "3 - 3")


def test_blocks_change_nothing():
    rows = torch.randn(50, 8)
    direction = torch.randn(8)
    expected = torch.nn.functional.cosine_similarity(rows, direction[None])
    torch.testing.assert_close(cosines_with(rows, direction), expected)


def test_a_raised_token_finds_the_features_that_raise_it(atlas):
    record = next(atlas.feature(i) for i in range(24) if atlas.feature(i).promoted)
    token = record.promoted[0][0].strip()
    hits = search_token(atlas, f" {token.upper()} ", 30)
    assert record.feature in [hit.feature for hit in hits]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert token.lower() in [raised.strip().lower() for raised, _ in atlas.feature(hit.feature).promoted]
    with pytest.raises(BadRequest, match="No token"):
        search_token(atlas, "no such token at all")


def test_filters_leave_what_they_say(world, atlas):
    density, score = atlas.densities, atlas.column("label_score")
    middle = float(np.median(density))
    hits = search_like(atlas, world.dictionary, "3", 24, Filters(density_max=middle))
    assert hits and all(density[hit.feature] <= middle for hit in hits)
    hits = search_like(atlas, world.dictionary, "3", 24, Filters(density_min=middle, label_score_min=0.6))
    assert hits and all(density[hit.feature] >= middle and score[hit.feature] >= 0.6 for hit in hits)
    every = search_words(atlas, "fox", 10)
    assert {hit.feature for hit in search_words(atlas, "fox", 10, Filters(source="toy"))} <= {
        hit.feature for hit in every
    }
    assert not search_words(atlas, "fox", 10, Filters(density_max=0.0))
    with pytest.raises(BadRequest, match="no source 'elsewhere'"):
        search_words(atlas, "fox", 10, Filters(source="elsewhere"))


def test_rates_by_source_add_up(atlas):
    tokens = np.array(list(atlas.manifest["sources"].values()), float)
    record = atlas.feature(3)
    assert np.dot(list(record.sources.values()), tokens) == pytest.approx(record.firings, rel=1e-5)
    assert tokens.sum() == atlas.manifest["tokens"] == sum(atlas.manifest["languages"].values())


def test_the_index_finds_nearly_all_that_the_product_finds():
    torch.manual_seed(0)
    centres = torch.randn(60, 24)
    rows = (centres[:, None] + 0.6 * torch.randn(60, 40, 24)).flatten(0, 1)
    among = torch.rand(len(rows)) < 0.9
    indices, cosines = nearest(rows, 5, among)
    found, near = approximate_nearest(rows, 5, among)
    recall = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(indices.tolist(), found.tolist(), strict=True)])
    assert recall > 0.97
    own = np.arange(len(rows))[:, None]
    assert not (found == own).any() and among.numpy()[found].all()
    unit = torch.nn.functional.normalize(rows, dim=1).numpy()
    np.testing.assert_allclose(near, np.einsum("nd,ncd->nc", unit, unit[found]), atol=1e-5)
    assert float(np.abs(near[:, 0] - cosines[:, 0].numpy()).mean()) < 0.01
