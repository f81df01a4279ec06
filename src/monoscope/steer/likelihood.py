"""Log-probabilities of tokens, read off the logits of the model under its edits."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.steer.request import Logprob


def logprobs_of(logits: Float[Tensor, "tokens vocab"], tokens: Sequence[int], top: int) -> list[Logprob]:
    """The log-probability of each token under its row of logits, with the `top` most probable tokens there."""
    scores = logits.float().log_softmax(dim=-1)
    chosen = scores.gather(1, torch.tensor(list(tokens), device=scores.device)[:, None])[:, 0].tolist()
    best, ids = scores.topk(min(top, scores.shape[1]), dim=-1) if top else (scores[:, :0], scores[:, :0])
    pairs = zip(tokens, chosen, ids.long().tolist(), best.tolist(), strict=True)
    return [Logprob(token, score, tuple(zip(others, values, strict=True))) for token, score, others, values in pairs]
