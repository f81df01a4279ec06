"""Choosing what the demo shows: features of a concept by contrast, and the gentlest push that the answer follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.atlas.contrast import ContrastHit, contrast
from monoscope.atlas.query import Atlas
from monoscope.core.errors import EmptyText
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel
from monoscope.steer.compare import difference_of_means, perplexity_under, random_push, repetition
from monoscope.steer.edits import Edit
from monoscope.steer.engine import generate
from monoscope.steer.prompt import Prompt, request_for
from monoscope.steer.request import Generation
from monoscope.steer.resolve import push_at

STRENGTHS = (0.35, 0.4, 0.45, 0.5, 0.55)
MOST_FEATURES = 4
_LEAST_AUROC, _LEAST_RATE = 0.9, 0.5
# A feature of the concept is near its largest activation in texts on it; one that only brushes it is of something else.
_LEAST_SHARE_OF_MAX = 0.4
_MOST_REPETITION, _MOST_NLL = 0.2, 3.6
_TOKENS = 60


@dataclass(frozen=True)
class Pooled:
    """The largest activation of each latent in each of some documents."""

    documents: Int[Tensor, "documents"]
    largest: Float[Tensor, "documents n_latents"]


def pool_documents(
    shards: ShardStore, store: TokenStore, dictionary: Dictionary, documents: Int[Tensor, "documents"]
) -> Pooled:
    """Read the stored activations of some documents. Cost: documents × latents floats; meant for hundreds."""
    place = torch.full((store.n_documents,), -1)
    place[documents] = torch.arange(len(documents))
    largest = torch.zeros(len(documents), dictionary.n_latents)
    for block in shards.blocks("all"):
        row_place = place[store.document_of(block.token)]
        wanted = row_place >= 0
        if not wanted.any():
            continue
        code = dictionary.encode(block.x[wanted].float())
        flat = row_place[wanted][code.rows] * dictionary.n_latents + code.indices.long()
        largest.view(-1).scatter_reduce_(0, flat, code.values, "amax")
    return Pooled(documents, largest)


def documents_of(
    store: TokenStore, *, sources: Sequence[str], title: str | None = None, other_than: str | None = None
) -> Tensor:
    """Documents by source and title."""
    rows = zip(store.documents["source"].to_pylist(), store.documents["title"].to_pylist(), strict=True)
    chosen = [
        number
        for number, (source, found) in enumerate(rows)
        if source in sources and (title is None or found == title) and found != other_than
    ]
    return torch.tensor(chosen, dtype=torch.long)


def concept_features(
    run: Run, name: str, dictionary: Dictionary, concept: str, *, limit: int = MOST_FEATURES
) -> list[ContrastHit]:
    """Features that fire in the model's texts on a concept and not in its texts on anything else.

    Ranked by (2 AUROC - 1) × difference of the mean activations: a push along a feature that adds much to the residual
    there does more than one along a faint feature that tells the texts apart as well.
    Both sets have the same chat format: against another format the contrast would find the format.

    Raises
        EmptyText  the run has no texts on the concept, or none to compare them with.
    """
    origin = run.provenance(name)
    store = TokenStore.load(run.text(origin["text"]))
    shards = ShardStore.load(run.activations(origin["activations"]))
    positive, negative = concept_documents(store, concept)
    if len(positive) < 4 or len(negative) < 4:
        raise EmptyText(f"{run.path} holds too few texts on {concept!r} to compare; harvest with --focus {concept!r}.")
    pooled = pool_documents(shards, store, dictionary, torch.cat([positive, negative]))
    inside, outside = pooled.largest[: len(positive)], pooled.largest[len(positive) :]
    strong = inside.median(0).values >= _LEAST_SHARE_OF_MAX * dictionary.stats.max
    gap = (inside.mean(0) - outside.mean(0)).tolist()
    hits = [hit for hit in contrast(inside, outside, limit=100) if strong[hit.feature]]
    hits.sort(key=lambda hit: -(2 * hit.auroc_heldout - 1) * gap[hit.feature])
    telling = [hit for hit in hits if hit.auroc_heldout >= _LEAST_AUROC and hit.rate_pos >= _LEAST_RATE]
    if not hits:
        raise EmptyText(
            f"No feature fires strongly on the texts on {concept!r}; use more --focus-texts or train longer."
        )
    return (telling or hits)[:limit]


def concept_documents(store: TokenStore, concept: str) -> tuple[Tensor, Tensor]:
    """The model's texts on a concept, and its texts on anything else that never name it."""
    positive = documents_of(store, sources=("focus",), title=concept)
    others = documents_of(store, sources=("answers", "focus"), other_than=concept)
    bounds = [(int(store.offsets[number]), int(store.offsets[number + 1])) for number in others.tolist()]
    silent = [concept.lower() not in store.text_of(first, last).lower() for first, last in bounds]
    return positive, others[torch.tensor(silent, dtype=torch.bool)]


