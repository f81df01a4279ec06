"""Whole named configurations: what to type to get which training."""

from collections.abc import Callable
from dataclasses import dataclass

from monoscope.core.errors import BadRequest
from monoscope.dictionary.base import TrainingRule
from monoscope.dictionary.batchtopk import BatchTopKRule
from monoscope.dictionary.relu import ReluRule
from monoscope.dictionary.topk import TopKRule


@dataclass(frozen=True)
class Recipe:
    """What one training run does.

    `tokens` counts training rows with repetition; `learning_rate` falls to zero over the last `decay_share` of the
    steps after `warmup_steps` of rising; a latent that has not fired for `dead_tokens` rows is helped by the auxiliary
    loss; `penalty` is the coefficient of architectures that have one.
    """

    arch: str = "batchtopk"
    latents: int = 9216
    k: int = 32
    tokens: int = 3_000_000
    batch_rows: int = 2048
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    decay_share: float = 0.4
    dead_tokens: int = 200_000
    penalty: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field once.

        Raises
            BadRequest  naming the field.
        """
        if self.arch not in RULES:
            raise BadRequest(f"Architecture {self.arch!r} is not known; choose one of {', '.join(sorted(RULES))}.")
        for name in ("latents", "k", "tokens", "batch_rows", "dead_tokens"):
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.k > self.latents:
            raise BadRequest(f"k is {self.k}, more than the {self.latents} latents; choose a smaller k.")
        if not 0 < self.learning_rate < 1:
            raise BadRequest(f"learning_rate is {self.learning_rate}; it must lie between 0 and 1.")

    def rule(self) -> TrainingRule:
        """The architecture's behaviour while it learns."""
        return RULES[self.arch](self)


RULES: dict[str, Callable[[Recipe], TrainingRule]] = {
    "batchtopk": lambda recipe: BatchTopKRule(recipe.k),
    "topk": lambda recipe: TopKRule(recipe.k),
    "relu": lambda recipe: ReluRule(recipe.penalty),
}


def paper(latents: int, tokens: int, *, learning_rate: float = 5e-5, seed: int = 0) -> Recipe:
    """The ReLU recipe of Scaling Monosemanticity: methods of April 2024, penalty 5, decay over the last fifth."""
    return Recipe(
        arch="relu",
        latents=latents,
        tokens=tokens,
        learning_rate=learning_rate,
        decay_share=0.2,
        penalty=5.0,
        seed=seed,
    )
