"""Reading a finished run: its atlas searched and shown, texts encoded, answers steered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from monoscope.atlas.desk import Desk
from monoscope.atlas.outputs import steerable_first
from monoscope.atlas.query import Atlas
from monoscope.atlas.search import ALL, Filters, SearchHit, search_prompt
from monoscope.atlas.values import feature_values, hit_values
from monoscope.atlas.ways import check_question, search_by
from monoscope.core.artifact import replacing
from monoscope.core.errors import BadRequest
from monoscope.core.pieces import token_pieces
from monoscope.core.run import Run
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.effect.kept import with_doses
from monoscope.model.chat import Rendered, render_chat, render_plain
from monoscope.model.sinks import keep_mask
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.stages import HARVEST_DTYPE
from monoscope.steer.compare import steered_pair
from monoscope.steer.edits import parse_edit
from monoscope.steer.presets import load_preset
from monoscope.text.files import file_documents

POOLS = ("max", "mean")
RANKS = ("answer", "output")
# Of so many answers those with the best output score are shown.
_SHORTLIST = 30


def open_atlas(run: Run, name: str | None) -> Atlas:
    """The atlas that is meant."""
    return Atlas.open(run.atlas(run.choose_atlas(name)))


def open_pair(run: Run, name: str | None, *, dtype: str = "float32") -> tuple[LanguageModel, Dictionary]:
    """The dictionary that is meant, and the model that it was trained on."""
    name = run.choose_dictionary(name)
    return load_model(run.provenance(name)["model"], dtype=dtype), load_dictionary(run.dictionary(name))


def search(
    run: Run,
    query: str,
    *,
    by: str = "words",
    limit: int = 10,
    name: str | None = None,
    filters: Filters = ALL,
    token: int | None = None,
    rank: str = "answer",
) -> dict[str, Any]:
    """Features that answer a query, best first, with why; by `rank` output, of the best answers those first that can
    steer.

    Raises
        BadRequest        the way of searching or ranking is unknown, or the query is empty.
        ArtifactNotFound  ranked by output, and no output scores were made yet.
    """
    if rank not in RANKS:
        raise BadRequest(f"--rank {rank!r} is not known; choose {' or '.join(RANKS)}.")
    atlas = open_atlas(run, name)
    most = limit if rank == "answer" else max(limit, _SHORTLIST)
    hits = find(run, atlas, query, by=by, limit=most, filters=filters, token=token)
    hits = hits if rank == "answer" else steerable_first(atlas, hits)[:limit]
    return {"query": query, "by": by, "rank": rank, "results": [hit_values(hit) for hit in hits]}


def find(  # noqa: PLR0913
    run: Run,
    atlas: Atlas,
    query: str,
    *,
    by: str = "words",
    limit: int = 10,
    filters: Filters = ALL,
    token: int | None = None,
) -> list[SearchHit]:
    """The same over an open atlas. `token` narrows a prompt to one of its tokens, counted from 0."""
    if not 1 <= limit <= 1000:
        raise BadRequest(f"--limit {limit} must lie between 1 and 1000.")
    check_question(query, by)
    if by != "prompt":
        return search_by(
            atlas, lambda: load_dictionary(run.dictionary(atlas.dictionary)), query, by, limit=limit, filters=filters
        )
    model, dictionary = open_pair(run, atlas.dictionary, dtype=HARVEST_DTYPE)
    rendered = render_plain(model, query)
    x, keep = residuals(model, dictionary, rendered)
    pieces = token_pieces([model.vocabulary[i] for i in rendered.ids])
    kept = [piece for piece, sound in zip(pieces, keep.tolist(), strict=True) if sound]
    place = None if token is None else _place(token, keep.tolist(), len(rendered.ids) - len(pieces) + 1)
    return search_prompt(atlas, dictionary, x[keep], kept, token=place, limit=limit, filters=filters)


def _place(token: int, keep: list[bool], prefixes: int) -> int:
    """The place among the kept tokens of the text's token `token`; the start token in front is not counted."""
    at = token + prefixes
    if not prefixes <= at < len(keep):
        raise BadRequest(f"There is no token {token}; the text has {len(keep) - prefixes}, counted from 0.")
    if not keep[at]:
        raise BadRequest(f"Token {token} is a sink of attention; no feature is read there.")
    return sum(keep[:at])


def show(run: Run, feature: int, *, name: str | None = None) -> dict[str, Any]:
    """One feature, as its page shows it."""
    return feature_values(open_atlas(run, name).feature(feature))


def residuals(model: LanguageModel, dictionary: Dictionary, rendered: Rendered) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations [tokens, d] of a rendered text at the dictionary's site, and which of them are no sinks."""
    if len(rendered.ids) > model.context_limit:
        raise BadRequest(f"The text has {len(rendered.ids)} tokens; this model reads {model.context_limit} at most.")
    ids = torch.tensor([rendered.ids])
    x = model.residual(ids, dictionary.site)
    keep = keep_mask(x, torch.tensor([len(rendered.ids)]), dictionary.stats.sink_limit)
    return x[0].float(), keep[0]


