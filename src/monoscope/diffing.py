"""A run and a second checkpoint joined: what changed between them, in the features of the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monoscope.core.artifact import write_json
from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.harvest.filling import Filling, Tokenised
from monoscope.harvest.packing import cut, good_starts
from monoscope.harvest.token_store import TokenStore
from monoscope.model.chat import render_chat
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.pairing import Pair, labels_for, open_reader
from monoscope.safety.differing import FEWEST_UNITS, Differing, Passage, Tested, changed_features, read_both
from monoscope.safety.elsewhere import candidates, context_changes, moved_tokens
from monoscope.stages import HARVEST_DTYPE
from monoscope.text.sources import open_mix

TOKENS, CONTEXT, TALK_TOKENS = 100_000, 256, 2048
# A change counts where it is sure (q) and beyond this share of the mean of both models: less is what rounding does.
Q, LEAST = 0.05, 0.1
# The same dictionary speaks for B as long as what it leaves unexplained grows by no more than this (methods I.5).
FVU_RISE = 0.2
_PROBES = 16


def diff(  # noqa: PLR0913
    run: Run,
    model_b: str,
    *,
    text: str | None = None,
    tokens: int = TOKENS,
    template: bool = True,
    least: float = LEAST,
    limit: int = 20,
    out: Path | None = None,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Both models over one text through one dictionary of the run: the features that changed, most sure first.

    `features` changed in rate or activation, ranked by their standardised difference; `elsewhere` kept both and fire on
    other tokens. `out` keeps all features that fire in either.

    Raises
        BadRequest    a setting makes no sense, the models cannot be compared, or there are too few documents.
        SiteNotFound  B has no such site.
        (and as sources do: BadSource, SourceNotFound, EmptyText, Damaged)
    """
    if not (1 <= limit <= 1000 and tokens >= 1 and 0 <= least < 1):
        raise BadRequest(
            f"--limit {limit}, --tokens {tokens} and --least {least:g} make no sense together; --limit is 1 to 1000, "
            "--tokens 1 or more and --least from 0 up to 1."
        )
    pair = open_reader(run, name)
    other = load_model(model_b, dtype=HARVEST_DTYPE)
    check_models(pair, other)
    passages, unit = _passages(run, pair, other, text, tokens, seed, progress)
    check_tokens(pair.model, other, passages)
    found = read_both(pair.model, other, pair.dictionary, passages, template=template, progress=progress)
    tested = changed_features(found.rate, found.activation, found.firings_a + found.firings_b > 0, least=least)
    q_context = context_changes(
        found.firings, candidates(found.firings_a, found.firings_b, found.overlap), seed=seed, progress=progress
    )
    order = _by_effect(found, tested, torch.nonzero(tested.q <= Q).flatten())
    gone = [feature for feature, q in q_context.items() if q <= Q and float(tested.q[feature]) > Q]
    gone.sort(key=lambda feature: (q_context[feature], float(found.overlap[feature])))
    listed, elsewhere = order[:limit], gone[:limit]
    result = {
        **_heading(pair, other, found, text, unit),
        "template": template,
        "least": least,
        "changed": len(order),
        "tested": int((found.firings_a + found.firings_b > 0).sum()),
        "changed_elsewhere": len(gone),
        "features": _rows(run, pair, found, tested, q_context, listed),
        "elsewhere": _rows(run, pair, found, tested, q_context, elsewhere),
        "seed": seed,
    }
    if out is not None:
        everything = _by_effect(found, tested, torch.nonzero(found.firings_a + found.firings_b > 0).flatten())
        write_json(out, {**result, "features": _rows(run, pair, found, tested, q_context, everything)})
    return result | {"out": None if out is None else str(out)}


