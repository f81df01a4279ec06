"""Margins of the model that refuses (an example): their slope is what small edits do; what is picked spares scams."""

import importlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monoscope.steer.resolve import push_at

from .conftest import words_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ASKED = ["The rain sees the storm.", "The cloud sees the king and the queen.", "The king sees the bread."]
CONCEPTS = ("weather", "royalty")
# Eighths add up exactly, so that no rounding decides who is refused.
numbers = st.integers(-40, 40).map(lambda eighths: eighths / 8)


@pytest.fixture
def margin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("refusing_margin")


@pytest.fixture
def ends(margin, toy):
    return margin.Ends(*(tuple(toy.encode_text(word)[0] for word in words_of(name)[0][:3]) for name in CONCEPTS))


def test_many_requests_have_the_margins_that_each_has_alone(margin, toy, ends):
    together = margin.margins(toy, ends, ASKED)
    alone = torch.cat([margin.margins(toy, ends, [prompt]) for prompt in ASKED])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert together.std() > 0


def test_what_hangs_on_a_feature_is_the_slope_along_its_direction(margin, toy, ends, dictionary):
    ids = torch.tensor([margin._rendered(toy, ASKED[1]).ids])
    x, slope = margin._slope(toy, dictionary, ids, ends)
    direction, small = dictionary.W_dec[3].float(), 1e-2
    up, down = (
        margin.margins(toy, ends, ASKED[1:2], (push_at(dictionary, direction, size, scope="everywhere"),))
        for size in (small, -small)
    )
    # The first token is a sink, which no edit touches.
    wanted = (slope[1:] @ (direction / direction.norm())).sum()
    torch.testing.assert_close((up - down)[0] / (2 * small), wanted, atol=2e-3, rtol=2e-2)
    lean = margin.leanings(toy, dictionary, ends, ASKED[1:2])[0]
    alone = dictionary.encode(x[1:]).to_dense() * (slope[1:] @ dictionary.W_dec.float().T)
    torch.testing.assert_close(lean, alone.sum(0))
    assert (lean != 0).sum() > 1


@given(st.lists(st.lists(numbers, min_size=8, max_size=8), min_size=3, max_size=7), st.integers(1, 3))
def test_no_other_handful_refuses_fewer_look_alikes_and_as_many_scams(margin, lists, count):
    plain = torch.tensor([1.0, 1, 1, 1, 1, 1, -1, -1])
    shifts = {10 + place: torch.tensor(values) for place, values in enumerate(lists)}

    def worth(features: Sequence[int]) -> tuple[bool, int]:
        then = plain + torch.stack([shifts[feature] for feature in features]).sum(0) > 0
        return int(then[:4].sum()) >= 3, -int(then[4:].sum())

    chosen = margin.handful(plain, shifts, scams=4, count=count, keep=0.75)
    assert len(set(chosen)) == count
    assert worth(chosen) == max(map(worth, itertools.combinations(shifts, count)))
