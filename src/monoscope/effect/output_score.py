"""Which features can steer: how much likelier the tokens become that a feature's direction points at.

A feature may read a concept and write something else; only what it writes can be steered by. With the feature pushed
up in the pass of a short neutral opening, and T the first ten tokens that its direction raises (`promoted`),

    S(p)  = (1 - r / |V|) · p(t)      t the likeliest of T under p, r its place among all tokens, |V| their number
    score = S(with the push) - S(without), the mean over the openings

Range   -1 to 1: 1 if one of its tokens is all the model can say, near 0 for a feature that writes nothing of its own.

Source  Arad, Mueller and Belinkov, SAEs Are Good for Steering – If You Select the Right Features, 2025, whose score is
        S(with the push) for one opening. What the plain model says anyway is subtracted here, so that features of the
        commonest words do not lead.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.effect.passes import Row, logits_under
from monoscope.effect.shipped import openings
from monoscope.model.chat import render_plain
from monoscope.model.transformer import LanguageModel
from monoscope.steer.edits import Edit
from monoscope.steer.resolve import resolve

# In mean residual norms: within the doses that steer, and one for all, so that features can be compared.
STRENGTH = 0.45
PROMOTED = 10
# So many features at once; each is a row of a few tokens.
_ROWS = 128


def output_scores(
    model: LanguageModel,
    dictionary: Dictionary,
    features: Sequence[int],
    promoted: Int[Tensor, "features k"],
    *,
    progress: Progress = SILENT,
) -> Float[Tensor, "features"]:
    """The output score of some features, each in a row of its own.

    Cost    one pass of three to five tokens for each feature and opening.

    Raises
        BadEdit  the dictionary is a transcoder.
    """
    prompts = [render_plain(model, opening).ids for opening in openings()]
    plain = [logits_under(model, [Row(prompt, (), len(prompt))])[:, -1] for prompt in prompts]
    total = torch.zeros(len(features))
    for first in range(0, len(features), _ROWS):
        some = features[first : first + _ROWS]
        moves = [resolve(Edit(feature, "add", STRENGTH, "r"), dictionary) for feature in some]
        tokens = promoted[first : first + len(some), :PROMOTED].to(model.device)
        for prompt, without in zip(prompts, plain, strict=True):
            pushed = logits_under(model, [Row(prompt, (move,), len(prompt)) for move in moves])[:, -1]
            rise = rank_weighted(pushed, tokens) - rank_weighted(without.expand(len(some), -1), tokens)
            total[first : first + len(some)] += rise.cpu()
        progress.advance(len(some))
    return total / len(prompts)


def rank_weighted(logits: Float[Tensor, "rows vocab"], tokens: Int[Tensor, "rows k"]) -> Float[Tensor, "rows"]:
    """S of each row: the probability of the likeliest of its tokens, times 1 less the share of tokens before it."""
    scores = logits.float()
    best = scores.gather(1, tokens.long()).amax(1, keepdim=True)
    before = (scores > best).sum(1)
    return (best[:, 0] - scores.logsumexp(1)).exp() * (1 - before / scores.shape[1])
