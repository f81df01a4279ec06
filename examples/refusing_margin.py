"""How surely the refusing model refuses, without letting it speak, and which features that hangs on.

The margin of a request is the log-odds of refusing at the first token of the reply: the probability of the tokens that
refusals begin with against that of the token that answers begin with. It is read in one pass, where a share of refused
requests needs an answer each and moves in steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from refusing_model import OPENING, rows
from torch import Tensor

from monoscope.dictionary.base import Dictionary
from monoscope.effect.passes import Row, batches, logits_under
from monoscope.model.chat import Rendered, render_chat
from monoscope.model.sinks import keep_mask
from monoscope.model.transformer import LanguageModel
from monoscope.steer.resolve import Move

_SETS = 4096


@dataclass(frozen=True)
class Ends:
    """The tokens that a reply begins with where it refuses, and where it answers."""

    refusing: tuple[int, ...]
    answering: tuple[int, ...]

    def margin(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows"]:
        """Log-odds of refusing, in nats."""
        return logits[:, list(self.refusing)].logsumexp(-1) - logits[:, list(self.answering)].logsumexp(-1)


def ends_of(model: LanguageModel) -> Ends:
    """The first tokens of the authored refusals, and of the opening of all answers."""
    refusing = {model.encode_text(row["text"])[0] for row in rows("refusals")}
    return Ends(tuple(sorted(refusing)), (model.encode_text(OPENING)[0],))


def margins(
    model: LanguageModel, ends: Ends, asked: Sequence[str], moves: Sequence[Move] = ()
) -> Float[Tensor, "prompts"]:
    """The margin of each request, under edits where some are given."""
    rendered = [_rendered(model, prompt) for prompt in asked]
    order = sorted(range(len(asked)), key=lambda place: len(rendered[place].ids))
    read = [Row(rendered[n].ids, tuple(moves), len(rendered[n].ids), rendered[n].template) for n in order]
    found = torch.zeros(len(asked))
    place = 0
    for batch in batches(model, read):
        logits = logits_under(model, batch)
        last = torch.stack([part[len(row.ids) - 1] for row, part in zip(batch, logits, strict=True)]).float()
        found[order[place : place + len(batch)]] = ends.margin(last)
        place += len(batch)
    return found


def _rendered(model: LanguageModel, prompt: str) -> Rendered:
    return render_chat(model, [{"role": "user", "content": prompt}], reply_follows=True)


def leanings(
    model: LanguageModel, dictionary: Dictionary, ends: Ends, asked: Sequence[str]
) -> Float[Tensor, "prompts n_latents"]:
    """How much of each request's margin hangs on each feature, to first order: its activation times the slope of the
    margin along its direction, summed over the tokens that are no sinks (attribution by gradient, Nanda 2023)."""
    found = torch.zeros(len(asked), dictionary.n_latents)
    for place, prompt in enumerate(asked):
        ids = torch.tensor([_rendered(model, prompt).ids])
        x, slope = _slope(model, dictionary, ids, ends)
        kept = keep_mask(x[None], torch.tensor([len(x)]), dictionary.stats.sink_limit)[0]
        code = dictionary.encode(x[kept])
        along = (slope[kept][code.rows] * dictionary.W_dec[code.indices.long()].float()).sum(-1)
        found[place].index_add_(0, code.indices.long(), along * code.values.float())
    return found


def _slope(
    model: LanguageModel, dictionary: Dictionary, ids: Tensor, ends: Ends
) -> tuple[Float[Tensor, "length d_model"], Float[Tensor, "length d_model"]]:
    """The residuals of a request at the dictionary's site, and the gradient of its margin there."""
    seen: list[Tensor] = []
    nudge = torch.zeros(*ids.shape, model.d_model, requires_grad=True)

    def nudged(x: Tensor) -> Tensor:
        seen[:] = [x.detach()]
        return x + nudge.to(x.dtype)

    with torch.enable_grad(), model.lock, model.changing(dictionary.site, nudged):
        logits = model.module(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        (slope,) = torch.autograd.grad(ends.margin(logits).sum(), nudge)
    return seen[0][0].float(), slope[0]


def handful(
    plain: Float[Tensor, "prompts"], shifts: Mapping[int, Float[Tensor, "prompts"]], scams: int, count: int, keep: float
) -> list[int]:
    """The `count` features without which the fewest look-alikes are refused while `keep` of the refused scam requests
    stay refused; between equal sets the one that leaves the mean margins farthest apart.

    plain   margins of the unchanged model: of `scams` scam requests, then of look-alikes.
    shifts  by how much each feature's absence moves them. All sets are tried; what several do is taken to be the sum of
            what each does.
    """
    table = torch.stack(list(shifts.values()))
    least = keep * int((plain[:scams] > 0).sum())
    scores = []
    sets = torch.combinations(torch.arange(len(shifts)), count)
    for some in sets.split(_SETS):
        then = plain + table[some].sum(1)
        scam, alike = then[:, :scams], then[:, scams:]
        kept, wrong = (scam > 0).sum(1) >= least, (alike > 0).sum(1)
        # Margins are a few nats, so that each term rules the next.
        scores.append(kept.double() * 1e9 - wrong.double() * 1e4 + scam.mean(1) - alike.mean(1))
    features = list(shifts)
    return [features[place] for place in sets[torch.cat(scores).argmax()].tolist()]
