"""Whole named configurations: what to type to get which training."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from monoscope.core.errors import BadRequest
from monoscope.dictionary.catalogue import rules
from monoscope.dictionary.rule import TrainingRule

RULES = rules()
# A fixed number of steps would weigh more on short trainings.
_MOST_WARMUP, _WARMUP_SHARE = 50, 0.05
_QUICK_STEPS, _SLOWING, _SLOWEST = 250, 0.4, 0.44
# Of the rate of least loss in a sweep: on the demo's activations it costs 1 % of loss and keeps latents alive.
ADVISED_SHARE = 0.7


@dataclass(frozen=True)
class Recipe:
    """What one training run does.

    `k` active latents a token for architectures that count them; the others are steered towards `target_l0` (k where
    it is not given), or have a fixed `penalty`. `tokens` counts training rows with repetition. `learning_rate` (where
    None, what `suggested_rate` says) falls to zero over the last `decay_share` of the steps after `warmup_steps` of
    rising (where None, a twentieth of them, at most 50). A latent that has not fired for `dead_tokens` rows is helped
    by the auxiliary loss and, every `resample_tokens` rows until the decay begins, put elsewhere (0: never).
    `tile_rows` rows of pre-activations are kept at a time, all of a batch where None. `options` are settings of one
    architecture only, by name; `beta2` is Adam's memory of squared gradients. `read_l0` sets the finished dictionary to
    fewer (or more) active latents than it trained with: as a detector of features it does better a little sparser
    than it reconstructs best.
    """

    arch: str = "batchtopk"
    latents: int = 9216
    k: int = 32
    tokens: int = 3_000_000
    batch_rows: int = 2048
    learning_rate: float | None = None
    warmup_steps: int | None = None
    decay_share: float = 0.4
    dead_tokens: int = 200_000
    penalty: float | None = None
    seed: int = 0
    target_l0: float | None = None
    resample_tokens: int = 0
    tile_rows: int | None = None
    options: tuple[tuple[str, float], ...] = ()
    beta2: float = 0.99
    read_l0: float | None = None

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
        if self.wanted_l0 > self.latents:
            raise BadRequest(
                f"k or target L0 is {self.wanted_l0:g}, more than the {self.latents} latents; choose less."
            )
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", suggested_rate(self.latents, self.tokens, self.batch_rows))
        if self.warmup_steps is None:
            steps = self.tokens // self.batch_rows
            object.__setattr__(self, "warmup_steps", min(_MOST_WARMUP, max(1, round(_WARMUP_SHARE * steps))))
        if not 0 < self.learning_rate < 1:
            raise BadRequest(f"learning_rate is {self.learning_rate}; it must lie between 0 and 1.")
        self._check_sparsity()

    def _check_sparsity(self) -> None:
        if self.target_l0 is not None and self.target_l0 < 1:
            raise BadRequest(f"target_l0 is {self.target_l0:g}; it must be at least 1.")
        if self.read_l0 is not None and not 0 < self.read_l0 <= self.latents:
            raise BadRequest(f"read_l0 is {self.read_l0:g}; it must lie between 0 and the {self.latents} latents.")
        if self.read_l0 is not None and RULES[self.arch].reads_as == "topk":
            raise BadRequest(f"{self.arch} is read by its k, not by a threshold; leave read_l0 out.")
        if self.penalty is not None and "penalty" not in self._knobs():
            raise BadRequest(f"{self.arch} is told its k and takes no penalty; leave it out.")
        if self.penalty is not None and self.target_l0 is not None:
            raise BadRequest(f"{self.arch} takes a penalty or a target_l0, not both; leave one out.")
        unknown = {name for name, _ in self.options} - self._knobs()
        if unknown:
            own = sorted(self._knobs() - {"k", "penalty", "target_l0"})
            raise BadRequest(f"{self.arch} has no setting {min(unknown)!r}; it has {', '.join(own) or 'none'}.")

    def _knobs(self) -> set[str]:
        return {field.name for field in fields(RULES[self.arch])}

    @property
    def wanted_l0(self) -> float:
        """Active latents a token that are asked for, one way or the other."""
        return float(self.k) if self.target_l0 is None else self.target_l0

    def rule(self) -> TrainingRule:
        """The architecture's behaviour while it learns."""
        known = {"k": round(self.wanted_l0), "penalty": self.penalty, "target_l0": self.wanted_l0, **dict(self.options)}
        return RULES[self.arch](**{name: known[name] for name in self._knobs() & known.keys()})


def suggested_rate(latents: int, tokens: int, batch_rows: int) -> float:
    """A peak learning rate: where the loss was least in the demo model's sweep (docs/scaling.md), less in long runs.

    That law, for batches of 512, falls with width and tokens; a larger batch takes more, by its square root.
    """
    best = 1.5136 * latents**-0.4192 * tokens**-0.2051 * (batch_rows / 512) ** 0.5
    return float(f"{min(1e-2, max(1e-4, best * _gentle_share(tokens // batch_rows))):.2g}")


def _gentle_share(steps: int) -> float:
    """The share of the rate of least loss at which few latents die.

    At that rate they do, the more the longer it goes on. From 250 steps on the share falls with the power of 0.4 of the
    steps, to 0.44 at the demo's 2,000 steps, which leaves 0.1 % dead, and stays there: what is less learns too slowly
    (docs/lab_log.md).
    """
    return min(1.0, max(_SLOWEST, (_QUICK_STEPS / max(1, steps)) ** _SLOWING))


def parse_options(words: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Read settings of one architecture, each as `name=number`.

    Raises
        BadRequest  one cannot be read.
    """
    found = []
    for word in words:
        name, _, number = word.partition("=")
        try:
            found.append((name, float(number)))
        except ValueError as error:
            raise BadRequest(f"Option {word!r} is not understood; write it as bandwidth=0.5.") from error
    return tuple(sorted(found))


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
        beta2=0.999,
    )
