"""Documents to a token store: the mix filled to its budget, doubles dropped, a part of it held out."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from monoscope.core.artifact import check_request, digest_of, plain, staging, sweep
from monoscope.core.errors import BadRequest, EmptyText
from monoscope.core.progress import SILENT, Progress
from monoscope.harvest.filling import Filling, sound_text
from monoscope.harvest.packing import cut, good_starts
from monoscope.harvest.split import break_up, hold_out, join_groups, signature
from monoscope.harvest.token_store import MANIFEST, TokenStore, Windows, write_files, write_manifest
from monoscope.model.transformer import LanguageModel
from monoscope.text.corpus import Document, Part

__all__ = ["TokenStore", "Windows", "write_store"]


def write_store(  # noqa: PLR0913  each is a setting of the artefact
    folder: Path,
    documents: Iterable[Document] | Sequence[Part],
    model: LanguageModel,
    *,
    name: str | None = None,
    tokens: int,
    context: int = 256,
    held_share: float = 0.15,
    held_min: int = 200_000,
    seed: int = 0,
    request: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
    replace: bool = False,
) -> TokenStore:
    """The first `tokens` tokens of the documents, or of a mix by its shares, as a store in `folder`.

    A store made from the same request is loaded instead. A part of the mix that runs dry gives its share to the others;
    the last document of a part is cut where its share ends.

    Units   `tokens` own tokens of documents, chat templates counted; `held_min` tokens.
    Edges   empty documents and exact doubles are dropped and counted; fewer tokens than asked are no error.
    Cost    about 4 s for a million tokens on one core.

    Raises
        RequestDiffers  the folder holds a store made from another request.
        EmptyText       no document has a token.
    """
    if tokens < 1 or context < 2 or not 0 <= held_share < 1:
        raise BadRequest(
            f"tokens={tokens}, context={context}, held_share={held_share} make no text; "
            "tokens must be 1 or more, context 2 or more and held_share from 0 up to 1."
        )
    folder = Path(folder)
    wanted = plain(
        {
            **(request or {}),
            "tokens": tokens,
            "context": context,
            "held_share": held_share,
            "held_min": held_min,
            "seed": seed,
            "model": model.source,
            "model_digest": model.digest,
        }
    )
    if (folder / MANIFEST).is_file() and not replace:
        store = TokenStore.load(folder)
        check_request(f"The text in {folder}", store.request, wanted)
        return store
    parts = _as_parts(documents)
    progress.start("text", tokens, "tokens")
    filling = Filling(model, parts, tokens, progress)
    filling.run()
    progress.finish()
    if not filling.kept:
        raise EmptyText(
            f"{', '.join(part.source for part in parts)} gave no text; {filling.dropped_empty} documents were empty."
        )
    sweep(folder.parent, f"{folder.name}.")
    with staging(folder) as aside:
        _write(aside, filling, wanted, name or folder.name)
    return TokenStore.load(folder)


def _as_parts(documents: Iterable[Document] | Sequence[Part]) -> list[Part]:
    stream = iter(documents)
    first = next(stream, None)
    if isinstance(first, Part):
        return [first, *(part for part in stream if isinstance(part, Part))]
    return [Part("documents", 1.0, (each for each in chain([first], stream) if isinstance(each, Document)))]


def _write(folder: Path, filling: Filling, request: Mapping[str, Any], name: str) -> None:
    model, kept = filling.model, filling.kept
    counts = np.array([len(entry.ids) for entry in kept], np.int64)
    given = [entry.document.group for entry in kept]
    joined = join_groups(given, [signature(_words(entry.document)) for entry in kept])
    groups = break_up(joined, counts)
    held = hold_out(groups, counts, share=request["held_share"], least=request["held_min"], seed=request["seed"])
    ids = np.concatenate([entry.ids for entry in kept])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    start, length, document = cut(good_starts(ids, model.vocabulary), offsets, request["context"])
    chat = np.array([entry.document.chat for entry in kept], bool)
    tensors = {
        "ids": ids,
        "offsets": offsets,
        "template": np.concatenate([entry.template for entry in kept]).astype(np.uint8),
        "window_start": start,
        "window_length": length,
        "window_prefixed": (~(chat[document] & (start == offsets[:-1][document]))).astype(np.uint8),
        "window_document": document,
    }
    digests = write_files(
        folder,
        {key: torch.from_numpy(array) for key, array in tensors.items()},
        _table([entry.document for entry in kept], groups, held, chat),
        model.vocabulary,
    )
    manifest = {
        "name": name,
        "request": request,
        "request_digest": digest_of(request),
        "digests": digests,
        "prefix_id": model.prefix_id,
        "special_ids": sorted(model.special_ids),
        "context": request["context"],
        "counts": {
            "tokens": len(ids),
            "documents": len(kept),
            "windows": len(start),
            "held_tokens": int(counts[held].sum()),
            "held_documents": int(held.sum()),
            "template_tokens": int(tensors["template"].sum()),
            "dropped_empty": filling.dropped_empty,
            "dropped_doubles": filling.dropped_doubles,
            "joined_near_doubles": len(set(given)) - len(set(joined)),
        },
        "shares": _shares(filling),
    }
    write_manifest(folder, manifest)


def _words(document: Document) -> str:
    return "\n".join(content for _, content in document.messages) if document.chat else document.text


def _table(documents: Sequence[Document], groups: Sequence[str], held: np.ndarray, chat: np.ndarray) -> pa.Table:
    columns = {
        name: [sound_text(getattr(d, name)) for d in documents]
        for name in ("title", "source", "language", "topic", "id")
    }
    split = np.where(held, "held", "train").tolist()
    return pa.table({**columns, "group": list(groups), "split": split, "chat": chat}).select(
        ["title", "source", "language", "split", "group", "topic", "id", "chat"]
    )


def _shares(filling: Filling) -> list[dict[str, Any]]:
    total = sum(source.count for source in filling.sources)
    weight = sum(source.weight for source in filling.sources)
    return [
        {
            "source": source.name,
            "asked": source.weight / weight,
            "share": source.count / total,
            "tokens": source.count,
            "documents": len(source.kept),
            "ran_dry": source.dry,
        }
        for source in filling.sources
    ]
