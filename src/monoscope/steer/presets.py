"""Named sets of edits, kept with a run and handed on as files. The format is docs/formats/preset.md."""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from monoscope.core.artifact import read_json, write_json
from monoscope.core.errors import ArtifactNotFound, BadEdit, BadRequest, Damaged, RequestDiffers
from monoscope.steer.edits import parse_edit

PRESET_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_NOTE = 2000
_MOST_EDITS = 64
# Far above 64 edits of 300 characters and a note; a larger file is something else, and is not read.
_LARGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Preset:
    """Edits under a name, with the dictionary whose feature numbers they use. `edits` are in the edit grammar.

    They do not name the dictionary: it may be called otherwise in another run, and its digest says which it is.

    Raises
        BadRequest  the name is not plain, the note too long, or there is no edit.
        BadEdit     an edit cannot be read, or names another dictionary, for which no digest would speak.
    """

    name: str
    dictionary: str
    dictionary_digest: str
    edits: tuple[str, ...]
    note: str = ""

    def __post_init__(self) -> None:
        check_preset_name(self.name)
        if not 1 <= len(self.edits) <= _MOST_EDITS:
            raise BadRequest(f"A preset needs 1 to {_MOST_EDITS} edits, not {len(self.edits)}.")
        if len(self.note) > _LONGEST_NOTE:
            raise BadRequest(f"The note has {len(self.note):,} characters; at most {_LONGEST_NOTE:,} are kept.")
        object.__setattr__(self, "edits", tuple(_without_dictionary(edit, self.dictionary) for edit in self.edits))

    def to_json(self) -> dict[str, Any]:
        """The file's record."""
        return {"version": PRESET_VERSION, **asdict(self), "edits": list(self.edits)}


def check_preset_name(name: str) -> None:
    """Agree that a preset's name is safe as a file name.

    Raises
        BadRequest  it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest(
            f"{name!r} cannot name a preset; use up to 64 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or a digit, as in golden-gate."
        )


def _without_dictionary(text: str, own: str) -> str:
    edit = parse_edit(text)
    gate = edit.condition
    for name in (edit.dictionary, gate.dictionary if gate else None):
        if name not in (None, own):
            raise BadEdit(
                f"The edit '{edit}' names dictionary {name}, but a preset holds edits of one dictionary, here {own}; "
                f"keep those of {name} in a preset of their own."
            )
    return str(replace(edit, dictionary=None, condition=gate and replace(gate, dictionary=None)))


def save_preset(run: Path, preset: Preset) -> Path:
    """Write a preset, in place of one of the same name."""
    path = _path(run, preset.name)
    write_json(path, preset.to_json())
    return path


def read_preset(path: Path) -> Preset:
    """Read a preset from any file, such as one that somebody sent. Whether its dictionary is here is not asked.

    Raises
        ArtifactNotFound  there is no such file.
        Damaged           it is not a preset of a known version.
    """
    if path.is_file() and path.stat().st_size > _LARGEST_FILE:
        raise Damaged(f"{path} has {path.stat().st_size:,} bytes; a preset has at most {_LARGEST_FILE:,}.")
    return _from_record(path, read_json(path))


def load_preset(run: Path, name: str, *, dictionary_digest: str | None = None) -> Preset:
    """Read a preset; with a digest, agree that it was made for that dictionary.

    Raises
        ArtifactNotFound  there is none of this name; the sentence lists those there are.
        Damaged           the file is not a preset of a known version.
        RequestDiffers    it was made for another dictionary, whose feature numbers mean something else.
    """
    path = _path(run, name)
    if not path.is_file():
        there = ", ".join(list_presets(run)) or "none"
        raise ArtifactNotFound(f"{run} has no preset {name}; it has: {there}.")
    preset = read_preset(path)
    if preset.name != name:
        raise Damaged(f"{path} holds a preset named {preset.name!r}; rename the file or save the preset again.")
    if dictionary_digest is not None and preset.dictionary_digest != dictionary_digest:
        raise RequestDiffers(
            f"Preset {name} was made for another training of dictionary {preset.dictionary}, where its feature numbers "
            "mean something else; save it again for this one."
        )
    return preset


def list_presets(run: Path) -> list[str]:
    """The names of a run's presets, in order; empty when there are none."""
    return sorted(path.stem for path in (Path(run) / "presets").glob("*.json") if _NAME.fullmatch(path.stem))


def delete_preset(run: Path, name: str) -> None:
    """Remove a preset.

    Raises
        ArtifactNotFound  there is none of this name.
    """
    path = _path(run, name)
    if not path.is_file():
        raise ArtifactNotFound(f"{run} has no preset {name}; it has: {', '.join(list_presets(run)) or 'none'}.")
    path.unlink()


def _path(run: Path, name: str) -> Path:
    check_preset_name(name)
    return Path(run) / "presets" / f"{name}.json"


def _from_record(path: Path, record: dict[str, object]) -> Preset:
    if record.get("version") != PRESET_VERSION:
        found = record.get("version")
        raise Damaged(
            f"{path} is not a preset of version {PRESET_VERSION}, which this monoscope reads: its version is {found!r}."
        )
    texts = {name: record.get(name) for name in ("name", "dictionary", "dictionary_digest", "note")}
    edits = record.get("edits")
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(edits, list):
        raise Damaged(f"{path} is not a preset: a field is missing or no text. Save the preset again.")
    try:
        return Preset(edits=tuple(edits), **texts)  # type: ignore[arg-type]  all are checked to be text
    except (BadEdit, BadRequest) as error:
        raise Damaged(f"{path} is not a whole preset ({error}); save it again.") from error
