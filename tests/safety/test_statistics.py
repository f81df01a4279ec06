"""Intervals, p-values and thresholds, each against scipy or against what it promises."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from monoscope.safety import statistics
from monoscope.safety.statistics import (
    area,
    area_interval,
    binomial_interval,
    binomial_range,
    conformal_threshold,
    drawn_groups,
    drift,
    false_discovery,
    rank_p_values,
    rate_above,
    rate_at_rate,
)

NAN, INF = float("nan"), float("inf")


def scored(count: int, seed: int = 0, shift: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """`count` texts of each label, positives higher by `shift`, each in a group with one of the other label."""
    stream = torch.Generator().manual_seed(seed)
    scores = torch.randn(2 * count, generator=stream, dtype=torch.double)
    positive = torch.arange(2 * count) < count
    return scores + shift * positive, positive, [str(i % count) for i in range(2 * count)]


def test_the_interval_holds_the_area_and_shrinks_with_more_texts() -> None:
    widths = []
    for count in (10, 40, 160):
        scores, positive, groups = scored(count)
        found = area_interval(scores, positive, groups)
        assert found.low <= found.value <= found.high
        assert found.value == pytest.approx(area(scores, positive))
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = float(stats.norm.cdf(1 / math.sqrt(2)))
    held = [(lambda i: i.low <= truth <= i.high)(area_interval(*scored(30, seed))) for seed in range(20)]
    assert sum(held) >= stats.binom.ppf(0.001, 20, 0.93)


def test_whole_groups_are_drawn_so_copies_of_a_text_make_it_no_surer() -> None:
    scores, positive, groups = scored(20)
    copies = [torch.cat([each] * 5) for each in (scores, positive)]
    once, five = area_interval(scores, positive, groups), area_interval(*copies, groups * 5)
    assert five.value == pytest.approx(once.value)
    assert five.high - five.low == pytest.approx(once.high - once.low, rel=0.1)


@pytest.mark.parametrize("few", [False, True])
def test_the_interval_is_that_of_texts_drawn_one_by_one(few: bool, monkeypatch) -> None:
    scores, positive, groups = scored(10 if few else 12)
    scores = scores.round(decimals=0 if few else 1)
    drawn = []
    for times in np.concatenate(list(drawn_groups(groups, 5, "auroc"))):
        rows = torch.repeat_interleave(torch.arange(len(scores)), torch.tensor(times, dtype=torch.long))
        if 0 < int(positive[rows].sum()) < len(rows):
            drawn.append(area(scores[rows], positive[rows]))
    assert len(drawn) == 1000
    found = area_interval(scores, positive, groups, seed=5)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    monkeypatch.setattr(statistics, "_PIECE", 100)
    assert area_interval(scores, positive, groups, seed=5) == found, "in pieces as at once"


def test_a_handful_of_groups_is_not_surer_than_single_texts() -> None:
    scores, positive, _ = scored(12)
    three = [str(place % 3) for place in range(24)]
    alone = area_interval(scores, positive, [str(place) for place in range(24)])
    found = area_interval(scores, positive, three)
    assert found.low <= alone.low < alone.high <= found.high
    pairs = area_interval(scores, positive, [str(place % 12) for place in range(24)])
    assert pairs != alone, "twelve groups speak for themselves"


def test_draws_without_one_of_the_labels_are_left_out() -> None:
    positive = torch.tensor([True, False, False, False])
    found = area_interval(torch.tensor([2.0, 1.0, 3.0, 0.0]), positive, list("abcd"))
    assert (found.value, found.low, found.high) == pytest.approx((2 / 3, 0.0, 1.0))


def test_an_interval_of_one_label_is_the_value_itself() -> None:
    found = area_interval(torch.arange(4.0), torch.ones(4, dtype=torch.bool), list("abcd"))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_p_values_are_those_of_scipy(ties: bool) -> None:
    stream = torch.Generator().manual_seed(3)
    mine, others = torch.randn(30, 12, generator=stream) + 0.4, torch.randn(45, 12, generator=stream)
    if ties:
        mine, others = (each.clamp(min=0.3).mul(4).round() for each in (mine, others))
    mine[:, -1] = others[:, -1] = 2.0
    found = rank_p_values(mine, others)
    mine, others = mine.double().numpy(), others.double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for column in range(11):
            expected = stats.mannwhitneyu(
                mine[:, column], others[:, column], method="asymptotic", use_continuity=False
            ).pvalue
            assert float(found[column]) == pytest.approx(expected, rel=1e-9)
    assert float(found[-1]) == 1.0, "a feature that is everywhere the same tells nothing"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_q_values_are_those_of_benjamini_and_hochberg(p: list[float]) -> None:
    expected = stats.false_discovery_control(np.array(p), method="bh")
    assert torch.allclose(false_discovery(torch.tensor(p, dtype=torch.double)), torch.tensor(expected), atol=1e-12)


def test_no_tests_have_no_q_values() -> None:
    assert len(false_discovery(torch.zeros(0))) == 0


@pytest.mark.parametrize(("count", "fpr", "rank"), [(9_999, 0.001, 9_990), (999, 0.001, 999), (99, 0.01, 99)])
def test_conformal_ranks(count: int, fpr: float, rank: int) -> None:
    """Golden values O.7: of the scores 1 to n the threshold is the rank itself."""
    scores = torch.randperm(count) + 1.0
    assert conformal_threshold(scores, fpr) == rank
    assert conformal_threshold(scores[: math.ceil(1 / fpr) - 2], fpr) == INF, "too few to promise that much"


@pytest.mark.parametrize(("count", "fpr", "values"), [(20, 0.1, 1000), (37, 0.05, 1000), (50, 0.2, 3), (12, 0.5, 2)])
def test_new_benign_texts_cross_at_most_as_often_as_promised(count: int, fpr: float, values: int) -> None:
    stream = torch.Generator().manual_seed(count)
    draws = 4000
    scores = torch.randint(0, values, (draws, count + 1), generator=stream).double()
    crossed = sum(float(row[-1]) > conformal_threshold(row[:-1], fpr) for row in scores)
    assert crossed <= stats.binom.ppf(0.9999, draws, fpr)
    if values == 1000:  # without ties the promise is kept to within one over the number of texts
        assert crossed >= stats.binom.ppf(0.0001, draws, max(0.0, fpr - 1 / (count + 1)))


def test_what_is_no_number_counts_as_flagged_everywhere() -> None:
    assert rate_above(torch.tensor([NAN, 0.0, 2.0, 1.0]), 1.0) == 0.5
    assert rate_above(torch.tensor([NAN]), INF) == 1.0
    assert rate_above(torch.zeros(0), 0.0) == 0.0
    benign = torch.tensor([0.0, 1.0, NAN, 2.0])
    assert conformal_threshold(benign, 0.4) == 2.0
    assert conformal_threshold(benign, 0.2) == INF, "the largest of them is no number: nothing may cross"
    scores, positive = torch.tensor([NAN, 0.5, 0.0, 1.0]), torch.tensor([True, True, False, False])
    assert area(scores, positive) == 0.75
    found = area_interval(scores, positive, list("abab"))
    assert found.low <= 0.75 <= found.high
    assert rate_at_rate(torch.tensor([5.0, NAN, 1.0]), torch.tensor([True, False, False]), 0.5) == 1.0
    assert rate_at_rate(torch.tensor([5.0, NAN, 1.0]), torch.tensor([True, False, False]), 0.0) == 0.0


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5]),
)
def test_the_rate_of_hits_is_the_best_of_all_thresholds(hits: list[int], benign: list[int], fpr: float) -> None:
    scores = torch.tensor([*hits, *benign], dtype=torch.double)
    positive = torch.arange(len(scores)) < len(hits)
    best = max(
        rate_above(scores[positive], float(threshold))
        for threshold in range(-1, 8)
        if rate_above(scores[~positive], float(threshold)) <= fpr
    )
    assert rate_at_rate(scores, positive, fpr) == pytest.approx(best)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (1, 60), (3, 7), (57, 60), (20, 400), (0, 1)])
def test_binomial_intervals_are_exact(hits: int, trials: int) -> None:
    expected = stats.binomtest(hits, trials).proportion_ci(0.95, "exact")
    assert binomial_interval(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_trials_tell_nothing() -> None:
    assert binomial_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400), st.floats(0.001, 0.999))
def test_binomial_ranges_lie_between_both_tails(trials: int, rate: float) -> None:
    low, high = binomial_range(trials, rate)
    law = stats.binom(trials, rate)
    assert (low, high) == (law.ppf(0.005), law.ppf(0.995))


def test_drift_is_the_test_of_kolmogorov_and_smirnov() -> None:
    stream = np.random.default_rng(0)
    for old, new, shift in ((200, 150, 0.0), (60, 60, 0.5), (300, 40, 0.4), (25, 30, 1.5)):
        one, other = stream.normal(size=old).round(1), (stream.normal(size=new) + shift).round(1)
        found, expected = drift(torch.tensor(one), torch.tensor(other)), stats.ks_2samp(one, other)
        assert found.distance == pytest.approx(expected.statistic, abs=1e-12)
        assert found.p == pytest.approx(expected.pvalue, rel=0.2, abs=2e-3)
        size = math.sqrt(old * new / (old + new))
        assert found.p == pytest.approx(special.kolmogorov((size + 0.12 + 0.11 / size) * found.distance), abs=1e-9)
    assert drift(torch.zeros(0), torch.ones(3)) == drift(torch.ones(3), torch.ones(3))
    assert drift(torch.zeros(50), torch.full((50,), NAN)).p < 1e-6
