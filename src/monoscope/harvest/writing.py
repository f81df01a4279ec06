"""A model writes many replies at once, each with a random stream of its own."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from monoscope.core.progress import Progress
from monoscope.core.runtime import random_stream
from monoscope.model.transformer import LanguageModel

TEMPERATURE, TOP_P = 0.9, 0.95
_CANDIDATES = 128


@torch.inference_mode()
def write_replies(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    most_tokens: int,
    seed: int,
    progress: Progress,
) -> list[list[int]]:
    """A reply to each prompt, of at most `most_tokens` tokens, the stop token left out.

    Temperature 0.9, top-p 0.95 among the 128 likeliest tokens. The draws of a reply depend on `seed` and its name.
    """
    draws = torch.stack([torch.rand(most_tokens, generator=random_stream(seed, "reply", name)) for name in names])
    ids, mask = _left_padded(prompts, model.prefix_id)
    cache = DynamicCache(config=model.module.config)
    position = (mask.cumsum(1) - 1).clamp(min=0)
    # All but the last token without the unembedding: asked for the last logits alone, torch copies it for every row.
    _forward(model, model.module.base_model, ids[:, :-1], mask[:, :-1], position[:, :-1], cache)
    ids, position = ids[:, -1:], position[:, -1:]
    rows = torch.arange(len(prompts))
    replies: list[list[int]] = [[] for _ in prompts]
    stops = torch.tensor(sorted(model.stop_ids), dtype=torch.long)
    for step in range(most_tokens):
        output = _forward(model, model.module, ids, mask, position, cache)
        token = _drawn(output.logits[:, -1].float().cpu(), draws[rows, step])
        going = ~torch.isin(token, stops)
        for row, one in zip(rows[going].tolist(), token[going].tolist(), strict=True):
            replies[row].append(one)
        progress.advance(int(going.sum()))
        if not going.any():
            break
        if not going.all():
            cache.batch_select_indices(going.nonzero().flatten().to(model.device))
        rows, ids, position = rows[going], token[going, None], position[going] + 1
        mask = torch.cat([mask[going], mask.new_ones(len(rows), 1)], dim=1)
    return replies


def _forward(
    model: LanguageModel, module: nn.Module, ids: Tensor, mask: Tensor, position: Tensor, cache: DynamicCache
) -> Any:
    return module(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=position.to(model.device),
        past_key_values=cache,
        use_cache=True,
    )


def _left_padded(
    prompts: Sequence[Sequence[int]], pad: int
) -> tuple[Int[Tensor, "rows length"], Int[Tensor, "rows length"]]:
    length = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), length), pad)
    mask = torch.zeros(len(prompts), length, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, length - len(prompt) :] = 1
    return ids, mask


def _drawn(logits: Float[Tensor, "rows vocab"], uniform: Float[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """A token of each row, by the inverse of the distribution function over tokens of falling probability."""
    scaled = logits / TEMPERATURE
    likeliest = scaled.topk(min(_CANDIDATES, scaled.shape[1]), dim=1)
    share = (likeliest.values - scaled.logsumexp(1, keepdim=True)).exp()
    before = share.cumsum(1) - share
    share = torch.where(before < TOP_P, share, 0.0)
    passed = share.cumsum(1)
    place = (passed < uniform[:, None] * passed[:, -1:]).sum(1).clamp(max=passed.shape[1] - 1)
    return likeliest.indices.gather(1, place[:, None])[:, 0]
