"""What a sweep trains: groups of equal FLOPs, each spent on several widths."""

import math
from dataclasses import dataclass

from monoscope.core.errors import BadRequest
from monoscope.train.law import flops_per_token
from monoscope.train.recipes import ADVISED_SHARE

# Loss is compared at a fixed number of features a token, so only architectures that fix it can be swept.
SWEPT = ("batchtopk", "topk", "matryoshka")
_FEWEST_STEPS = 20
# The middle width of a budget gives each latent this many tokens; measured on the demo model.
_TOKENS_PER_LATENT = 200


@dataclass(frozen=True)
class SweepRequest:
    """What to measure.

    Budgets are FLOPs of training, each twice the one before, from `smallest` on. Each has `widths` widths, a factor of
    `width_step` apart. Learning rates: three in factors of 2 about `rate`, and more where the best is at an edge, for
    every width of the first `rate_budgets` budgets and for the middle width of the others but the dearest; all other
    trainings take theirs from the learning rate law so far. The laws are of losses at `share` of the rate of least
    loss: at 0.7 the loss is about 1 % more, and far fewer latents die. `reuse` trains the narrowest width of the middle
    budget, which sees many tokens, again on so few rows that each is read that many times. The loss is FVU on the first
    `held_rows` held-out rows.
    """

    arch: str = "batchtopk"
    k: int = 32
    smallest: float = 1e11
    budgets: int = 6
    widths: int = 4
    width_step: float = 1.7
    batch_rows: int = 512
    rate: float = 4e-3
    rate_budgets: int = 1
    reuse: tuple[int, ...] = (4, 12)
    held_rows: int = 16_384
    tokens_per_latent: float = _TOKENS_PER_LATENT
    share: float = ADVISED_SHARE
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without the activations.

        Raises
            BadRequest  naming the field.
        """
        if self.arch not in SWEPT:
            raise BadRequest(
                f"A sweep compares losses at a fixed number of features a token, which {self.arch!r} does not fix; "
                f"choose one of {', '.join(SWEPT)}."
            )
        if self.budgets < 3 or self.widths < 3:
            raise BadRequest(
                f"{self.budgets} budgets of {self.widths} widths are too few for a law; ask for at least 3 of 3."
            )
        if not (self.smallest > 0 and self.width_step > 1 and 0 < self.rate < 1):
            raise BadRequest("smallest must be positive, width_step above 1 and rate between 0 and 1.")
        if not 0.25 <= self.share <= 1:
            raise BadRequest(f"share is {self.share:g}; it must lie between 0.25 and 1.")
        for name in ("k", "batch_rows", "held_rows", "rate_budgets"):
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} is {getattr(self, name)}; it must be at least 1.")


@dataclass(frozen=True)
class Cell:
    """One budget and width; `rows` limits the different rows, `swept` asks for several learning rates."""

    budget: float
    latents: int
    tokens: int
    rows: int
    swept: bool = False


def cells_of(wanted: SweepRequest, d_model: int, rows: int) -> list[Cell]:
    """All cells, cheapest first; those on part of the rows come last.

    Raises
        BadRequest  a cell would have too few steps or latents.
    """
    cells = []
    for number in range(wanted.budgets):
        budget = wanted.smallest * 2**number
        for place, latents in enumerate(_widths(wanted, budget, d_model)):
            middle = place == (wanted.widths - 1) // 2
            swept = number < wanted.rate_budgets or (middle and number + 1 < wanted.budgets)
            tokens = _tokens(wanted, budget, d_model, latents)
            cells.append(Cell(budget, latents, tokens, rows, swept))
    cell = cells[(wanted.budgets // 2) * wanted.widths]
    for times in wanted.reuse:
        few = max(wanted.batch_rows, cell.tokens // times)
        if few < rows:
            cells.append(Cell(cell.budget, cell.latents, cell.tokens, few))
    return cells


def _widths(wanted: SweepRequest, budget: float, d_model: int) -> list[int]:
    middle = math.sqrt(budget / (2 * d_model * wanted.tokens_per_latent))
    places = [place - (wanted.widths - 1) / 2 for place in range(wanted.widths)]
    found = [rounded_width(middle * wanted.width_step**place) for place in places]
    if found[0] < 2 * wanted.k or len(set(found)) < wanted.widths:
        raise BadRequest(
            f"A budget of {budget:.2g} FLOPs would train {', '.join(map(str, found))} latents, too few for k "
            f"{wanted.k}; ask for a larger smallest budget."
        )
    return found


def rounded_width(latents: float) -> int:
    """A width that divides well."""
    unit = 64 if latents >= 1024 else 8
    return max(unit, round(latents / unit) * unit)


def _tokens(wanted: SweepRequest, budget: float, d_model: int, latents: int) -> int:
    steps = round(budget / flops_per_token(wanted.arch, d_model, latents, wanted.k) / wanted.batch_rows)
    if steps < _FEWEST_STEPS:
        raise BadRequest(
            f"A budget of {budget:.2g} FLOPs gives {latents:,} latents only {steps} steps of {wanted.batch_rows} rows; "
            "ask for a larger smallest budget, smaller batches or fewer widths."
        )
    return steps * wanted.batch_rows
