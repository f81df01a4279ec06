"""Edits as the steering page's rows: a slider in multiples of the mean residual norm, or a fixed line."""

from collections.abc import Sequence
from dataclasses import dataclass

from monoscope.core.errors import MonoscopeError
from monoscope.dictionary.base import Dictionary
from monoscope.effect.kept import default_edits
from monoscope.serve.library import Library
from monoscope.serve.lookup import labels_of
from monoscope.steer.edits import Edit, parse_edit
from monoscope.steer.presets import load_preset
from monoscope.steer.resolve import resolve

LARGEST_STRENGTH = 0.7
SLIDING_MODES = ("add", "clamp")


@dataclass(frozen=True)
class Control:
    """One row. `strength` is in multiples of the mean residual norm; None where the edit is `fixed` text."""

    feature: int
    label: str
    mode: str
    strength: float | None
    fixed: str = ""

    @property
    def line(self) -> str:
        """The row as an edit."""
        return self.fixed or str(Edit(self.feature, self.mode, self.strength, "r"))


def controls_of(
    books: Library, name: str, *, preset: str | None, add: Sequence[int], edits: Sequence[str]
) -> list[Control]:
    """The rows of a preset, then of single features at their doses, then of edits.

    Raises
        ArtifactNotFound, RequestDiffers  the preset is not there, or is another dictionary's.
        FeatureNotFound, BadEdit          a feature or an edit makes no sense.
    """
    atlas = books.atlas(name)
    for feature in add:
        atlas.check_feature(feature)
    kept = load_preset(books.run.path, preset, dictionary_digest=books.digest(name)).edits if preset else ()
    lines = [*kept, *default_edits(atlas.desk, add), *edits]
    if not lines:
        return []
    parsed = [parse_edit(line) for line in lines]
    for edit in parsed:
        atlas.check_feature(edit.feature)
    labels = labels_of(books, name, {edit.feature for edit in parsed})
    dictionary = books.dictionary(name)
    return [_control(edit, labels[edit.feature], dictionary) for edit in parsed]


def _control(edit: Edit, label: str, dictionary: Dictionary) -> Control:
    strength = _strength(edit, dictionary)
    if strength is None:
        return Control(edit.feature, label, edit.mode, None, str(edit))
    return Control(edit.feature, label, edit.mode, round(strength, 3))


def _strength(edit: Edit, dictionary: Dictionary) -> float | None:
    """The edit's value in multiples of the mean residual norm, if a slider can say all that the edit says."""
    if edit.mode not in SLIDING_MODES or edit.scope != "all" or edit.condition is not None or edit.value is None:
        return None
    if edit.unit == "r":
        value = edit.value
    else:
        try:
            value = (resolve(edit, dictionary).value or 0.0) / dictionary.stats.mean_norm
        except MonoscopeError:
            return None
    return value if abs(value) <= LARGEST_STRENGTH else None
