import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.effect.resample import paired_interval, perplexity

figures = st.lists(st.floats(-5, 5), min_size=1, max_size=12).map(np.array)


@given(figures, st.floats(-3, 3), st.integers(0, 50))
def test_the_same_shift_of_every_item_is_known_for_sure(plain, shift, seed):
    low, high = paired_interval(plain, plain + shift, np.ones(len(plain)), seed=seed)
    assert low == pytest.approx(shift, abs=1e-9) and high == pytest.approx(shift, abs=1e-9)


@given(figures, st.integers(0, 50))
def test_turning_the_comparison_round_turns_the_interval_round(plain, seed):
    edited, count = plain[::-1].copy(), np.ones(len(plain))
    low, high = paired_interval(plain, edited, count, seed=seed)
    other = paired_interval(edited, plain, count, seed=seed)
    assert other == pytest.approx((-high, -low), abs=1e-9)
    assert low <= high


def test_the_interval_of_coin_flips_is_about_two_standard_errors():
    """40 items, half of them won: the standard error of the mean is 0.5 / sqrt(40) = 0.079."""
    plain, edited = np.zeros(40), np.arange(40) % 2.0
    low, high = paired_interval(plain, edited, np.ones(40))
    assert low == pytest.approx(0.5 - 1.96 * 0.079, abs=0.03)
    assert high == pytest.approx(0.5 + 1.96 * 0.079, abs=0.03)


def test_perplexity_weighs_items_by_their_tokens():
    assert perplexity(np.array([6.0]), np.array([3.0]))[0] == pytest.approx(np.exp(2))
    plain, tokens = np.array([1.0, 9.0]), np.array([1.0, 3.0])
    low, high = paired_interval(plain, plain + tokens, tokens, perplexity)
    assert low > 0
    assert high == pytest.approx(np.exp(4) - np.exp(3))
