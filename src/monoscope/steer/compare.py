"""What an edit changed, beside the controls that make the claim honest.

Same prompt, same seed, one batch: with the edits, without them, and with a push of the same size along a random
direction. A difference of means is the classical baseline with labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.errors import BadNumbers, EmptyText
from monoscope.core.runtime import random_stream
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.model.sinks import keep_mask, sink_limit
from monoscope.model.transformer import LanguageModel
from monoscope.steer.edits import Edit
from monoscope.steer.engine import generate
from monoscope.steer.prompt import Prompt, request_for
from monoscope.steer.proof import EditProof
from monoscope.steer.request import Dictionaries, Generation
from monoscope.steer.resolve import Move, Push, push_at, resolve_all

_BATCH = 8


@dataclass(frozen=True)
class SteeredPair:
    """One prompt answered with and without edits, with the same random draws."""

    baseline: Generation
    steered: Generation

    def to_json(self) -> dict[str, object]:
        """As `steer --json` prints it."""
        return {
            "baseline": self.baseline.text,
            "steered": self.steered.text,
            "edits": [proof_to_json(proof) for proof in self.steered.proof],
            "finish_reason": self.steered.finish_reason,
        }


def proof_to_json(proof: EditProof) -> dict[str, object]:
    """One edit's proof as commands and server print it; `edit` is its text."""
    return {
        "edit": proof.edit,
        "feature": proof.feature,
        "mode": proof.mode,
        "value": proof.value,
        "positions_edited": proof.positions_edited,
        "mean_norm_change": proof.mean_norm_change,
        "realised_activation": proof.realised_activation,
        "mean_activation_before": proof.mean_activation_before,
    }


def steered_pair(
    model: LanguageModel,
    dictionary: Dictionaries,
    prompt: Prompt,
    edits: Sequence[Move | Edit | str],
    *,
    max_tokens: int = 64,
    seed: int = 0,
    temperature: float = 0.7,
    top_p: float = 0.9,
    repetition_penalty: float = 1.1,
) -> SteeredPair:
    """Answer a prompt with and without edits, in one batch and with one seed.

    A text is continued; messages are answered.

    Raises
        BadNumbers  the edits drove the model to NaN or infinity.
    """
    steered = request_for(
        model,
        prompt,
        edits,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        max_tokens=max_tokens,
    )
    plain = replace(steered, edits=())
    baseline, changed = generate(model, dictionary, [plain, steered])
    if "numbers" in (baseline.finish_reason, changed.finish_reason):
        raise BadNumbers("The model's logits became NaN or infinite under these edits; use smaller values.")
    return SteeredPair(baseline, changed)


def random_push(
    dictionary: Dictionary, edits: Sequence[Edit | str | Move], seed: int, *, length: float | None = None
) -> Push:
    """A push along a random direction, of the length of what the edits add: the control of every steering claim.

    `length` says how long, for edits whose size depends on the text; give the proof's `mean_norm_change`. Otherwise it
    is the norm of the sum of all `add` edits. The scope is that of the first edit.

    Raises
        BadNumbers  no length is given and none follows from the edits.
    """
    moves = resolve_all(edits, dictionary)
    if length is None:
        added = [move.value * move.direction for move in moves if move.mode == "add" and move.value is not None]
        length = float(torch.stack(added).sum(0).norm()) if added else 0.0
    if not length > 0 or not math.isfinite(length):
        raise BadNumbers("These edits have no length of their own; give length, such as the proof's mean_norm_change.")
    direction = torch.randn(dictionary.d_out, generator=random_stream(seed, "random push"))
    scope = moves[0].scope if moves else "all"
    return push_at(dictionary, direction, length, scope=scope, name="random")


def difference_of_means(
    model: LanguageModel, site: Site, positive: Sequence[Sequence[int]], negative: Sequence[Sequence[int]]
) -> Float[Tensor, "d_model"]:
    """The unit vector from the mean residual of `negative` texts to that of `positive` ones, sinks left out.

    Texts are token ids as the model reads them, first token included (see `render_plain` and `render_chat`).

    Raises
        EmptyText   a side has no token that is not a sink.
        BadNumbers  both means are the same.
    """
    difference = mean_residual(model, site, positive) - mean_residual(model, site, negative)
    norm = float(difference.norm())
    if not norm > 0 or not math.isfinite(norm):
        raise BadNumbers("The two sets of texts have the same mean residual; there is no direction between them.")
    return difference / norm


def mean_residual(model: LanguageModel, site: Site, texts: Sequence[Sequence[int]]) -> Float[Tensor, "d_model"]:
    """The mean of the residual over all tokens of some texts, sinks left out."""
    found = [_residuals(model, site, texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
    rows = [x[i, 1:length] for x, lengths in found for i, length in enumerate(lengths.tolist())]
    norms = torch.cat([row.norm(dim=-1) for row in rows]) if rows else torch.zeros(0)
    if not len(norms):
        raise EmptyText("A set of texts has no token after the first; give texts of at least two tokens.")
    limit = sink_limit(norms)
    kept = torch.cat([x[keep_mask(x, lengths, limit)] for x, lengths in found])
    if not len(kept):
        raise EmptyText("All tokens of a set of texts are sinks; give longer texts.")
    return kept.double().mean(0).float()


def perplexity_under(model: LanguageModel, prompt: Sequence[int], reply: Sequence[int]) -> float:
    """Mean negative log-likelihood of a reply under the clean model, in nats a token; 0 for an empty reply."""
    if not reply:
        return 0.0
    ids = torch.tensor([[*prompt, *reply]])
    scores = model.logits(ids)[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    chosen = scores.gather(1, torch.tensor(list(reply), device=scores.device)[:, None])
    return float(-chosen.double().mean())


def repetition(ids: Sequence[int]) -> float:
    """The share of 3-grams that stood earlier in the same text; 0 for fewer than three tokens."""
    grams = list(zip(ids, ids[1:], ids[2:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _residuals(model: LanguageModel, site: Site, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(text) for text in texts])
    ids = torch.zeros(len(texts), max(1, int(lengths.max())), dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(list(text), dtype=torch.long)
    return model.residual(ids, site).float().cpu(), lengths
