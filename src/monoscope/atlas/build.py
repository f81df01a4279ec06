"""One pass over the text fills the atlas. The only writer of feature rows.

The text is encoded once, into a spool that a killed build goes on with. All that follows is read from the spool. The
atlas is built aside and takes its place at once; until then, and if nothing comes of it, the old one stays.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.atlas.closing import Closing, control_labels
from monoscope.atlas.control import random_dictionary
from monoscope.atlas.desk import carry_desk, moving
from monoscope.atlas.examples import Counts
from monoscope.atlas.schema import DARK, DATABASE, MANIFEST, TOKENS, VERSION, Writer
from monoscope.atlas.spool import Spool
from monoscope.core.artifact import check_request, digest_file, read_json, staging, sweep, write_json
from monoscope.core.blocks import ActivationBlock
from monoscope.core.errors import RequestDiffers
from monoscope.core.progress import SILENT, Progress
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.token_store import TokenStore

# Codes are sorted this many tokens at a time; more would leave the processor's cache.
_CHUNK_ROWS = 16_384


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

    `blocks` are activations of `store`: whole windows, each contiguous and in reading order, the same at every call;
    they are not touched where the atlas is finished. Without `unembedding` no tokens are promoted. `request` is all
    the result depends on.

    Raises
        RequestDiffers  the atlas was made with other settings, and not `replace`.
        BadNumbers      an activation is NaN or infinite.
        DiskFull        no room; the codes that were written stay for the next try.
    """
    folder = Path(folder)
    if is_finished(folder) and not replace:
        manifest = read_json(folder / MANIFEST)
        check_request(f"The atlas in {folder}", manifest.get("request", {}), request)
        return AtlasSummary(**{name: manifest[name] for name in AtlasSummary.__dataclass_fields__})
    if vocabulary is not None and len(vocabulary) != len(store.vocabulary):
        raise RequestDiffers(f"The text in {store.folder} was made with another tokenizer; harvest it again.")
    began = time.perf_counter()
    sweep(folder.parent, folder.name)
    spools = [Spool(folder.parent / f".{folder.name}.{kind}", request) for kind in ("codes", "control")]
    try:
        control = encode_blocks(blocks, dictionary, store, spools[0], spools[1], progress)
        with staging(folder, placing=lambda aside: _placing(folder, aside)) as aside:
            closing = Closing(dictionary, store, spools[0], unembedding, progress)
            _write(aside, closing, store)
            quality = {**closing.quality(), **control_labels(control, store, spools[1], closing.labeller)}
            summary = AtlasSummary(
                features=dictionary.n_latents,
                alive=int((closing.counts.firings > 0).sum()),
                tokens=closing.counts.tokens,
                seconds=time.perf_counter() - began,
                bytes=sum(path.stat().st_size for path in aside.rglob("*") if path.is_file()),
            )
            manifest = _manifest(aside, summary, closing.counts, dictionary, store, request)
            write_json(aside / MANIFEST, {**manifest, "histogram_edges": closing.edges.tolist(), "quality": quality})
    finally:
        for spool in spools:
            spool.close()
    for spool in spools:
        spool.remove()
    return summary


def is_finished(folder: Path) -> bool:
    """Is there an atlas of today's format? One of an older format is built again."""
    return (folder / MANIFEST).is_file() and read_json(folder / MANIFEST).get("version") == VERSION


def encode_blocks(
    blocks: Iterable[ActivationBlock],
    dictionary: Dictionary,
    store: TokenStore,
    spool: Spool,
    control_spool: Spool,
    progress: Progress = SILENT,
) -> Dictionary | None:  # noqa: PLR0913
    """Encode the blocks into a spool, but for what it holds already; the same for a dictionary of random directions.

    Returns the random dictionary; None where there was no block.
    """
    control = None
    progress.start("atlas", store.n_tokens, "tokens")
    for number, (token, x) in enumerate(piece for block in blocks for piece in _pieces(block, store)):
        x = x.float()
        if control is None:
            control = random_dictionary(dictionary, x)
        if number >= spool.pieces:
            code = dictionary.encode(x)
            spool.append(token.numpy(), code, _dark(dictionary, x, code))
        if number >= control_spool.pieces:
            control_spool.append(token.numpy(), control.encode(x), np.zeros(len(token)))
        progress.advance(len(token))
    spool.commit()
    control_spool.commit()
    progress.finish()
    return control


def _dark(dictionary: Dictionary, x: Float[Tensor, "rows d"], code: SparseCode) -> np.ndarray:
    """|x - x̂|² / |x - mean|² of each row; NaN for a transcoder, whose target is not at hand."""
    if dictionary.transcodes:
        return np.full(len(x), np.nan)
    lost = (x - dictionary.complete(x, code)).pow(2).sum(1)
    return (lost / (x - dictionary.stats.mean_vector).pow(2).sum(1).clamp(min=1e-12)).clamp(max=100).numpy()


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


def _write(folder: Path, closing: Closing, store: TokenStore) -> None:
    with Writer(folder / DATABASE) as writer:
        for table in closing.tables():
            writer.append(table)
    np.save(folder / DARK, closing.dark())
    (folder / TOKENS).mkdir()
    for path in sorted(store.folder.iterdir()):
        if path.is_file() and path.name[0] != ".":
            _link(path, folder / TOKENS / path.name)


@contextmanager
def _placing(folder: Path, aside: Path) -> Iterator[None]:
    """While the new atlas takes its place nobody writes on the desk, and all that is on it comes along."""
    with moving(folder, alone=True):
        carry_desk(folder, aside)
        yield


def _link(source: Path, target: Path) -> None:
    """The same file under a second name where the disk can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _manifest(
    folder: Path,
    summary: AtlasSummary,
    counts: Counts,
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
        "sources": dict(zip(counts.sources.names, counts.sources.tokens.tolist(), strict=True)),
        "languages": dict(zip(counts.languages.names, counts.languages.tokens.tolist(), strict=True)),
        "digests": {name: digest_file(folder / name) for name in (DATABASE, DARK)},
        "request": dict(request),
    }
