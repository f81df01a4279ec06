"""Where training stands, on disk: one safetensors file and the log so far, replaced together.

Going on from it gives the same weights, to the bit, as never having stopped.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors

from monoscope.core.artifact import check_request, read_tensors, sweep, write_tensors
from monoscope.core.errors import Damaged
from monoscope.harvest.feed import Cursor
from monoscope.train.learner import Learner
from monoscope.train.recipes import Recipe


@dataclass(frozen=True)
class Progressed:
    """How far training is: steps done, the next batch, the log rows so far, and what the guard remembers."""

    step: int = 0
    cursor: Any = Cursor()
    log: tuple[dict[str, float], ...] = ()
    guard: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, learner: Learner, progressed: Progressed, request: dict[str, Any]) -> None:
    """Replace the checkpoint. Log, cursor and tensors stand in one file, so that they cannot disagree."""
    note = {**vars(progressed), "cursor": asdict(progressed.cursor), "request": request}
    write_tensors(folder / "state.safetensors", learner.tensors(), {"progress": json.dumps(note)})


def load(
    folder: Path, recipe: Recipe, request: dict[str, Any], what: str, cursor: Callable[[dict], Any]
) -> tuple[Learner, Progressed] | None:
    """The checkpoint of this very request, or None where there is none; `cursor` reads the feed's place in it.

    Raises
        RequestDiffers  the checkpoint was made with other settings.
        Damaged         it cannot be read.
    """
    path = folder / "state.safetensors"
    sweep(folder)
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(str(path), "pt") as stream:
            note = json.loads(stream.metadata()["progress"])
        progressed = Progressed(note["step"], cursor(note["cursor"]), tuple(note["log"]), note.get("guard", {}))
        check_request(what, note["request"], request)
        return Learner.restore(read_tensors(path), recipe.rule(), recipe), progressed
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"The checkpoint {path} cannot be read ({error}); delete it and train again.") from error