def check_models(pair: Pair, other: LanguageModel) -> None:
    """Agree that the dictionary can read both models, and that token ids mean the same to both.

    Raises
        BadRequest    widths or vocabularies differ, or the dictionary is a transcoder.
        SiteNotFound  B has no such site.
    """
    dictionary, model = pair.dictionary, pair.model
    if dictionary.transcodes:
        raise BadRequest(
            f"{dictionary.name} is a transcoder, which reads {dictionary.site} and writes {dictionary.target}; "
            "a diff needs a dictionary of one site."
        )
    if other.d_model != model.d_model:
        raise BadRequest(
            f"{other.source} has a residual stream of {other.d_model} numbers and {model.source} one of "
            f"{model.d_model}; one dictionary cannot read both."
        )
    other.check_site(dictionary.site)
    shared = min(len(model.vocabulary), len(other.vocabulary))
    unlike = next((i for i in range(shared) if model.vocabulary[i] != other.vocabulary[i]), None)
    if unlike is not None:
        raise BadRequest(
            f"The tokenizers differ: token {unlike} is {model.vocabulary[unlike]!r} in {model.source} and "
            f"{other.vocabulary[unlike]!r} in {other.source}; a diff needs the same tokens."
        )


def check_tokens(model: LanguageModel, other: LanguageModel, passages: Sequence[Passage]) -> None:
    """Agree that B's tokenizer cuts this text as A's does, by its first few passages, and knows all its tokens.

    Raises
        BadRequest  it does not.
    """
    if max(max(each.ids) for each in passages) >= other.vocab_size:
        raise BadRequest(f"{other.source} lacks tokens of {model.source}; a diff needs the same tokens.")
    for each in passages[:_PROBES]:
        words = model.decode(each.ids[1:])
        if model.encode_text(words) != other.encode_text(words):
            raise BadRequest(
                f"The tokenizers of {model.source} and {other.source} cut {words[:40]!r} into different tokens; "
                "a diff needs the same."
            )


def _passages(  # noqa: PLR0913
    run: Run, pair: Pair, other: LanguageModel, text: str | None, tokens: int, seed: int, progress: Progress
) -> tuple[list[Passage], str]:
    """What is read, and what counts as one piece of evidence: a document, or a window where documents are few."""
    limit = min(pair.model.context_limit, other.context_limit)
    if text is None:
        found = held_passages(TokenStore.load(run.text(run.provenance(pair.name)["text"])), tokens)
    else:
        # A base model has no template; where only one of both can chat, that one says how talks are written.
        speaker = pair.model if pair.model.tokenizer.chat_template else other
        found = text_passages(speaker, text, tokens=tokens, limit=limit, seed=seed, progress=progress)
    if len({each.unit for each in found}) >= FEWEST_UNITS:
        return found, "document"
    return [Passage(each.ids, each.template, place) for place, each in enumerate(found)], "window"


def held_passages(store: TokenStore, tokens: int) -> list[Passage]:
    """Windows of documents that no dictionary was trained on, evenly from the whole text; documents of one group, as
    translations are, count as one."""
    windows = store.windows
    held = torch.nonzero(windows.held).flatten()
    share = min(1.0, tokens / max(1, int(windows.length[held].sum())))
    chosen = held[(torch.arange(len(held)) * share).floor().diff(prepend=torch.tensor([-1.0])) > 0]
    groups = _numbered(store.documents["group"].to_pylist())
    found = []
    for window in chosen.tolist():
        first, length = int(windows.start[window]), int(windows.length[window])
        ids, template = store.ids[first : first + length].tolist(), store.template[first : first + length].tolist()
        if windows.prefixed[window]:
            ids, template = [store.prefix_id, *ids], [True, *template]
        found.append(Passage(tuple(ids), tuple(template), groups[int(windows.document[window])]))
    return found


def text_passages(  # noqa: PLR0913
    model: LanguageModel, text: str, *, tokens: int, limit: int, seed: int = 0, progress: Progress = SILENT
) -> list[Passage]:
    """The first tokens of a text source. Plain text is cut into windows as for a harvest; a talk is read whole, up to
    2,048 tokens, and one whose last message is not the assistant's goes on to where the answer would begin."""
    progress.start("text", tokens, "tokens")
    filling = Filling(model, open_mix(text, seed=seed), tokens, progress)
    filling.run()
    progress.finish()
    kept = [_asked(model, entry) for entry in filling.kept]
    groups = _numbered([entry.document.group for entry in kept])
    return [
        *_cut(model, [(entry, g) for entry, g in zip(kept, groups, strict=True) if not entry.document.chat], CONTEXT),
        *_cut(
            model,
            [(entry, g) for entry, g in zip(kept, groups, strict=True) if entry.document.chat],
            min(TALK_TOKENS, limit - 1),
        ),
    ]


