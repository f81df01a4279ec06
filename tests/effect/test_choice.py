import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.effect.choice import LEAST_RISE, Limits, Point, Reply, best_of, interval, rate_on_others, rises

replies = st.builds(
    Reply,
    heard=st.booleans(),
    loss=st.floats(0, 80),
    tokens=st.integers(1, 24),
    repetition=st.floats(0, 1),
    sound=st.sampled_from([True, True, True, False]),
)


@st.composite
def grids(draw):
    """Plain replies and those at some strengths, to the same questions."""
    count = draw(st.integers(1, 6))
    rows = draw(st.lists(st.lists(replies, min_size=count, max_size=count), min_size=2, max_size=6))
    points = [Point(tuple(row), 0.1 * (place + 1), 0.5) for place, row in enumerate(rows[1:])]
    return Point(tuple(rows[0])), points, Limits(draw(st.floats(1, 60)))


def point(heard: str, loss: float = 1.0, repeats: float = 0.0) -> Point:
    """A point whose replies, of one token each, are marked x where the concept is heard."""
    return Point(tuple(Reply(mark == "x", loss, 1, repeats) for mark in heard))


def test_the_figures_of_a_point_by_hand():
    found = Point((Reply(True, 2.0, 4, 0.0), Reply(False, 4.0, 2, 0.5)), 0.3, 0.25, 0.125)
    assert found.concept_rate == 0.5
    assert found.perplexity == pytest.approx(math.exp(6 / 6))
    assert found.repetition == 0.25
    assert found.to_json() == {
        "strength": 0.3, "concept_rate": 0.5, "perplexity": 2.718, "repetition": 0.25, "kl": 0.25,
        "word_probability": 0.125,
    }  # fmt: skip


def test_no_token_and_broken_numbers_are_never_fluent():
    empty = Point((Reply(False, 0.0, 0, 0.0),))
    broken = Point((Reply(True, 0.0, 3, 0.0, sound=False), Reply(True, 0.0, 3, 0.0)))
    for one in (empty, broken):
        assert math.isinf(one.perplexity)
        assert one.to_json()["perplexity"] is None
        assert not Limits(1e9).hold(one)


def test_the_best_is_the_most_heard_of_the_fluent_and_of_equals_the_gentlest():
    limits = Limits(math.exp(2))
    points = [point("...."), point("x..."), point("xx.."), point("xx.."), point("xxxx", loss=3.0)]
    assert best_of(points, limits) == 2
    assert best_of([point("xxxx", loss=3.0), point("xxxx", repeats=0.3)], limits) is None


def test_the_interval_ends_where_the_concept_is_lost_or_the_text_breaks():
    limits, plain = Limits(math.exp(2)), point("....")
    points = [point("...."), point("x..."), point("xx.."), point("xxx."), point("xxxx", loss=3.0)]
    assert interval(points, 3, limits, plain) == (1, 3)
    assert not rises(points[0], plain) and rises(points[1], plain)


def test_a_rate_on_others_has_no_luck_of_the_choice_in_it():
    """Each strength is heard on one half only: chosen there, it does nothing on the other."""
    plain = point("....")
    lucky = [point("x.x."), point(".x.x")]
    assert max(one.concept_rate for one in lucky) == 0.5
    assert rate_on_others(lucky, plain, Limits(100)) == 0
    assert rate_on_others(lucky, point("."), Limits(100)) is None


@given(grids())
def test_what_is_chosen_holds(grid):
    plain, points, limits = grid
    chosen = best_of(points, limits)
    fluent = [one for one in points if limits.hold(one)]
    if chosen is None:
        assert not fluent
        return
    best = points[chosen]
    assert best in fluent
    assert all(one.concept_rate <= best.concept_rate for one in fluent)
    assert all(one.concept_rate < best.concept_rate for one in fluent if one.strength < best.strength)
    first, last = interval(points, chosen, limits, plain)
    assert first <= chosen <= last
    for place in range(first, last + 1):
        risen = points[place].concept_rate >= plain.concept_rate + LEAST_RISE - 1e-9
        assert place == chosen or (limits.hold(points[place]) and risen)


@given(grids())
def test_the_rate_on_others_lies_between_the_worst_and_the_best(grid):
    plain, points, limits = grid
    found = rate_on_others(points, plain, limits)
    if len(plain.replies) < 2:
        assert found is None
        return
    assert 0 <= found <= 1
    always = Limits(math.inf, repetition=1.0)
    assert rate_on_others(points[:1], plain, always) == pytest.approx(points[0].concept_rate)
    assert rate_on_others([plain] * 3, plain, limits) == pytest.approx(plain.concept_rate)
