"""The learning rate over the steps."""


def learning_rate(peak: float, step: int, steps: int, *, warmup: int, decay_share: float) -> float:
    """Rises linearly over `warmup` steps, stays, and falls linearly to zero over the last `decay_share`.

    `step` counts from 0.
    """
    rising = (step + 1) / max(1, warmup)
    falling = (steps - step) / max(1.0, decay_share * steps)
    return peak * min(1.0, rising, falling)
