"""A watch over training: what goes wrong, in one sentence each, and what to do about it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from monoscope.train.learner import StepFigures
from monoscope.train.recipes import Recipe

_SETTLED = 0.5
_MEMORY = 0.95
_MANY_DEAD, _OFF_TARGET, _OUTLIER, _HEAVY = 0.05, 0.15, 10.0, 0.05
_FEW_BATCHES, _MANY_EPOCHS = 20, 30
_WORSE = 1.3


@dataclass
class Guard:
    """Sees every step of one dictionary; `warnings` says each trouble once. Mutable."""

    latents: int
    goal: float | None
    said: dict[str, str] = field(default_factory=dict)
    _l0: float | None = None
    _fvu: float | None = None
    _best: float = float("inf")

    @classmethod
    def watching(cls, recipe: Recipe, feed: Any, sample: Tensor) -> "Guard":
        """A guard that has looked at the rows and at how often they will be seen."""
        guard = cls(recipe.latents, recipe.rule().wanted_l0)
        guard._look_at_rows(sample)
        guard._look_at_feed(recipe, feed.rows)
        return guard

    def memory(self) -> dict[str, Any]:
        """What it has seen and said, as plain values for a checkpoint."""
        return vars(self).copy()

    def remembering(self, memory: dict[str, Any]) -> "Guard":
        """The same guard, going on from a checkpoint's memory; an empty one changes nothing."""
        vars(self).update(memory)
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong, in the order in which it was seen."""
        return tuple(self.said.values())

    def _look_at_rows(self, sample: Tensor) -> None:
        norms = sample.float().norm(dim=1)
        energy = norms.square()
        heavy = norms > _OUTLIER * norms.median()
        share = float(energy[heavy].sum() / energy.sum().clamp(min=1e-30))
        if share > _HEAVY:
            self.said["outliers"] = (
                f"{int(heavy.sum())} of {len(norms):,} rows are ten times longer than the median and carry "
                f"{100 * share:.0f} % of all energy; they decide what is learnt. Look for start tokens or "
                "odd documents in the text."
            )

    def _look_at_feed(self, recipe: Recipe, rows: int) -> None:
        if rows < _FEW_BATCHES * recipe.batch_rows:
            self.said["starved"] = (
                f"There are {rows:,} training rows, fewer than {_FEW_BATCHES} batches of {recipe.batch_rows:,}; "
                "batches will repeat each other. Harvest more text or take a smaller --batch."
            )
        elif recipe.tokens > _MANY_EPOCHS * rows:
            self.said["starved"] = (
                f"{recipe.tokens:,} training tokens read the {rows:,} rows {recipe.tokens / rows:.0f} times; the "
                "dictionary will learn them by heart. Harvest more text."
            )

    def see(self, figures: StepFigures, *, share: float) -> None:
        """Look at one step; the first half of training is given time to settle."""
        self._l0 = figures.l0 if self._l0 is None else _MEMORY * self._l0 + (1 - _MEMORY) * figures.l0
        self._fvu = figures.fvu if self._fvu is None else _MEMORY * self._fvu + (1 - _MEMORY) * figures.fvu
        self._best = min(self._best, self._fvu)
        if self._fvu > max(_WORSE * self._best, 0.05) and share > 0.02:
            self.said.setdefault(
                "diverging",
                f"The unexplained share rose from {self._best:.3f} to {self._fvu:.3f} at {100 * share:.0f} % of the "
                "training; take a smaller --lr.",
            )
        if share < _SETTLED:
            return
        if figures.dead > _MANY_DEAD * self.latents:
            self.said["dying"] = (
                f"{figures.dead:,} of {self.latents:,} latents do not fire any more; take a smaller --lr, fewer "
                "latents, or --resample-tokens."
            )
        else:
            self.said.pop("dying", None)
        self._look_at_l0()

    def _look_at_l0(self) -> None:
        """An L0 that stays off its goal means the penalty is at its end: nothing left to press, or nothing to give."""
        self.said.pop("saturated", None)
        if self.goal is not None and abs(self._l0 / self.goal - 1) > _OFF_TARGET:
            self.said["saturated"] = (
                f"L0 stands at {self._l0:.1f} and does not reach {self.goal:g}; train longer, or ask for another L0."
            )
