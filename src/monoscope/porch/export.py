"""An atlas handed on in another project's form, or as pages: written aside, read back, and only then put in place."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from monoscope.core.artifact import staging, write_json
from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.porch.dashboard import write_batches
from monoscope.porch.neuronpedia import write_tree
from monoscope.porch.origin import Origin
from monoscope.porch.pages import write_pages
from monoscope.porch.tables import write_tables

VERSION = 1
MANIFEST, CREDITS = "export.json", "CREDITS.txt"
_COLLECT_EVERY = 100_000
Writer = Callable[[Path, Origin, Progress], float]
FORMATS: dict[str, Writer] = {
    "neuronpedia": write_tree,
    "neuronpedia-batch": write_batches,
    "parquet": write_tables,
    "static": write_pages,
}


@dataclass(frozen=True)
class Exported:
    """What was written. `max_error` is the largest difference between a value and what reads back."""

    format: str
    out: Path
    features: int
    files: int
    bytes: int
    max_error: float
    seconds: float


def export_atlas(
    origin: Origin, format: str, out: Path, *, replace: bool = False, progress: Progress = SILENT
) -> Exported:
    """Write one format to the folder `out`, whole or not at all.

    Raises
        BadRequest  the format is unknown, or the folder holds something and not `replace`.
        Damaged     what was written does not read back; the folder is as it was.
        DiskFull    no room; nothing is left behind.
    """
    check_format(format)
    check_place(out, replace=replace)
    began = perf_counter()
    progress.start("export", len(origin.features), "features")
    with staging(out) as aside, _collecting_seldom():
        error = FORMATS[format](aside, origin, progress)
        if origin.credits:
            (aside / CREDITS).write_text("\n\n".join(origin.credits) + "\n", encoding="utf-8")
        about = {"format": "monoscope.export", "version": VERSION, "as": format, **origin.about, "max_error": error}
        write_json(aside / MANIFEST, about)
        written = [path for path in aside.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in written)
    progress.finish()
    return Exported(format, out, len(origin.features), len(written), size, error, perf_counter() - began)


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Look for cycles of garbage a hundredth as often.

    An export makes millions of small lists and no cycle; looking for one took a fifth of its time (9,216 features).
    """
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_EVERY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def check_format(format: str) -> None:
    """Agree that there is such a format.

    Raises
        BadRequest  there is none.
    """
    if format not in FORMATS:
        raise BadRequest(f"--format {format!r} is not known; choose {', '.join(FORMATS)}.")


def check_place(out: Path, *, replace: bool) -> None:
    """Agree to write a folder here.

    Raises
        BadRequest  a file is in the way, the folder holds something and not `replace`, or replacing it would remove the
                    place somebody works in.
    """
    if out.exists() and not out.is_dir():
        raise BadRequest(f"{out} is a file; --out names a folder.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not replace:
        raise BadRequest(f"{out} is not empty; choose another --out, or --replace to put the export in its place.")
    here = out.resolve()
    if here in (*Path.cwd().parents, Path.cwd(), *Path.home().parents, Path.home()) or (here / ".git").exists():
        raise BadRequest(f"{out} holds more than an export and is not replaced; choose another --out.")
