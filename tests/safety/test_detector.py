"""Detectors: a stream scores as the whole text does, to the last bit, and what is no number is never passed over."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import BadRequest
from monoscope.safety.detector import STATISTICS, Detector, Running, crosses, score_texts, score_tokens

from .conftest import reading_of, sparse_table

PROBE = torch.tensor([0.5, -1.0, 0.25, 2.0, 0.0, -0.5])


def detector(statistic: str = "max", features: int = 3, *, probe: bool = False, **settings) -> Detector:
    weights = torch.rand(features, generator=torch.Generator().manual_seed(7), dtype=torch.double) + 0.1
    extra = {"probe": PROBE, "probe_bias": 0.3, "probe_weight": 0.7} if probe else {}
    return Detector(torch.arange(features) * 2, weights, -1.25, statistic, **{"window": 4, **settings, **extra})


def channels(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Mostly silent channels; the last one, as that of a probe, of either sign."""
    table = sparse_table(seed, count, width).double()
    table[:, -1] -= 1.0
    return table


def slowly(found: Detector, table: torch.Tensor) -> tuple[list[float], float]:
    """The score after each token and of the text, with a loop for everything."""
    scores, count = [], len(found.features)
    for t in range(1, len(table) + 1):
        seen = table[max(0, t - found.window) : t] if found.statistic == "rolling" else table[:t]
        pooled = [
            max(column) if found.statistic == "max" and place < count else math.fsum(column) / len(column)
            for place, column in enumerate(seen.T.tolist())
        ]
        values = [math.log1p(value) if found.squash else value for value in pooled[:count]]
        score = found.bias + math.fsum(w * v for w, v in zip(found.weights.tolist(), values, strict=True))
        scores.append(score + found.probe_weight * pooled[count] if found.probe is not None else score)
    return scores, max(scores[found.warm_up - 1 :], default=scores[-1])


@given(
    st.sampled_from(STATISTICS),
    st.integers(0, 6),
    st.booleans(),
    st.booleans(),
    st.integers(1, 20),
    st.integers(1, 25),
    st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(any),
    st.integers(0, 10_000),
)
def test_a_stream_scores_as_the_whole_text_does_bit_for_bit(
    statistic: str, features: int, probe: bool, squash: bool, window: int, warm_up: int, pieces: list[int], seed: int
) -> None:
    if not features and not probe:
        probe = True
    made = detector(statistic, features, probe=probe, squash=squash, window=window, warm_up=warm_up)
    table = channels(sum(pieces), made.channels, seed)
    if not probe:
        table = table.clamp(min=0)
    whole, stream, single = Running(made), Running(made), Running(made)
    scores = whole.advance(table)
    told = torch.cat([stream.advance(piece) for piece in table.split(pieces)])
    ones = torch.cat([single.advance(token) for token in table.split(1)])
    for other, by in ((stream, told), (single, ones)):
        assert torch.equal(scores, by)
        assert (whole.score, whole.best, whole.count) == (other.score, other.best, other.count)
        assert torch.equal(whole.pooled, other.pooled)
    expected, text = slowly(made, table)
    assert scores.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert whole.score == pytest.approx(text, rel=1e-9, abs=1e-9)


def test_streams_of_realistic_size_agree_bit_for_bit_too() -> None:
    """Longer and wider than the shapes above, where a matrix product or a vector sum would choose another order."""
    for statistic in STATISTICS:
        made = detector(statistic, 20, probe=True, window=33)
        table = channels(700, made.channels).clamp(min=-0.5)
        scores = Running(made).advance(table)
        for size in (1, 3, 64, 699):
            stream = Running(made)
            assert torch.equal(scores, torch.cat([stream.advance(piece) for piece in table.split(size)]))


