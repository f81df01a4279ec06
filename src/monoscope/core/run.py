"""A study is one folder; here stands where each part lies in it, and how a name is chosen when none was given."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monoscope.core.artifact import read_json, sweep, write_json
from monoscope.core.errors import Ambiguous, ArtifactNotFound, BadRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def checked_name(name: str) -> str:
    """A name that is safe as the name of a folder.

    Raises
        BadRequest  it is not.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise BadRequest(f"The name {name!r} may hold letters, digits, dots, dashes and underscores only, at most 100.")
    return name


def name_from(text: str) -> str:
    """A folder name made from a source string."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60].strip("-")
    return slug or "text"


@dataclass(frozen=True)
class Run:
    """The layout of a study: `docs/formats/run.md`."""

    path: Path

    def text(self, name: str) -> Path:
        """Token ids and documents of one text."""
        return self.path / "text" / checked_name(name)

    def written(self) -> Path:
        """What the model itself wrote for a text, kept so that it is written once."""
        return self.path / "text" / ".written"

    def activations(self, name: str) -> Path:
        """Activations, `<site>@<text>`."""
        site, _, text = name.partition("@")
        return self.path / "activations" / f"{checked_name(site)}@{checked_name(text)}"

    def dictionary(self, name: str) -> Path:
        """One dictionary."""
        return self.path / "dictionaries" / checked_name(name)

    def atlas(self, name: str) -> Path:
        """The atlas of the dictionary of this name."""
        return self.path / "atlas" / checked_name(name)

    def comparison(self, *names: str) -> Path:
        """What was found of one dictionary's concepts, or of several beside each other."""
        return self.path / "comparisons" / "~".join(checked_name(name) for name in names)

    @property
    def presets(self) -> Path:
        """Named sets of edits."""
        return self.path / "presets"

    def names(self, part: str, whole: str) -> list[str]:
        """Finished members of a part: the folders in it that hold the file `whole`."""
        return sorted(path.parent.name for path in (self.path / part).glob(f"*/{whole}") if path.parent.name[0] != ".")

    def choose_dictionary(self, name: str | None) -> str:
        """The dictionary that is meant.

        Raises
            ArtifactNotFound  there is none of this name, or none at all.
            Ambiguous         there are several and none was named.
        """
        return self._choose("dictionaries", "monoscope.json", name, "dictionary", "monoscope train", "--name")

    def choose_activations(self, name: str | None) -> str:
        """The activations that are meant; raises like `choose_dictionary`."""
        return self._choose("activations", "manifest.json", name, "activations", "monoscope harvest", "--activations")

    def choose_atlas(self, name: str | None) -> str:
        """The atlas that is meant; raises like `choose_dictionary`."""
        return self._choose("atlas", "manifest.json", name, "atlas", "monoscope atlas", "--name")

    def _choose(self, part: str, whole: str, name: str | None, noun: str, command: str, flag: str) -> str:  # noqa: PLR0913
        if not self.path.is_dir():
            raise ArtifactNotFound(f"There is no run folder {self.path}; make one with monoscope harvest or demo.")
        found = self.names(part, whole)
        if name is not None:
            if name not in found:
                there = f"there are {', '.join(found)}" if found else "there is none"
                raise ArtifactNotFound(f"{self.path} has no {noun} named {name!r}; {there}.")
            return name
        if not found:
            raise ArtifactNotFound(f"{self.path} has no {noun} yet; run {command} {self.path} first.")
        if len(found) > 1:
            raise Ambiguous(f"{self.path} has several: {', '.join(found)}; say which with {flag}.")
        return found[0]

    def about(self) -> dict[str, Any]:
        """The parts there are, read from the folders."""
        return {
            "version": 1,
            "text": self.names("text", "manifest.json"),
            "activations": self.names("activations", "manifest.json"),
            "dictionaries": self.names("dictionaries", "monoscope.json"),
            "atlas": self.names("atlas", "manifest.json"),
            "presets": sorted(path.stem for path in self.presets.glob("*.json")),
        }

    def write_index(self) -> None:
        """Rewrite run.json. It is a convenience for people; nothing reads it."""
        sweep(self.path, "run.json.")
        write_json(self.path / "run.json", self.about())

    def provenance(self, dictionary: str) -> dict[str, Any]:
        """Where a dictionary came from: model source and digest, text, site."""
        return read_json(self.dictionary(dictionary) / "monoscope.json")["provenance"]

    def forget(self, folder: Path) -> None:
        """Remove a part, as `--replace` asks."""
        shutil.rmtree(folder, ignore_errors=True)
