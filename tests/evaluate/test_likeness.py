import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monoscope.evaluate import likeness as room
from monoscope.evaluate.codes import Columns, read_codes
from monoscope.evaluate.likeness import correlations, likeness, likeness_figures, matched, nearest, random_rows, shifted

from .planted import codes_of, dictionary_of, permuted, sparse_rows


def test_a_permuted_copy_is_found_whole() -> None:
    rows, order = torch.randn(200, 24), torch.randperm(200)
    a, b = dictionary_of(rows), dictionary_of(rows[order])
    codes = codes_of(sparse_rows(600, 200, 0.05))
    copied = permuted(codes, order)
    found = likeness(a, b, codes, copied)
    back = torch.argsort(order)
    assert torch.equal(found.cosine.partner, back)
    assert torch.equal(found.correlation.partner, back)
    assert torch.allclose(found.cosine.score, torch.ones(200), atol=1e-5)
    assert torch.allclose(found.correlation.score, torch.ones(200), atol=1e-6)
    assert torch.allclose(found.correlation_of_nearest, torch.ones(200), atol=1e-6)
    assert torch.allclose(found.correlation_back, torch.ones(200), atol=1e-6)
    assert found.cosine.mutual.all()
    chance = nearest(a.W_dec, random_rows(b.W_dec))
    mixed = correlations(codes, shifted(copied))[0]
    told = likeness_figures(found, a, b, chance, mixed)
    assert told["mcc"] == pytest.approx(1)
    assert told["cosine"]["above_0.9"] == told["correlation"]["above_0.9"] == told["mutual_share"] == 1
    assert told["cosine"]["random"]["above_0.9"] == told["correlation"]["random"]["above_0.9"] == 0
    assert told["same_number_share"] == float((back == torch.arange(200)).double().mean())
    assert sum(tenth["latents"] for tenth in told["deciles"]) == told["latents"] == 200
    assert told["mcc_random"] < 0.75


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 12), st.integers(1, 12))
def test_correlations_over_codes_are_numpys_over_dense_columns(seed: int, rows: int, n_a: int, n_b: int) -> None:
    dense_a, dense_b = sparse_rows(rows, n_a, 0.3, seed), sparse_rows(rows, n_b, 0.3, seed + 1)
    wanted = _dense_correlation(dense_a, dense_b)
    a, b = codes_of(dense_a), codes_of(dense_b)
    near = nearest(torch.randn(n_a, 5), torch.randn(n_b, 5))
    found, forward, backward = correlations(a, b, near)
    assert np.allclose(found.score, wanted.max(1), atol=1e-5)
    assert np.allclose(found.back_score, wanted.max(0), atol=1e-5)
    assert np.allclose(forward, wanted[np.arange(n_a), near.partner], atol=1e-5)
    assert np.allclose(backward, wanted[near.back, np.arange(n_b)], atol=1e-5)


def _dense_correlation(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        both = np.corrcoef(a.double().numpy().T, b.double().numpy().T)
    both = np.atleast_2d(both)[: a.shape[1], a.shape[1] :]
    return np.nan_to_num(both)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = codes_of(sparse_rows(300, 37, 0.2)), codes_of(sparse_rows(300, 23, 0.2, 1))
    rows_a, rows_b = torch.randn(37, 8), torch.randn(23, 8)
    whole = correlations(a, b)[0], nearest(rows_a, rows_b)
    monkeypatch.setattr(room, "_TABLE", 100)
    parts = correlations(a, b)[0], nearest(rows_a, rows_b)
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one.partner, other.partner)
        assert torch.equal(one.back, other.back)
        assert torch.allclose(one.score, other.score, atol=1e-6)
        assert torch.allclose(one.back_score, other.back_score, atol=1e-6)


def test_the_matching_is_that_of_taking_the_best_pair_again_and_again() -> None:
    a, b = torch.randn(30, 6), torch.randn(40, 6)
    table = torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T
    taken = []
    for _ in range(30):
        best = int(table.argmax())
        taken.append(float(table.view(-1)[best]))
        table[best // 40], table[:, best % 40] = -2, -2
    assert sorted(matched(a, b).tolist()) == pytest.approx(sorted(taken), abs=1e-6)


def test_equal_rows_are_matched_too() -> None:
    assert matched(torch.ones(5, 3), torch.ones(4, 3)).tolist() == pytest.approx([1] * 4)


def test_random_rows_keep_mean_and_spread() -> None:
    rows = torch.nn.functional.normalize(torch.randn(4000, 6) * torch.tensor([3, 1, 1, 0.5, 0.1, 0.1]) + 0.4, dim=1)
    drawn = random_rows(rows)
    assert torch.allclose(drawn.norm(dim=1), torch.ones(4000), atol=1e-5)
    assert torch.allclose(drawn.mean(0), rows.mean(0), atol=0.1)
    assert float((drawn[:, 0].std() - rows[:, 0].std()).abs()) < 0.1


def test_a_shift_keeps_counts_and_parts_twins() -> None:
    codes = codes_of(sparse_rows(1000, 5, 0.1))
    late = shifted(codes)
    assert torch.equal(late.fires, codes.fires)
    assert torch.equal(late.code.to_dense()[:500], codes.code.to_dense()[500:])
    assert float(correlations(codes, late)[0].score.max()) < 0.2


def test_silent_latents_correlate_with_nothing() -> None:
    dense = sparse_rows(50, 4, 0.3)
    dense[:, 2] = 0
    dense[:, 3] = 1.5
    found = correlations(codes_of(dense), codes_of(dense))[0]
    assert found.score[:2].tolist() == pytest.approx([1, 1])
    assert found.score[2:].tolist() == [0, 0]


def test_values_at_and_columns_read_the_dense_matrix() -> None:
    dense = sparse_rows(40, 9, 0.3)
    codes = codes_of(dense)
    rows, latents = torch.randint(0, 40, (200,)), torch.randint(0, 9, (200,))
    assert torch.equal(codes.values_at(rows, latents), dense[rows, latents])
    for latent in range(9):
        where, values = Columns.of(codes.code).of_latent(latent)
        assert torch.equal(where, torch.nonzero(dense[:, latent]).flatten())
        assert torch.equal(values, dense[where, latent])


def test_reading_codes_keeps_to_the_rows_that_are_wanted(toy_trained, toy_shards, toy_store) -> None:
    whole = read_codes(toy_trained.dictionary, toy_shards)
    assert whole.code.n_rows == toy_shards.rows("held")
    wanted = torch.zeros(toy_store.n_tokens, dtype=torch.bool)
    wanted[whole.token[::3]] = True
    part = read_codes(toy_trained.dictionary, toy_shards, wanted=wanted, most=50)
    assert torch.equal(part.token, whole.token[::3][:50])
    dense = whole.code.to_dense()[::3][:50]
    assert torch.allclose(part.code.to_dense(), dense, atol=1e-5)
    few = read_codes(toy_trained.dictionary, toy_shards, only=[7, 3, 50])
    wanted = torch.zeros_like(whole.code.to_dense())
    wanted[:, [3, 7, 50]] = whole.code.to_dense()[:, [3, 7, 50]]
    assert torch.allclose(few.code.to_dense(), wanted, atol=1e-4)
