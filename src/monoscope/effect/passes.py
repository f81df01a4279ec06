"""Forward passes in which each row has its own edits, and what a reply costs the plain model."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import DynamicCache

from monoscope.model.transformer import LanguageModel
from monoscope.steer.apply import SitePlan, apply_edits, plan_site
from monoscope.steer.resolve import Move

# A pass holds about this many logits at once, a dozen more copies of a few of them beside.
_LOGITS = 1 << 25


@dataclass(frozen=True)
class Row:
    """A text to be read under edits.

    The first `prompt_tokens` are its prompt, what follows counts as generated: so that the scope of an edit means here
    what it means when the model speaks. `template` says for each token whether the chat template wrote it; none says
    that none is.
    """

    ids: tuple[int, ...]
    moves: tuple[Move, ...]
    prompt_tokens: int
    template: tuple[bool, ...] = ()


def logits_under(model: LanguageModel, rows: Sequence[Row]) -> Float[Tensor, "rows length vocab"]:
    """Next-token logits of each row under its own edits, in one pass; rows are padded on the right.

    Raises
        BadEdit  the scope of an edit reaches past the prompt of a row.
    """
    lengths = torch.tensor([len(row.ids) for row in rows])
    place = torch.arange(int(lengths.max()))
    positions = torch.where(place < lengths[:, None], place, -1).to(model.device)
    ids = torch.tensor([[*row.ids, *[row.ids[0]] * (len(place) - len(row.ids))] for row in rows])
    with model.lock, contextlib.ExitStack() as hooks:
        for site in sorted({move.site for row in rows for move in row.moves}):
            moves = [[move for move in row.moves if move.site == site] for row in rows]
            plan = plan_site(site, moves, [row.prompt_tokens for row in rows], model.device)
            hooks.enter_context(model.changing(site, _changer(plan, positions, _template(rows, len(place)))))
        return model.logits(ids)


def _changer(plan: SitePlan, positions: Tensor, template: Tensor | None):  # noqa: ANN202  a Change of the model's
    return lambda x: apply_edits(x, positions, plan, template).after.to(x.dtype)


def _template(rows: Sequence[Row], length: int) -> Bool[Tensor, "rows length"] | None:
    if not any(row.template for row in rows):
        return None
    return torch.tensor([[*row.template, *[False] * (length - len(row.template))] for row in rows])


def token_logprobs(model: LanguageModel, rows: Sequence[Row]) -> Iterator[Float[Tensor, "length_minus_1"]]:
    """For each row the log-probability of each of its tokens but the first, in nats, under its own edits."""
    for batch in batches(model, rows):
        for row, logits in zip(batch, logits_under(model, batch), strict=True):
            following = torch.tensor(row.ids[1:], device=logits.device)[:, None]
            scores = logits[: len(row.ids) - 1].float().log_softmax(-1)
            yield scores.gather(1, following)[:, 0].cpu()


@dataclass(frozen=True)
class Shift:
    """How edits move the next token on some texts: KL(plain || edited) in nats, and the probability of wanted tokens.

    Both are means over the tokens of the texts.
    """

    kl: float
    wanted: float


def shifts(
    model: LanguageModel, texts: Sequence[Sequence[int]], edits: Sequence[tuple[Move, ...]], wanted: Sequence[int]
) -> list[Shift]:
    """What each list of edits does to the next token; a text's first token is no place, as no edit acts there."""
    plain = [Row(tuple(text), (), 1) for text in texts]
    clean = [scores for batch in batches(model, plain) for scores in _scores(model, batch)]
    rows = [Row(row.ids, moves, 1) for moves in edits for row in plain]
    found = []
    for batch in batches(model, rows):
        for edited in _scores(model, batch):
            true = clean[len(found) % len(plain)]
            kl = (true.exp() * (true - edited)).sum(-1)
            mass = edited[:, list(wanted)].exp().sum(-1)
            found.append(torch.stack([kl, mass], dim=1).double().cpu())
    means = [torch.cat(found[at : at + len(plain)]).mean(0).tolist() for at in range(0, len(found), len(plain))]
    return [Shift(max(0.0, kl), mass) for kl, mass in means]


def _scores(model: LanguageModel, rows: Sequence[Row]) -> list[Float[Tensor, "length_minus_1 vocab"]]:
    logits = logits_under(model, rows)
    return [part[1 : len(row.ids)].float().log_softmax(-1) for row, part in zip(rows, logits, strict=True)]


def batches(model: LanguageModel, rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in order, as many at once as keeps the logits of a pass small."""
    batch: list[Row] = []
    for row in rows:
        longest = max(len(one.ids) for one in [*batch, row])
        if batch and longest * (len(batch) + 1) * model.vocab_size > _LOGITS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def reply_losses(model: LanguageModel, prompt: Sequence[int], replies: Sequence[Sequence[int]]) -> list[float]:
    """The negative log-likelihood of each reply to one prompt under the plain model, in nats, summed over its tokens.

    The prompt is read once for all replies. An empty reply costs nothing.
    """
    losses = [0.0] * len(replies)
    some = [number for number, reply in enumerate(replies) if reply]
    longest = max((len(reply) for reply in replies), default=0)
    size = max(1, _LOGITS // max(1, longest * model.vocab_size))
    for first in range(0, len(some), size):
        chosen = some[first : first + size]
        cache = DynamicCache(config=model.module.config)
        with model.lock:
            if len(prompt) > 1:
                _read(model, cache, [list(prompt[:-1])])
                cache.batch_repeat_interleave(len(chosen))
            fed = [[prompt[-1], *replies[number][:-1]] for number in chosen]
            logits = _read(model, cache, [row + [row[-1]] * (longest - len(row)) for row in fed])
        for number, scores in zip(chosen, logits, strict=True):
            said = torch.tensor(list(replies[number]), device=scores.device)
            found = scores[: len(said)].float().log_softmax(-1).gather(1, said[:, None])
            losses[number] = -float(found.double().sum())
    return losses


def _read(model: LanguageModel, cache: DynamicCache, ids: list[list[int]]) -> Tensor:
    out = model.module(input_ids=torch.tensor(ids, device=model.device), past_key_values=cache, use_cache=True)
    return out.logits