def shared_push(dictionary: Dictionary, features: Sequence[int], strength: float) -> tuple[Edit, ...]:
    """`add` edits of equal size whose sum is `strength` mean residual norms long."""
    length = float(dictionary.W_dec[list(features)].sum(0).norm())
    return tuple(Edit(feature, "add", round(strength / length, 3), "r") for feature in features)


def find_preset(
    run: Run,
    name: str,
    model: LanguageModel,
    dictionary: Dictionary,
    concept: str,
    question: str,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """The features of a concept, the gentlest of `STRENGTHS` at which the answer speaks of it, and the answers.

    Beside them the controls: a random direction of the same length, and the difference of means of the same texts.
    """
    hits = concept_features(run, name, dictionary, concept)
    atlas = Atlas.open(run.atlas(name))
    features = [hit.feature for hit in hits]
    said = [{"role": "user", "content": question}]
    ladders = [features[:count] for count in range(1, len(features) + 1)]
    candidates = [shared_push(dictionary, chosen, strength) for chosen in ladders for strength in STRENGTHS]
    progress.start("preset", len(candidates) * _TOKENS, "tokens")
    requests = [request_for(model, said, edits, seed=seed, max_tokens=_TOKENS) for edits in ((), *candidates)]
    answers = generate(model, dictionary, requests, on_token=lambda *_: progress.advance(1))
    progress.finish()
    best = _gentlest(model, requests[0].prompt_ids, answers[1:], concept)
    edits = candidates[best]
    controls = _controls(run, name, model, dictionary, concept, said, edits, seed)
    return {
        "baseline": answers[0].text,
        "steered": answers[1 + best].text,
        "edits": [str(edit) for edit in edits],
        "features": [
            {"feature": hit.feature, "label": atlas.feature(hit.feature).label, "auroc_heldout": hit.auroc_heldout}
            for hit in hits
            if hit.feature in {edit.feature for edit in edits}
        ],
        "concept": concept,
        "seed": seed,
        "max_tokens": _TOKENS,
        "controls": controls,
    }


def mentions(text: str, concept: str) -> int:
    """How many words of the concept's name the text holds, whatever their case."""
    lowered = text.lower()
    return sum(word in lowered for word in concept.lower().split())


def _gentlest(model: LanguageModel, prompt: Sequence[int], answers: Sequence[Generation], concept: str) -> int:
    """The first readable answer that names the most of the concept; failing all, the one that names the most."""
    readable = [
        index
        for index, answer in enumerate(answers)
        if repetition(answer.ids) <= _MOST_REPETITION and perplexity_under(model, prompt, answer.ids) <= _MOST_NLL
    ]
    return max(readable or range(len(answers)), key=lambda index: (mentions(answers[index].text, concept), -index))


def _controls(  # noqa: PLR0913
    run: Run,
    name: str,
    model: LanguageModel,
    dictionary: Dictionary,
    concept: str,
    said: Prompt,
    edits: Sequence[Edit],
    seed: int,
) -> dict[str, str]:
    store = TokenStore.load(run.text(run.provenance(name)["text"]))
    random = random_push(dictionary, edits, seed)
    positive, negative = concept_documents(store, concept)
    means = difference_of_means(model, dictionary.site, _texts(store, positive), _texts(store, negative))
    pushes = {
        "random": random,
        "difference_of_means": push_at(dictionary, means, random.value, name="difference of means"),
    }
    requests = [request_for(model, said, (push,), seed=seed, max_tokens=_TOKENS) for push in pushes.values()]
    answers = generate(model, dictionary, requests)
    return {label: answer.text for label, answer in zip(pushes, answers, strict=True)}


def _texts(store: TokenStore, documents: Tensor) -> list[list[int]]:
    return [
        store.ids[int(store.offsets[number]) : int(store.offsets[number + 1])].tolist()[: store.context]
        for number in documents[:64].tolist()
    ]
