"""All figures of a dictionary in one record, as `metrics.json` and `evaluate --json` show them."""

from typing import Any

from monoscope.evaluate.fidelity import FVU_FORMULA, Fidelity
from monoscope.evaluate.health import health
from monoscope.evaluate.splice import Splice


def report(fidelity: Fidelity, splice: Splice) -> dict[str, Any]:
    """Plain values; `ce_recovered` is against the mean activation."""
    state = health(fidelity.fires, fidelity.tokens)
    return {
        "tokens": fidelity.tokens,
        "l0": fidelity.l0,
        "l0_p95": fidelity.l0_p95,
        "fvu": fidelity.fvu,
        "fvu_formula": FVU_FORMULA,
        "cosine": fidelity.cosine,
        "norm_ratio": fidelity.norm_ratio,
        "ce_clean": splice.ce_clean,
        "ce_spliced": splice.ce_spliced,
        "ce_zero": splice.ce_zero,
        "ce_mean": splice.ce_mean,
        "ce_recovered": splice.ce_recovered,
        "ce_recovered_zero": splice.ce_recovered_zero,
        "kl": splice.kl,
        "ce_tokens": splice.tokens,
        "dead_fraction": state.dead_fraction,
        "dead": state.dead,
        "dense_fraction": state.dense_fraction,
        "dense": state.dense,
        "median_density": state.median_density,
        "n_latents": state.n_latents,
    }
