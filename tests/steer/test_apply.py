"""Each mode by hand, on a dictionary of two features in three dimensions.

w0 = (1, 0, 0), w1 = (0.6, 0.8, 0); the encoder reads the plain coordinates: f0 = x[0], f1 = x[1], where above 0.
"""

import pytest
import torch

from monoscope.core.site import Site
from monoscope.dictionary.base import Stats, Weights
from monoscope.dictionary.relu import ReluDictionary
from monoscope.steer.apply import apply_edits, plan_site
from monoscope.steer.resolve import push_at, resolve_all

TOKEN = torch.tensor([2.0, 3.0, 5.0])


@pytest.fixture
def small():
    stats = Stats(torch.tensor([4.0, 8.0]), torch.ones(2), torch.ones(2), torch.zeros(3), 10, 20.0, 50.0)
    decoder = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    weights = Weights(torch.eye(3)[:, :2].contiguous(), torch.zeros(2), decoder, torch.zeros(3))
    return ReluDictionary(weights, site=Site(0), name="small", stats=stats, settings={})


def applied(dictionary, rows, x, prompt=8, start=0):
    moves = [resolve_all(edits, dictionary) for edits in rows]
    plan = plan_site(Site(0), moves, [prompt] * len(rows), torch.device("cpu"))
    positions = torch.arange(start, start + x.shape[1])[None].expand(len(rows), -1)
    return apply_edits(x, positions, plan)


def one(dictionary, edits):
    return applied(dictionary, [edits], TOKEN.expand(1, 2, 3)).after[0, 1]


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        (["1 add 10"], [8, 11, 5]),
        (["1 add 1x"], [6.8, 9.4, 5]),
        (["1 add -0.5r"], [-4, -5, 5]),
        (["0 clamp 7"], [7, 3, 5]),
        (["1 clamp 8"], [5, 7, 5]),
        (["1 clamp -2"], [-1, -1, 5]),
        (["0 scale 3"], [6, 3, 5]),
        (["1 ablate"], [0.2, 0.6, 5]),
        # x·w1 = 1.2 + 2.4 = 3.6
        (["1 project-out"], [2 - 2.16, 3 - 2.88, 5]),
        # Both activations are read before the first edit: f1 = 3 though the first edit moved x[1] to 11.
        (["1 add 10", "1 ablate"], [6.2, 8.6, 5]),
        (["1 ablate", "1 add 10"], [6.2, 8.6, 5]),
        # Projecting out removes what is there when its turn comes.
        (["1 add 10", "1 project-out"], [2 - 2.16, 3 - 2.88, 5]),
        (["1 project-out", "1 add 10"], [8 - 2.16, 11 - 2.88, 5]),
        (["0 add 1 if 1 > 2.9"], [3, 3, 5]),
        (["0 add 1 if 1 > 3"], [2, 3, 5]),
    ],
)
def test_modes_by_hand(small, edits, expected):
    torch.testing.assert_close(one(small, edits), torch.tensor(expected, dtype=torch.float32))


def test_a_condition_is_asked_of_each_token(small):
    x = torch.tensor([[[9.0, 9.0, 0.0], [2.0, 3.0, 5.0], [2.0, 1.0, 5.0], [2.0, -4.0, 5.0]]])
    done = applied(small, [["0 add 1 if 1 > 2"]], x)
    assert done.edited[0, 0].tolist() == [False, True, False, False]


def test_clamping_at_the_present_value_changes_nothing(model, dictionary, prompts):
    x = model.residual(torch.tensor([prompts[0]]), dictionary.site)
    activations = dictionary.activations_of(x[0], torch.arange(24))
    for feature in (0, 7, 23):
        place = int(activations[1:, feature].argmax()) + 1
        moves = resolve_all(
            [f"{feature} clamp {float(activations[place, feature])!r} @{place}:{place + 1}"], dictionary
        )
        plan = plan_site(dictionary.site, [moves], [x.shape[1]], torch.device("cpu"))
        done = apply_edits(x, torch.arange(x.shape[1])[None], plan)
        assert int(done.edited.sum()) == 1
        assert float((done.after - x).abs().max()) < 1e-5


def test_first_token_long_tokens_and_padding_stay(small):
    x = TOKEN.repeat(1, 5, 1)
    x[0, 3] *= 100  # longer than the sink limit of 50
    moves = [resolve_all(["0 add 1"], small)]
    plan = plan_site(Site(0), moves, [4], torch.device("cpu"))
    done = apply_edits(x, torch.tensor([[-1, 0, 1, 2, 3]]), plan)
    assert done.edited[0, 0].tolist() == [False, False, True, False, True]
    torch.testing.assert_close(done.after[0, [0, 1, 3]], x[0, [0, 1, 3]], rtol=0, atol=0)


def test_rows_have_edits_of_their_own(small):
    rows = [[], ["0 clamp 7"], ["1 add 10", "0 ablate", "1 scale 2"], [push_at(small, torch.tensor([0.0, 0, 1]), 4.0)]]
    together = applied(small, rows, TOKEN.expand(4, 2, 3)).after[:, 1]
    torch.testing.assert_close(together[0], TOKEN, rtol=0, atol=0)
    torch.testing.assert_close(together[1], one(small, rows[1]))
    torch.testing.assert_close(together[2], one(small, rows[2]))
    torch.testing.assert_close(together[3], torch.tensor([2.0, 3, 9]))


def test_half_precision_is_edited_in_full_precision(small):
    x = TOKEN.expand(1, 2, 3).bfloat16()
    done = applied(small, [["0 add 0.001"]], x)
    assert done.after.dtype == torch.float32
    assert float(done.after[0, 1, 0]) == pytest.approx(2.001)