def encode_rendered(model: LanguageModel, dictionary: Dictionary, rendered: Rendered) -> SparseCode:
    """The code of each token; a sink's is empty."""
    x, keep = residuals(model, dictionary, rendered)
    code = dictionary.encode(x[keep])
    counts = torch.zeros(len(x), dtype=torch.long)
    counts[keep] = code.counts
    starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    return SparseCode(code.indices, code.values, starts, code.n_latents)


def encode(
    run: Run,
    text: str | None,
    path: Path | None,
    *,
    pool: str | None = None,
    out: Path | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Which features fire on texts: per token, or pooled over each text.

    Raises
        BadRequest  neither or both of text and file are given, or the pool is unknown.
    """
    if (text is None) == (path is None):
        raise BadRequest("Give a TEXT or --input F.jsonl, one of the two.")
    if pool is not None and pool not in POOLS:
        raise BadRequest(f"--pool {pool!r} is not known; choose max or mean.")
    model, dictionary = open_pair(run, name, dtype=HARVEST_DTYPE)
    texts = [_encoded(model, dictionary, item, pool) for item in _inputs(text, path)]
    if out is not None:
        _write_codes(out, texts, pooled=pool is not None)
    return {"dictionary": dictionary.name, "pool": pool, "texts": texts}


def _inputs(text: str | None, path: Path | None) -> Iterator[dict[str, Any]]:
    if text is not None:
        yield {"id": "0", "text": text}
        return
    for number, document in enumerate(file_documents(str(path))):
        messages = [{"role": role, "content": content} for role, content in document.messages]
        yield {"id": document.id or str(number), "text": document.text, "messages": messages}


def _encoded(model: LanguageModel, dictionary: Dictionary, item: dict[str, Any], pool: str | None) -> dict[str, Any]:
    if item.get("messages"):
        rendered = render_chat(model, item["messages"], reply_follows=False)
    else:
        rendered = render_plain(model, item["text"])
    code = encode_rendered(model, dictionary, rendered)
    first = 0 if item.get("messages") else 1
    record: dict[str, Any] = {"id": item["id"]}
    record["tokens"] = token_pieces([model.vocabulary[i] for i in rendered.ids[first:]])
    if pool is None:
        record["codes"] = [_pairs(code.row_slice(row, row + 1)) for row in range(first, code.n_rows)]
    else:
        dense = code.row_slice(first, code.n_rows).to_dense()
        pooled = dense.amax(0) if pool == "max" else dense.mean(0)
        record["codes"] = sorted(_pairs(SparseCode.from_dense(pooled[None])), key=lambda pair: -pair[1])
    return record


def _pairs(code: SparseCode) -> list[list[float]]:
    return [[int(i), round(float(v), 5)] for i, v in zip(code.indices.tolist(), code.values.tolist(), strict=True)]


def _write_codes(out: Path, texts: list[dict[str, Any]], *, pooled: bool) -> None:
    rows = []
    for item in texts:
        for position, pairs in enumerate([item["codes"]] if pooled else item["codes"]):
            rows += [
                {"id": item["id"], "position": None if pooled else position, "feature": int(feature), "value": value}
                for feature, value in pairs
            ]
    schema = pa.schema({"id": pa.string(), "position": pa.int32(), "feature": pa.int32(), "value": pa.float32()})
    with replacing(out) as aside:
        pq.write_table(pa.Table.from_pylist(rows, schema), aside)


def steer(
    run: Run,
    prompt: str,
    edits: tuple[str, ...],
    *,
    preset: str | None = None,
    chat: bool = False,
    max_tokens: int = 60,
    temperature: float = 0.7,
    seed: int = 0,
    name: str | None = None,
) -> dict[str, Any]:
    """The same answer with and without edits, and the proof; a feature's number alone is an edit at its kept dose.

    Raises
        BadRequest  there is nothing to do.
    """
    chosen = run.choose_dictionary(name)
    digest = dictionary_digest(run.dictionary(chosen))
    if preset is not None:
        edits = load_preset(run.path, preset, dictionary_digest=digest).edits + edits
    if not edits:
        raise BadRequest("There is nothing to steer with; give --edit, as '8011 add 0.4r', or --preset.")
    parsed = [parse_edit(edit) for edit in with_doses(Desk(run.atlas(chosen), digest), edits)]
    dictionary = load_dictionary(run.dictionary(chosen))
    for edit in parsed:
        dictionary.check_feature(edit.feature)
    model = load_model(run.provenance(chosen)["model"])
    asked = [{"role": "user", "content": prompt}] if chat else prompt
    pair = steered_pair(model, dictionary, asked, parsed, max_tokens=max_tokens, temperature=temperature, seed=seed)
    return {"prompt": prompt, "seed": seed, **pair.to_json()}
