"""The models that are offered: the base model under its source, and each preset of edits as `MODEL:PRESET`."""

from dataclasses import dataclass
from pathlib import Path

from monoscope.core.errors import Unavailable
from monoscope.serve.library import Library
from monoscope.serve.v1_errors import ModelNotFound
from monoscope.steer.presets import Preset

_MOST_NAMED = 10


@dataclass(frozen=True)
class Offered:
    """A name that can be asked for. `created` is in seconds since 1970; the base model has no preset."""

    name: str
    created: int
    preset: Preset | None = None

    def values(self) -> dict[str, object]:
        """As `/v1/models` tells it."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "monoscope"}


def offered_models(books: Library) -> list[Offered]:
    """The base model, then the presets of every dictionary.

    Raises
        Unavailable  the run is still being made.
    """
    if not books.ready:
        raise Unavailable("The run is still being made; the explorer's first page shows how far it is.")
    base = _base_name(books)
    found = [Offered(base, _made_at(books.run.dictionary(books.choose()) / "monoscope.json"))]
    for dictionary in books.names():
        for preset in books.presets(dictionary):
            made = _made_at(books.run.path / "presets" / f"{preset.name}.json")
            found.append(Offered(f"{base}:{preset.name}", made, preset))
    return found


def find_model(books: Library, name: str) -> Offered:
    """The model of this name.

    Raises
        ModelNotFound  there is none; the sentence lists some that there are.
        Unavailable    the run is still being made.
    """
    models = offered_models(books)
    for model in models:
        if model.name == name:
            return model
    names = [model.name for model in models]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    raise ModelNotFound(f"The model '{name[:100]}' does not exist; there are: {', '.join(names[:_MOST_NAMED])}{more}.")


def _base_name(books: Library) -> str:
    source = str(books.run.provenance(books.choose())["model"])
    # A folder's place on this machine is nobody's business.
    return Path(source).name if source.startswith(("/", "~")) else source


def _made_at(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return 0