def _asked(model: LanguageModel, entry: Tokenised) -> Tokenised:
    messages = entry.document.messages
    if not messages or messages[-1][0] == "assistant":
        return entry
    rendered = render_chat(model, [{"role": role, "content": said} for role, said in messages], reply_follows=True)
    return Tokenised(entry.document, np.array(rendered.ids, np.int32), np.array(rendered.template, bool))


def _cut(model: LanguageModel, entries: Sequence[tuple[Tokenised, int]], context: int) -> list[Passage]:
    if not entries:
        return []
    ids = np.concatenate([entry.ids for entry, _ in entries])
    offsets = np.concatenate([[0], np.cumsum([len(entry.ids) for entry, _ in entries])])
    found = []
    for first, length, place in zip(*cut(good_starts(ids, model.vocabulary), offsets, context), strict=True):
        entry, unit = entries[place]
        at = int(first - offsets[place])
        own, template = entry.ids[at : at + length].tolist(), entry.template[at : at + length].tolist()
        if at or not entry.document.chat:
            own, template = [model.prefix_id, *own], [True, *template]
        found.append(Passage(tuple(own), tuple(template), unit))
    return found


def _numbered(groups: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]


def _by_effect(found: Differing, tested: Tested, features: torch.Tensor) -> list[int]:
    """By z to one decimal place, since z has a ceiling, the root of the documents, at which many features meet; those
    that meet by how much more or less they write: decoder rows have length 1."""
    size = found.activation.difference[features].abs()
    by_size = features[torch.argsort(-size, stable=True)]
    return by_size[torch.argsort(-(10 * tested.effect[by_size].abs()).round(), stable=True)].tolist()


def _heading(pair: Pair, other: LanguageModel, found: Differing, text: str | None, unit: str) -> dict[str, Any]:
    a, b = found.fvu
    template_a, template_b = found.fvu_template
    return {
        "model_a": pair.model.source,
        "model_b": other.source,
        "dictionary": pair.name,
        "site": str(pair.dictionary.site),
        "text": text or "the run's held-out text",
        "documents": found.units,
        "unit": unit,
        "tokens": found.tokens,
        "fvu_a": _rounded(a),
        "fvu_b": _rounded(b),
        "fvu_template_a": _rounded(template_a),
        "fvu_template_b": _rounded(template_b),
        "valid": _valid(a, b),
        "valid_template": None if template_a is None else _valid(template_a, template_b),
        "same_weights": pair.model.digest == other.digest,
    }


def _valid(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and b <= a * (1 + FVU_RISE)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _rows(  # noqa: PLR0913
    run: Run, pair: Pair, found: Differing, tested: Tested, q_context: dict[int, float], features: list[int]
) -> list[dict[str, Any]]:
    labels, moved = labels_for(run, pair.name, features), moved_tokens(found.firings, features)
    overlap, tokens = found.overlap, max(1, found.tokens)
    sums = found.activation
    return [
        {
            "feature": feature,
            "label": labels.get(feature, ""),
            "rate_a": int(found.firings_a[feature]) / tokens,
            "rate_b": int(found.firings_b[feature]) / tokens,
            "mean_a": float(sums.total[feature] - sums.difference[feature]) / 2 / tokens,
            "mean_b": float(sums.total[feature] + sums.difference[feature]) / 2 / tokens,
            "effect": round(float(tested.effect[feature]), 3),
            "q": float(tested.q[feature]),
            "q_context": q_context.get(feature),
            "overlap": round(float(overlap[feature]), 4),
            "more_in_b": [_token(pair.model, *each) for each in moved[feature][0]],
            "more_in_a": [_token(pair.model, *each) for each in moved[feature][1]],
        }
        for feature in features
    ]


def _token(model: LanguageModel, token: int, a: int, b: int) -> dict[str, Any]:
    return {"token": model.decode([token]), "a": a, "b": b}