def test_texts_of_a_reading_are_scored_one_by_one() -> None:
    dense, counts = sparse_table(1, 30, 8), [4, 1, 20, 5]
    reading = reading_of(dense, counts)
    for statistic in STATISTICS:
        made = detector(statistic, probe=True, warm_up=5)
        table = torch.cat([dense[:, made.features], (reading.x @ PROBE + 0.3)[:, None]], dim=1).double()
        for place, part in enumerate(table.split(counts)):
            expected, text = slowly(made, part)
            assert float(score_texts(made, reading)[place]) == pytest.approx(text, abs=1e-6)
            assert score_tokens(made, reading, place).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_no_alarm_before_the_warm_up(statistic: str) -> None:
    made = detector(statistic, 1, window=2, warm_up=4, squash=False)
    table = torch.tensor([[100.0], [0.0], [0.0], [1.0], [0.0]], dtype=torch.double)
    running = Running(made)
    scores = running.advance(table[:3])
    assert running.best == -math.inf
    assert not crosses(scores, -100.0, 4, 0).any()
    assert running.score == float(scores[-1]), "a shorter text is scored at its end"
    later = running.advance(table[3:])
    assert running.score == float(later.max()), "what came before the warm-up counts only as far as it is pooled"
    assert crosses(later, -100.0, 4, 3).all()


def test_nothing_read_is_the_score_of_silence() -> None:
    running = Running(detector(squash=True))
    assert running.advance(torch.zeros(0, 3, dtype=torch.double)).shape == (0,)
    assert (running.count, running.score) == (0, -1.25)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("probe", [False, True])
def test_a_channel_that_is_no_number_raises_the_alarm(statistic: str, probe: bool) -> None:
    made = detector(statistic, 2, probe=probe, warm_up=2)
    for at in (1, 3, 9):
        table = torch.ones(10, made.channels, dtype=torch.double)
        table[at, -1] = math.nan
        running = Running(made)
        scores = running.advance(table)
        assert running.score == math.inf
        assert crosses(scores, 1e9, made.warm_up, 0)[at]
    short = Running(detector(statistic, 1, warm_up=5))
    short.advance(torch.full((2, 1), math.nan, dtype=torch.double))
    assert not short.score <= 1e9


@given(st.sampled_from(STATISTICS), st.booleans(), st.integers(1, 30), st.integers(0, 1000))
def test_the_shares_of_features_add_up_to_the_score(statistic: str, squash: bool, count: int, seed: int) -> None:
    made = detector(statistic, 4, squash=squash)
    running = Running(made)
    scores = running.advance(sparse_table(seed, count, 4).double())
    shares = made.shares(running.pooled)
    assert sum(part for _, part in shares) + made.bias == pytest.approx(float(scores[-1]), rel=1e-9)
    assert [part for _, part in shares] == sorted((part for _, part in shares), reverse=True)
    assert {feature for feature, _ in shares} == set(made.features.tolist())


def test_channels_from_the_residual_are_those_of_the_reading(dictionary, reading) -> None:
    made = Detector(torch.tensor([5, 0, 11]), torch.ones(3, dtype=torch.double), 0.0, probe=torch.ones(48))
    live, known = made.channels_of(dictionary, reading.x), made.read(reading)
    assert live.dtype == known.dtype == torch.double
    assert torch.allclose(live, known, atol=1e-4)
    nothing = Detector(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.double), 0.25)
    assert nothing.channels_of(dictionary, reading.x).shape == nothing.read(reading).shape == (len(reading.ids), 0)
    assert set(score_texts(nothing, reading).tolist()) == {0.25}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"statistic": "median"}, "There is no statistic 'median'; choose max, mean, rolling."),
        ({"window": 0}, "window 0 and warm_up 1 must be numbers of tokens from 1 to 100,000."),
        ({"warm_up": 100_001}, "window 16 and warm_up 100001 must be numbers of tokens from 1 to 100,000."),
        ({"features": torch.tensor([1, 1])}, "one weight for each of its features, and each feature once"),
        ({"features": torch.tensor([1])}, "one weight for each of its features"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, sentence: str) -> None:
    usual = {"features": torch.tensor([1, 2]), "weights": torch.ones(2), "bias": 0.0}
    with pytest.raises(BadRequest, match=sentence):
        Detector(**{**usual, **settings})
