"""Edits with everything an engine needs: the direction, the size in activation units, what must be read.

A `Push` moves along any unit vector (a random one, a difference of means), so that a comparison goes through the very
same engine as a feature.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from monoscope.core.errors import BadEdit, BadNumbers
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.steer.edits import Edit, check_scope, parse_edit, parse_feature

PUSH_MODES = ("add", "project-out")
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Reading:
    """One feature of one dictionary, to be read at that dictionary's site."""

    dictionary: Dictionary
    feature: int


@dataclass(frozen=True, eq=False)
class ResolvedEdit:
    """An edit bound to its dictionary. `value` is in activation units, or the factor of a scale; None without one."""

    edit: Edit
    value: float | None
    reading: Reading
    gate: Reading | None

    mode = property(lambda self: self.edit.mode)
    scope = property(lambda self: self.edit.scope)
    feature = property(lambda self: self.edit.feature)
    site = property(lambda self: self.reading.dictionary.site)
    sink_limit = property(lambda self: self.reading.dictionary.stats.sink_limit)

    @property
    def gate_above(self) -> float:
        """What the gate must exceed; minus infinity without a gate."""
        return -math.inf if self.edit.condition is None else self.edit.condition.above

    @property
    def direction(self) -> Float[Tensor, "d_model"]:
        """The feature's unit decoder row."""
        return self.reading.dictionary.W_dec[self.edit.feature].float()

    def __str__(self) -> str:
        return str(self.edit)


@dataclass(frozen=True, eq=False)
class Push:
    """A move along a unit vector that is no feature. `value` is the length of what `add` adds, in activation units.

    Raises
        BadEdit  the vector is not of length 1, the mode is not add or project-out, or the value is not finite.
    """

    direction: Float[Tensor, "d_model"]
    value: float
    site: Site
    sink_limit: float
    scope: str = "all"
    mode: str = "add"
    name: str = "push"

    feature = None
    reading = None
    gate = None
    gate_above = -math.inf

    def __post_init__(self) -> None:
        check_scope(self.scope)
        if self.mode not in PUSH_MODES:
            raise BadEdit(f"A push has mode add or project-out, not {self.mode!r}.")
        if abs(float(self.direction.float().norm()) - 1) > _UNIT_TOLERANCE:
            raise BadEdit("A push needs a direction of length 1; divide the vector by its norm.")
        if not math.isfinite(self.value):
            raise BadEdit(f"The value {self.value} of a push is not finite.")

    def __str__(self) -> str:
        return f"{self.name} {self.mode} {self.value:g} @{self.scope}"


Move = ResolvedEdit | Push


def resolve(edit: Edit | str, dictionaries: Dictionary | Mapping[str, Dictionary]) -> ResolvedEdit:
    """Bind an edit to its dictionary, and turn its value into activation units.

    With one dictionary, an edit may name it or not. With several, an edit without a name means the first.

    Raises
        BadEdit          it names another dictionary, a condition at another site, multiples of a maximum of 0, or a
                         transcoder's feature.
        FeatureNotFound  the dictionary has no such feature; the condition's is checked as well.
    """
    edit = parse_edit(edit) if isinstance(edit, str) else edit
    dictionary = _find(dictionaries, edit.dictionary, edit)
    dictionary.check_feature(edit.feature)
    if dictionary.transcodes:
        raise BadEdit(
            f"{dictionary.name} reads {dictionary.site} and writes {dictionary.target}; "
            "edits need a dictionary of one site."
        )
    return ResolvedEdit(
        edit, _in_activation_units(edit, dictionary), Reading(dictionary, edit.feature), _gate(edit, dictionaries)
    )


def resolve_all(
    edits: Sequence[Edit | str | Move], dictionaries: Dictionary | Mapping[str, Dictionary]
) -> tuple[Move, ...]:
    """Bind several edits; what is bound already stays as it is."""
    return tuple(item if isinstance(item, (ResolvedEdit, Push)) else resolve(item, dictionaries) for item in edits)


def resolve_reading(feature: str, dictionaries: Dictionary | Mapping[str, Dictionary]) -> Reading:
    """A feature to be read, from `[DICTIONARY/]ID`; raises like `resolve`."""
    name, number = parse_feature(feature)
    dictionary = _find(dictionaries, name, f"report {feature}")
    dictionary.check_feature(number)
    return Reading(dictionary, number)


def push_at(
    dictionary: Dictionary, direction: Float[Tensor, "d_model"], value: float, *, scope: str = "all", name: str = "push"
) -> Push:
    """A push along any vector, made unit, at a dictionary's site.

    Raises
        BadNumbers  the vector has no direction: its norm is 0 or not finite.
    """
    norm = float(direction.float().norm())
    if not norm > 0 or not math.isfinite(norm):
        raise BadNumbers(f"A push needs a vector with a direction; the norm of this one is {norm}.")
    unit = direction.float() / norm
    return Push(unit, value, dictionary.site, dictionary.stats.sink_limit, scope=scope, name=name)


def _find(dictionaries: Dictionary | Mapping[str, Dictionary], name: str | None, what: Edit | str) -> Dictionary:
    known = {dictionaries.name: dictionaries} if isinstance(dictionaries, Dictionary) else dictionaries
    if name is None and known:
        return next(iter(known.values()))
    if name is None:
        raise BadEdit(f"'{what}' needs a dictionary, and none is loaded.")
    if name not in known:
        raise BadEdit(f"'{what}' names dictionary {name!r}; loaded: {', '.join(known) or 'none'}.")
    return known[name]


def _in_activation_units(edit: Edit, dictionary: Dictionary) -> float | None:
    if edit.value is None or not edit.unit:
        return edit.value
    if edit.unit == "r":
        return edit.value * dictionary.stats.mean_norm
    largest = float(dictionary.stats.max[edit.feature])
    if largest <= 0:
        raise BadEdit(f"Feature {edit.feature} never fired in the training text, so '{edit}' has no size; use unit r.")
    return edit.value * largest


def _gate(edit: Edit, dictionaries: Dictionary | Mapping[str, Dictionary]) -> Reading | None:
    if edit.condition is None:
        return None
    own = _find(dictionaries, edit.dictionary, edit)
    name = edit.condition.dictionary
    other = own if name is None else _find(dictionaries, name, edit)
    other.check_feature(edit.condition.feature)
    if other.site != own.site:
        raise BadEdit(
            f"The condition of '{edit}' is read at {other.site} but the edit acts at {own.site}; use one site."
        )
    return Reading(other, edit.condition.feature)
