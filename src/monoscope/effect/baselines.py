"""The ways to steer that a feature stands beside, all at the same norm: strength s adds s mean residual norms.

feature              the edit under test, add or clamp
difference of means  from random contexts of the text to the contexts that the feature fires on most
random               one direction drawn by the seed and the feature's number
prompting            no edit, but an instruction that names the concept's words; it has no strength
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from monoscope.atlas.contexts import QUANTILES, TOP
from monoscope.atlas.records import Context
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel
from monoscope.steer.compare import mean_residual, random_push
from monoscope.steer.edits import Edit
from monoscope.steer.resolve import Move, push_at, resolve

FEATURE, MEANS, RANDOM, PROMPTING = "feature", "difference_of_means", "random", "prompting"
METHODS = (FEATURE, MEANS, RANDOM, PROMPTING)
NAMED_WORDS = 3

# A strength to the move that it means.
Way = Callable[[float], Move]


def ways(dictionary: Dictionary, edit: Edit, means: Float[Tensor, "d_model"], seed: int) -> dict[str, Way]:
    """The three methods that have a strength, in the edit's scope. `means` is of any length."""
    norm = dictionary.stats.mean_norm
    # Its own direction for each feature, the same at each strength.
    draw = seed * dictionary.n_latents + edit.feature
    return {
        FEATURE: lambda strength: resolve(replace(edit, value=strength), dictionary),
        MEANS: lambda strength: push_at(
            dictionary, means, strength * norm, scope=edit.scope, name="difference of means"
        ),
        RANDOM: lambda strength: random_push(dictionary, [replace(edit, mode="add", value=strength)], draw),
    }


def mean_of_contexts(
    model: LanguageModel, dictionary: Dictionary, store: TokenStore, contexts: Sequence[Sequence[int]]
) -> Float[Tensor, "d_model"]:
    """The mean residual over all tokens of some pieces of a text, each with the start token in front."""
    return mean_residual(model, dictionary.site, [(store.prefix_id, *context) for context in contexts])


def strongest(store: TokenStore, contexts: Sequence[Context]) -> list[tuple[int, ...]]:
    """The tokens of the contexts that a feature fires on most; of all where none is among the strongest."""
    top = [context for context in contexts if context.quantile == QUANTILES[TOP]] or list(contexts)
    return [tuple(store.ids[one.first_token : one.first_token + len(one.tokens)].tolist()) for one in top]
