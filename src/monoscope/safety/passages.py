"""Texts as rows to be scored, and what a model in one of its versions makes of them.

A version is the plain model, the model under edits, or the model with edited weights; all are measured alike:

    loss      mean negative log-likelihood of a token, in nats; perplexity is its exponential
    accuracy  the share of tokens that were the model's likeliest

over the tokens that somebody said, the first of a text and those of a chat template left out.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.effect.passes import Row, batches, logits_under
from monoscope.effect.resample import paired_interval, perplexity, ratio
from monoscope.model.chat import render_plain
from monoscope.model.transformer import LanguageModel
from monoscope.safety.examples import Example
from monoscope.safety.reading import render_example
from monoscope.safety.weight_edit import WeightEdit, rewritten
from monoscope.steer.resolve import Move

MOST_TOKENS = 96


@dataclass(frozen=True)
class Passage:
    """A text as the model reads it. `first` is the first token that is scored."""

    id: str
    ids: tuple[int, ...]
    template: tuple[bool, ...]
    first: int = 1

    def scored(self) -> list[bool]:
        """For each token but the first, whether it counts."""
        return [not mark and place >= self.first for place, mark in enumerate(self.template)][1:]


@dataclass(frozen=True)
class Version:
    """The model with edits, with other weights, or with neither."""

    moves: tuple[Move, ...] = ()
    weights: WeightEdit | None = None

    def holding(self, model: LanguageModel) -> contextlib.AbstractContextManager[None]:
        """While inside, the model has this version's weights."""
        return contextlib.nullcontext() if self.weights is None else rewritten(model, self.weights)


PLAIN = Version()


@dataclass(frozen=True, eq=False)
class Scores:
    """Of each text its loss in nats and its rightly guessed tokens, both summed over its `tokens`."""

    loss: Float[np.ndarray, "texts"]
    right: Float[np.ndarray, "texts"]
    tokens: Float[np.ndarray, "texts"]

    def choose(self, some: Sequence[int]) -> "Scores":
        """Some of the texts."""
        rows = np.array(some, np.int64)
        return Scores(self.loss[rows], self.right[rows], self.tokens[rows])

    @property
    def mean_loss(self) -> float:
        """Nats a token, over all texts together."""
        return float(self.loss.sum() / self.tokens.sum())

    @property
    def accuracy(self) -> float:
        """The share of tokens guessed."""
        return float(self.right.sum() / self.tokens.sum())


def cut_example(model: LanguageModel, example: Example, *, most_tokens: int = MOST_TOKENS) -> Example:
    """The beginning of a text or talk: so many tokens of what is said in it."""
    if not example.messages:
        return replace(example, text=beginning(model, example.text, most_tokens))
    left, kept = most_tokens, []
    for role, content in example.messages:
        if left > 0:
            kept.append((role, beginning(model, content, left)))
            left -= len(model.encode_text(kept[-1][1]))
    return replace(example, messages=tuple(kept))


def beginning(model: LanguageModel, text: str, tokens: int) -> str:
    """The first tokens of a text, as text; all of a shorter one."""
    ids = model.encode_text(text)
    return text if len(ids) <= tokens else model.decode(ids[:tokens]).rstrip("\ufffd")


def passage_of(model: LanguageModel, example: Example) -> Passage:
    """A text as it is scored."""
    rendered = render_example(model, example)
    return Passage(example.id, rendered.ids, rendered.template)


def plain_passage(model: LanguageModel, name: str, text: str, *, before: str = "") -> Passage:
    """A text outside any chat template, scored from its first token on, with words `before` that are not scored."""
    rendered = render_plain(model, text)
    context = model.encode_text(before)
    ids = (rendered.ids[0], *context, *rendered.ids[1:])
    return Passage(name, ids, (True, *[False] * (len(ids) - 1)), 1 + len(context))


def score_passages(
    model: LanguageModel, some: Sequence[Passage], version: Version = PLAIN, *, progress: Progress = SILENT
) -> Scores:
    """Loss and accuracy of each passage under one version of the model. Passages of like length go together."""
    order = sorted(range(len(some)), key=lambda place: len(some[place].ids))
    rows = [Row(some[place].ids, version.moves, 1, some[place].template) for place in order]
    found: list[tuple[float, float, float]] = []
    with version.holding(model):
        for batch in batches(model, rows):
            logits = logits_under(model, batch)
            for scores in logits:
                found.append(_score(some[order[len(found)]], scores))
            progress.advance(len(batch))
    table = np.zeros((len(some), 3))
    table[order] = np.array(found).reshape(len(some), 3)
    return Scores(table[:, 0], table[:, 1], table[:, 2])


def _score(passage: Passage, logits: Float[Tensor, "length vocab"]) -> tuple[float, float, float]:
    counted = torch.tensor(passage.scored())
    scores = logits[: len(passage.ids) - 1][counted.to(logits.device)].float()
    following = torch.tensor(passage.ids[1:])[counted].to(scores.device)
    loss = scores.logsumexp(-1) - scores.gather(1, following[:, None])[:, 0]
    return float(loss.double().sum()), float((scores.argmax(-1) == following).sum()), float(counted.sum())


def beside(plain: Scores, edited: Scores, control: Scores, *, seed: int = 0) -> dict[str, Any]:
    """The figures of one set of texts: plain, edited, control, and the differences with their 95 % intervals.

    `beyond_control` is the loss under the edits less that under the control.
    """
    losses = [found.mean_loss for found in (plain, edited, control)]
    shares = [found.accuracy for found in (plain, edited, control)]
    return {
        "texts": len(plain.tokens),
        "tokens": int(plain.tokens.sum()),
        "loss": _three(losses),
        "loss_rise": _difference(plain.loss, edited.loss, plain.tokens, seed),
        "loss_rise_control": _difference(plain.loss, control.loss, plain.tokens, seed),
        "loss_beyond_control": _difference(control.loss, edited.loss, plain.tokens, seed),
        "perplexity": _three([float(np.exp(min(loss, 700.0))) for loss in losses]),
        "perplexity_cost": round(float(np.expm1(losses[1] - losses[0])), 4),
        "perplexity_cost_interval": _cost_interval(plain, edited, seed),
        "accuracy": _three(shares),
        "accuracy_change": _difference(plain.right, edited.right, plain.tokens, seed),
        "accuracy_change_control": _difference(plain.right, control.right, plain.tokens, seed),
    }


def _cost_interval(plain: Scores, edited: Scores, seed: int) -> list[float]:
    """Of perplexity edited / plain - 1: the perplexity of the rise in loss, less that of no rise."""
    low, high = paired_interval(
        np.zeros_like(plain.loss), edited.loss - plain.loss, plain.tokens, perplexity, seed=seed
    )
    return [round(low, 4), round(high, 4)]


def _three(values: Sequence[float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(("plain", "edited", "control"), values, strict=True)}


def _difference(one: np.ndarray, other: np.ndarray, tokens: np.ndarray, seed: int) -> dict[str, float]:
    low, high = paired_interval(one, other, tokens, ratio, seed=seed)
    value = float((other - one).sum() / tokens.sum())
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
