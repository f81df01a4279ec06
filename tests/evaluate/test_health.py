import torch

from monoscope.evaluate.health import health


def test_counts_worked_by_hand() -> None:
    found = health(torch.tensor([0, 0, 1, 10, 11, 100]), tokens=100)
    assert (found.dead, found.dense, found.n_latents) == (2, 2, 6)
    assert found.dead_fraction == 2 / 6 and found.dense_fraction == 2 / 6
    assert found.median_density == 0.01


def test_a_tenth_exactly_is_not_dense() -> None:
    assert health(torch.tensor([10]), tokens=100).dense == 0
