import pytest

from monoscope.train.schedule import learning_rate


@pytest.mark.parametrize(
    ("step", "wanted"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (30, 1.0), (60, 1.0), (70, 0.75), (80, 0.5), (99, 0.025)],
)
def test_rises_stays_and_falls(step: int, wanted: float) -> None:
    assert learning_rate(1.0, step, 100, warmup=10, decay_share=0.4) == pytest.approx(wanted)
    assert learning_rate(3e-3, step, 100, warmup=10, decay_share=0.4) == pytest.approx(3e-3 * wanted)


def test_short_trainings_never_pass_the_peak_and_never_reach_zero() -> None:
    for steps in (1, 2, 5):
        rates = [learning_rate(1.0, step, steps, warmup=50, decay_share=0.4) for step in range(steps)]
        assert all(0 < rate <= 1 for rate in rates)
    assert learning_rate(1.0, 0, 10, warmup=0, decay_share=0.0) == 1.0
