"""The dose that the desk keeps of a feature, as the strength to begin with."""

from collections.abc import Mapping, Sequence
from typing import Any

from monoscope.atlas.desk import Desk
from monoscope.core.errors import BadEdit
from monoscope.steer.edits import parse_edit

# Where no dose was measured: below the doses at which small models break, above those at which nothing is seen.
DEFAULT_STRENGTH = 0.4


def recommended_edit(record: Mapping[str, Any] | None) -> str | None:
    """The edit that a kept dose recommends; None where there is none to be had."""
    found = (record or {}).get("recommended")
    edit = found.get("edit") if isinstance(found, Mapping) else None
    try:
        return str(parse_edit(edit)) if isinstance(edit, str) else None
    except BadEdit:
        return None


def default_edits(desk: Desk, features: Sequence[int]) -> list[str]:
    """The edit to begin with for each of some features: what its dose recommends, else the usual strength."""
    doses = desk.doses() if features else {}
    return [recommended_edit(doses.get(feature)) or f"{feature} add {DEFAULT_STRENGTH}r" for feature in features]


def with_doses(desk: Desk, edits: Sequence[str]) -> tuple[str, ...]:
    """The same edits, in which a feature's number alone stands for the edit to begin with."""
    return tuple(
        default_edits(desk, [int(edit)])[0] if edit.strip().isascii() and edit.strip().isdigit() else edit
        for edit in edits
    )
