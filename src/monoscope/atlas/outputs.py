"""How well each feature can steer, as a small file beside the atlas: a cache, made by `monoscope steerable`.

The scores are measured elsewhere, with a model; here they are kept, and hits of a search are ranked by them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from monoscope.atlas.query import Atlas
from monoscope.atlas.search import SearchHit
from monoscope.core.artifact import replacing
from monoscope.core.errors import ArtifactNotFound

OUTPUTS = "outputs.npz"


def save_outputs(folder: Path, digest: str, scores: Float[np.ndarray, "n_features"]) -> None:
    """Keep the output scores of an atlas of this digest; NaN for a feature without one."""
    with replacing(folder / OUTPUTS) as aside, aside.open("wb") as stream:
        np.savez(stream, scores=scores.astype(np.float32), digest=np.array(digest))


def outputs_of(atlas: Atlas) -> Float[np.ndarray, "n_features"] | None:
    """The output score of every feature, NaN without one; None where none were made for this very atlas."""
    try:
        with np.load(atlas.folder / OUTPUTS, allow_pickle=False) as found:
            return found["scores"] if str(found["digest"]) == atlas.digest else None
    except (OSError, ValueError, KeyError):
        return None


def steerable_first(atlas: Atlas, hits: Sequence[SearchHit]) -> list[SearchHit]:
    """Hits with the best output score first, which is told in why; those without one come last.

    Raises
        ArtifactNotFound  no scores were made for this atlas.
    """
    scores = outputs_of(atlas)
    if scores is None:
        raise ArtifactNotFound(
            f"There are no output scores of {atlas.dictionary} yet; run monoscope steerable on this run first."
        )
    known = [hit for hit in hits if np.isfinite(scores[hit.feature])]
    ranked = sorted(known, key=lambda hit: -scores[hit.feature])
    told = [replace(hit, why=f"{hit.why}; output score {scores[hit.feature]:.3f}") for hit in ranked]
    return [*told, *(hit for hit in hits if not np.isfinite(scores[hit.feature]))]
