"""One pass over the text fills the atlas. The only writer of feature rows.

It is built aside and renamed into place, so that a build that was killed leaves nothing and is simply run again.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.atlas.candidates import Corpus
from monoscope.atlas.examples import Gathering
from monoscope.atlas.label import label_features
from monoscope.atlas.neighbours import nearest, pointed_tokens
from monoscope.atlas.schema import DATABASE, MANIFEST, TOKENS, VERSION, features_table, write_database
from monoscope.core.artifact import check_request, digest_file, read_json, staging, write_json
from monoscope.core.blocks import ActivationBlock
from monoscope.core.errors import RequestDiffers
from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.token_store import TokenStore

# Codes are sorted this many tokens at a time; more would leave the processor's cache.
_CHUNK_ROWS = 16_384
_LISTED = 10


@dataclass(frozen=True)
class AtlasSummary:
    """What a build found. `alive` features fired at least once; `tokens` were encoded; `bytes` are on disk."""

    features: int
    alive: int
    tokens: int
    seconds: float
    bytes: int


def build_atlas(
    folder: Path,
    blocks: Iterable[ActivationBlock],
    dictionary: Dictionary,
    store: TokenStore,
    *,
    unembedding: Float[Tensor, "vocab d"] | None = None,
    vocabulary: Sequence[bytes] | None = None,
    request: Mapping[str, Any],
    progress: Progress = SILENT,
    replace: bool = False,
) -> AtlasSummary:
    """Fill an atlas, or say what the finished one of the same request holds.

    `blocks` are activations of `store`: whole windows, each contiguous and in reading order; they are not touched where
    the atlas is finished. Without `unembedding` no tokens are promoted. `request` is all the result depends on.

    Raises
        RequestDiffers  the atlas was made with other settings, and not `replace`.
        BadNumbers      an activation is NaN or infinite.
        DiskFull        no room; nothing is left behind.
    """
    folder = Path(folder)
    if (folder / MANIFEST).is_file() and not replace:
        manifest = read_json(folder / MANIFEST)
        check_request(f"The atlas in {folder}", manifest.get("request", {}), request)
        return AtlasSummary(**{name: manifest[name] for name in AtlasSummary.__dataclass_fields__})
    if vocabulary is not None and len(vocabulary) != len(store.vocabulary):
        raise RequestDiffers(f"The text in {store.folder} was made with another tokenizer; harvest it again.")
    began = time.perf_counter()
    gathering = gather(blocks, dictionary, store, progress)
    with staging(folder) as aside:
        _write(aside, gathering, dictionary, store, unembedding, progress)
        counts = gathering.counts()
        size = sum(path.stat().st_size for path in aside.rglob("*") if path.is_file())
        summary = AtlasSummary(
            features=dictionary.n_latents,
            alive=int((counts.firings > 0).sum()),
            tokens=counts.tokens,
            seconds=time.perf_counter() - began,
            bytes=size,
        )
        write_json(aside / MANIFEST, _manifest(aside, summary, gathering, dictionary, store, request))
    return summary


def gather(
    blocks: Iterable[ActivationBlock], dictionary: Dictionary, store: TokenStore, progress: Progress = SILENT
) -> Gathering:
    """Encode the blocks and gather what each feature does."""
    gathering = Gathering(store, dictionary.stats.max.float().numpy())
    progress.start("atlas", store.n_tokens, "tokens")
    for block in blocks:
        for token, x in _pieces(block, store):
            gathering.add(token, dictionary.encode(x))
            progress.advance(len(token))
    progress.finish()
    return gathering


def _pieces(block: ActivationBlock, store: TokenStore) -> Iterator[tuple[Int[Tensor, "rows"], Float[Tensor, "rows d"]]]:
    """The block in pieces of whole windows."""
    if not len(block.token):
        return
    window = torch.searchsorted(store.windows.start.long(), block.token.long(), right=True)
    ends = torch.nonzero(torch.diff(window)).flatten() + 1
    wanted = torch.arange(1, len(window) // _CHUNK_ROWS + 1) * _CHUNK_ROWS
    places = torch.searchsorted(ends, wanted)
    cuts = ends[places[places < len(ends)]].unique().tolist()
    bounds = [0, *cuts, len(window)]
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        yield block.token[first:last], block.x[first:last]


def _write(
    folder: Path,
    gathering: Gathering,
    dictionary: Dictionary,
    store: TokenStore,
    unembedding: Tensor | None,
    progress: Progress,
) -> None:  # noqa: PLR0913
    counts, examples = gathering.counts(), gathering.examples()
    labels = label_features(Corpus(store), examples, counts, progress=progress)
    alive = torch.from_numpy(counts.firings > 0)
    indices, cosines = nearest(dictionary.W_dec, _LISTED, alive)
    tokens = _pointed(dictionary, store, unembedding)
    table = features_table(counts, examples, labels, tokens, (indices.numpy(), cosines.numpy()))
    write_database(folder / DATABASE, table)
    (folder / TOKENS).mkdir()
    for path in sorted(store.folder.iterdir()):
        if path.is_file() and path.name[0] != ".":
            _link(path, folder / TOKENS / path.name)


def _pointed(
    dictionary: Dictionary, store: TokenStore, unembedding: Tensor | None
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Promoted and suppressed tokens among those that the text has; special ones are left out."""
    if unembedding is None:
        nothing = np.zeros((dictionary.n_latents, 0), np.int64), np.zeros((dictionary.n_latents, 0), np.float32)
        return nothing, nothing
    seen = torch.bincount(store.ids.long(), minlength=len(unembedding)) > 0
    seen[sorted(store.special_ids)] = False
    raised, lowered = pointed_tokens(dictionary.W_dec, unembedding, torch.nonzero(seen).flatten(), _LISTED)
    return (raised[0].numpy(), raised[1].numpy()), (lowered[0].numpy(), lowered[1].numpy())


def _link(source: Path, target: Path) -> None:
    """The same file under a second name where the disk can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _manifest(
    folder: Path,
    summary: AtlasSummary,
    gathering: Gathering,
    dictionary: Dictionary,
    store: TokenStore,
    request: Mapping[str, Any],
) -> dict[str, Any]:  # noqa: PLR0913
    return {
        "version": VERSION,
        **vars(summary),
        "dictionary": dictionary.name,
        "dictionary_digest": request.get("dictionary_digest", ""),
        "model": request.get("model", ""),
        "site": str(dictionary.site),
        "text_digest": store.digest,
        "histogram_edges": [float(edge) for edge in gathering.edges()],
        "digests": {DATABASE: digest_file(folder / DATABASE)},
        "request": dict(request),
    }
