"""The presets of a run: kept, taken in from elsewhere, listed, shown and removed, each tied to its dictionary."""

from pathlib import Path
from typing import Any

from monoscope.core.errors import RequestDiffers
from monoscope.core.run import Run
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.steer import presets
from monoscope.steer.presets import Preset
from monoscope.steer.resolve import resolve_all


def save_preset(
    run: Run, preset: str, edits: tuple[str, ...], *, note: str = "", name: str | None = None
) -> dict[str, Any]:
    """Keep edits under a name, tied to the dictionary whose feature numbers they use."""
    chosen = run.choose_dictionary(name)
    wanted = Preset(preset, chosen, dictionary_digest(run.dictionary(chosen)), edits, note)
    resolve_all(wanted.edits, {chosen: load_dictionary(run.dictionary(chosen))})
    presets.save_preset(run.path, wanted)
    run.write_index()
    return show_preset(run, preset)


def take_preset(run: Run, preset: str, path: Path, *, note: str = "", name: str | None = None) -> dict[str, Any]:
    """Keep a preset that was made elsewhere, from its file, where the run holds the very dictionary it was made for.

    Raises
        RequestDiffers  it does not, under whatever name.
    """
    found = presets.read_preset(path)
    chosen = _dictionary_with(run, found, path, name)
    return save_preset(run, preset, found.edits, note=note or found.note, name=chosen)


def _dictionary_with(run: Run, preset: Preset, path: Path, name: str | None) -> str:
    """The name that a preset's dictionary has in this run."""
    names = run.names("dictionaries", "monoscope.json") if name is None else []
    names = names or [run.choose_dictionary(name)]
    same = [each for each in names if dictionary_digest(run.dictionary(each)) == preset.dictionary_digest]
    if not same:
        raise RequestDiffers(
            f"{path} was made for a dictionary called {preset.dictionary}, which is none of those in {run.path} "
            f"({', '.join(names)}), where its feature numbers mean something else. Get that very dictionary as well, "
            "or find the features with monoscope search and save them anew."
        )
    return preset.dictionary if preset.dictionary in same else same[0]


def show_preset(run: Run, preset: str) -> dict[str, Any]:
    """One preset as plain values: what its file holds."""
    return presets.load_preset(run.path, preset).to_json()


def list_presets(run: Run) -> dict[str, Any]:
    """All presets."""
    return {"presets": [show_preset(run, preset) for preset in presets.list_presets(run.path)]}


def delete_preset(run: Run, preset: str) -> dict[str, Any]:
    """Remove one."""
    presets.delete_preset(run.path, preset)
    return {"name": preset}
