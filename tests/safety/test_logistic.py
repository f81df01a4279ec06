"""Both regressions against scikit-learn, and against what a solution must satisfy."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from monoscope.safety.logistic import Linear, fit_nonnegative, fit_readable, fit_ridge, fit_ridges, ridge_penalty


def cloud(rows: int, columns: int, seed: int = 0, shift: float = 0.8) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian rows in units of their own; one in three is positive, and shifted in the first five columns."""
    stream = torch.Generator().manual_seed(seed)
    positive = torch.arange(rows) % 3 == 0
    x = torch.randn(rows, columns, generator=stream)
    x[:, :5] += shift * positive[:, None]
    return x * (0.1 + 10 * torch.rand(columns, generator=stream)) + 3, positive


def activations(rows: int = 80, columns: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse columns at least 0 that tell nothing, but for columns 7, 21 and 40, which fire more in positives."""
    stream = torch.Generator().manual_seed(seed)
    positive = torch.arange(rows) % 2 == 0
    x = torch.rand(rows, columns, generator=stream) * (torch.rand(rows, columns, generator=stream) < 0.4)
    for column in (7, 21, 40):
        x[:, column] += positive * torch.rand(rows, generator=stream) * 2
    return x, positive


def theirs(x: torch.Tensor, positive: torch.Tensor, penalty: float) -> np.ndarray:
    """The log-odds of scikit-learn's fit on standardised columns."""
    z = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
    model = LogisticRegression(C=1 / penalty, class_weight="balanced", tol=1e-9, max_iter=20_000)
    return model.fit(z, positive.numpy()).decision_function(z)


@pytest.mark.parametrize(("rows", "columns"), [(90, 12), (30, 120), (40, 40)])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_the_ridge_is_that_of_scikit_learn(rows: int, columns: int, penalty: float) -> None:
    x, positive = cloud(rows, columns)
    found = fit_ridge(x, positive, penalty=penalty).score(x)
    assert np.abs(found.numpy() - theirs(x, positive, penalty)).max() < 2e-3


def test_several_penalties_share_a_fit() -> None:
    x, positive = cloud(30, 60)
    for penalty, found in zip((0.3, 30.0), fit_ridges(x, positive, (0.3, 30.0)), strict=True):
        alone = fit_ridge(x, positive, penalty=penalty)
        assert torch.equal(found.weights, alone.weights)
        assert found.bias == alone.bias


def test_columns_that_never_change_weigh_nothing() -> None:
    x, positive = cloud(40, 6)
    x[:, 2] = 7.0
    found = fit_ridge(x, positive)
    assert float(found.weights[2]) == 0
    flat = fit_ridge(torch.full((10, 30), 2.0), torch.arange(10) < 3)
    assert not flat.weights.any()
    assert abs(flat.bias) < 1e-6, "labels count as equally frequent"


@pytest.mark.parametrize("columns", [2, 80])
def test_separable_texts_do_not_diverge(columns: int) -> None:
    stream = torch.Generator().manual_seed(0)
    positive = torch.arange(30) < 15
    x = torch.randn(30, columns, generator=stream) + 50 * positive[:, None]
    for penalty in (1e-3, 1.0):
        found = fit_ridge(x, positive, penalty=penalty)
        assert torch.isfinite(found.weights).all()
        assert found.score(x).abs().max() < 50
        assert ((found.score(x) > 0) == positive).all()
    readable = fit_readable(x.clamp(min=0), positive)
    assert torch.isfinite(readable.weights).all()
    assert ((readable.score(x.clamp(min=0)) > 0) == positive).all()


def test_the_penalty_follows_how_much_there_is_to_learn() -> None:
    folds = [row // 3 % 4 for row in range(90)]
    noise, positive = cloud(90, 30, shift=0.0)
    assert ridge_penalty(noise, positive, folds) >= 100
    clear, positive = cloud(90, 30, shift=4.0)
    assert ridge_penalty(clear, positive, folds) <= 1
    assert ridge_penalty(clear, positive, [0] * 90) == 0.1, "one fold leaves nothing to fit on"


def test_a_readable_fit_finds_the_planted_columns_with_weights_above_zero() -> None:
    x, positive = activations()
    found = fit_readable(x, positive, most=3)
    assert set(torch.nonzero(found.weights).flatten().tolist()) == {7, 21, 40}
    assert (found.weights >= 0).all()
    scores = found.score(x)
    assert scores[positive].median() > 0 > scores[~positive].median()


@pytest.mark.parametrize("most", [1, 2, 5, 20])
def test_a_readable_fit_has_at_most_so_many_columns(most: int) -> None:
    for seed in range(2):
        x, positive = activations(seed=seed)
        assert 1 <= int((fit_readable(x, positive, most=most).weights > 0).sum()) <= most


def test_twins_that_enter_together_still_leave_a_fit() -> None:
    stream = torch.Generator().manual_seed(0)
    positive = torch.arange(40) < 20
    twins = (torch.rand(40, 1, generator=stream) + positive[:, None]).repeat(1, 30)
    found = fit_readable(twins, positive, most=4)
    assert int((found.weights > 0).sum()) == 4


def test_the_weights_are_the_best_there_are_under_their_penalty() -> None:
    """Karush, Kuhn and Tucker: the same pull on all columns in use, no more towards others, none on the bias."""
    x, positive = activations(seed=2)
    found = fit_readable(x, positive, most=8)
    used = found.weights > 0
    scale = x.double().square().mean(0).sqrt()
    z = x.double() / scale
    error = (torch.sigmoid(found.score(x)) - positive.double()) / len(x)  # both labels are equally frequent here
    pull = -(z.T @ error)
    assert float(pull[used].std()) < 1e-4
    assert float(pull[~used].max()) < float(pull[used].mean()) + 1e-4
    assert abs(float(error.sum())) < 1e-4


def test_folds_choose_how_many_columns_there_are() -> None:
    folds = [row // 2 % 4 for row in range(80)]
    x, positive = activations()
    found = fit_readable(x, positive, folds=folds)
    assert {7, 21, 40} <= set(torch.nonzero(found.weights).flatten().tolist())
    stream = torch.Generator().manual_seed(1)
    noise = torch.rand(80, 60, generator=stream) * (torch.rand(80, 60, generator=stream) < 0.4)
    few = fit_readable(noise, positive, folds=folds)
    assert int((few.weights > 0).sum()) < int((fit_readable(noise, positive).weights > 0).sum())
    alone = fit_readable(x, positive, most=3, folds=[0] * 80)
    assert torch.equal(alone.weights, fit_readable(x, positive, most=3).weights), "one fold leaves nothing to fit on"


def test_few_columns_are_weighed_without_a_path() -> None:
    x, positive = activations()
    found = fit_nonnegative(x[:, [7, 3]], positive)
    assert (found.weights >= 0).all() and found.weights[0] > 2 * found.weights[1]


def test_where_nothing_speaks_for_the_positives_all_weights_are_zero() -> None:
    positive = torch.arange(20) < 10
    x = torch.rand(20, 5, generator=torch.Generator().manual_seed(0)) * (~positive[:, None])
    assert not fit_readable(x, positive).weights.any()
    assert not fit_readable(torch.zeros(20, 3), positive).weights.any()
    assert fit_readable(torch.zeros(20, 0), positive).weights.shape == (0,)


def test_scores_are_log_odds_in_the_units_of_the_columns() -> None:
    linear = Linear(torch.tensor([2.0, -1.0], dtype=torch.double), 0.5)
    assert linear.score(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).tolist() == [-0.5, 0.5]
