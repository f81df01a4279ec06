"""Nearest rows by an index, where a product of all pairs would take hours. The only room that knows faiss."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.core.errors import Unavailable
from monoscope.core.progress import SILENT, Progress

_BATCH = 16_384
# Rows are sorted into cells, and the nearest cells are searched; more of them find more and take longer.
_ROWS_PER_CELL, _LOOKED_AT = 256, 48
_LEARN_ROWS = 100_000


def approximate_nearest(
    rows: Float[Tensor, "n_latents d"], count: int, among: Bool[Tensor, "n_latents"], progress: Progress = SILENT
) -> tuple[np.ndarray, np.ndarray]:
    """As `neighbours.find_nearest`, from cells of near rows (inverted file); the cosines are exact, a neighbour may
    miss.

    Raises
        Unavailable  faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise Unavailable(
            "Approximate neighbours need the package faiss-cpu; install it with: pip install 'monoscope[map]'"
        ) from error
    unit = torch.nn.functional.normalize(rows.float(), dim=1).numpy()
    living = torch.nonzero(among).flatten().numpy()
    count = max(0, min(count, len(living) - 1))
    indices, cosines = np.zeros((len(unit), count), np.int32), np.zeros((len(unit), count), np.float32)
    if not count:
        return indices, cosines
    cells = max(1, len(living) // _ROWS_PER_CELL)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(unit.shape[1]), unit.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.nprobe = 6, min(cells, _LOOKED_AT)
    index.train(unit[living[:: max(1, len(living) // max(_LEARN_ROWS, 32 * cells))]])
    index.add_with_ids(unit[living], living)
    progress.start("neighbours", len(unit), "features")
    for first in range(0, len(unit), _BATCH):
        numbers = np.arange(first, min(len(unit), first + _BATCH))
        values, found = index.search(unit[numbers], count + 1)
        own = found == numbers[:, None]
        own[~own.any(1), -1] = True  # a row that did not find itself gives up the last of its list
        indices[numbers] = found[~own].reshape(len(numbers), count)
        cosines[numbers] = values[~own].reshape(len(numbers), count)
        progress.advance(len(numbers))
    progress.finish()
    return indices, cosines
