"""What turning a feature does to the texts of a concept: does the model find them likelier, against their counterparts?

With l the mean log-probability of a text's tokens in nats,

    effect = [l_edited(positives) - l_plain(positives)] - [l_edited(negatives) - l_plain(negatives)]

Both labels share topic and form, so that what an edit costs any text cancels. A feature that carries the concept has an
effect above zero when it is turned up and below zero when it is taken away; a random direction of equal norm stands
beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.effect.passes import Row, token_logprobs
from monoscope.model.transformer import LanguageModel
from monoscope.safety.examples import Example
from monoscope.safety.reading import render_example
from monoscope.safety.statistics import Interval, drawn_groups, interval_around
from monoscope.steer.compare import random_push
from monoscope.steer.edits import Edit
from monoscope.steer.resolve import Move, resolve

TURNED_UP = 0.2  # mean residual norms; more breaks the text of small models


@dataclass(frozen=True)
class CausalEffect:
    """Effects of one feature in nats a token; `random` is that of an equally long push along a random direction."""

    feature: int
    ablated: Interval
    amplified: Interval
    random: Interval

    def to_json(self) -> dict[str, object]:
        """With names as in reports."""
        return {
            "ablated": self.ablated.to_json(),
            "amplified": self.amplified.to_json(),
            "random": self.random.to_json(),
        }


class CausalBench:
    """Some texts whose plain log-probabilities are known; any number of features are tried on them."""

    def __init__(self, model: LanguageModel, dictionary: Dictionary, examples: Sequence[Example]) -> None:
        self._model, self._dictionary = model, dictionary
        self._rendered = [render_example(model, example) for example in examples]
        self._positive = torch.tensor([example.positive for example in examples])
        self._groups = [example.group for example in examples]
        self._plain = self._means(())

    def try_feature(self, feature: int, *, seed: int = 0, progress: Progress = SILENT) -> CausalEffect:
        """Ablate it, turn it up, and push as hard along a random direction."""
        up = Edit(feature, "add", TURNED_UP, "r")
        found = []
        for move in (
            resolve(Edit(feature, "ablate"), self._dictionary),
            resolve(up, self._dictionary),
            random_push(self._dictionary, [up], seed * self._dictionary.n_latents + feature),
        ):
            found.append(self.effect((move,), seed=seed))
            progress.advance(1)
        return CausalEffect(feature, *found)

    def effect(self, moves: tuple[Move, ...], *, seed: int = 0) -> Interval:
        """The effect of any edits, with its interval over groups."""
        return difference(self._means(moves) - self._plain, self._positive, self._groups, seed=seed)

    def _means(self, moves: tuple[Move, ...]) -> Float[Tensor, "texts"]:
        rows = [Row(each.ids, moves, 1, each.template) for each in self._rendered]
        scores = token_logprobs(self._model, rows)
        said = [~torch.tensor(each.template[1:]) for each in self._rendered]
        return torch.tensor(
            [float(found[keep].double().mean()) for found, keep in zip(scores, said, strict=True)], dtype=torch.double
        )


def difference(
    values: Float[Tensor, "texts"], positive: Bool[Tensor, "texts"], groups: Sequence[str], *, seed: int = 0
) -> Interval:
    """Mean over positives less mean over negatives, with its bootstrap interval over groups."""
    v, y = values.numpy(), positive.numpy()
    found = [_means_of(v, y, times) - _means_of(v, ~y, times) for times in drawn_groups(groups, seed, "causal")]
    return interval_around(float(v[y].mean() - v[~y].mean()), np.concatenate(found))


def _means_of(values: np.ndarray, some: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The mean over some texts, each counted so many times [draws, texts]; NaN where none was drawn."""
    count = times[:, some].sum(1)
    total = times[:, some] @ values[some]
    return np.divide(total, count, out=np.full(len(times), np.nan), where=count > 0)
