"""A finished atlas handed on: to Neuronpedia, as tables, or as pages that open without a server."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monoscope.atlas.query import Atlas
from monoscope.core.errors import BadRequest, RequestDiffers
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.porch.export import check_format, check_place, export_atlas
from monoscope.porch.origin import Origin

_WITH_VECTORS = ("neuronpedia", "neuronpedia-batch")


def export(  # noqa: PLR0913  one setting for each flag of the command
    run: Run,
    *,
    format: str,
    out: Path,
    features: Sequence[int] | None = None,
    limit: int | None = None,
    replace: bool = False,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Export an atlas: all features, or those named, at most `limit` of them.

    Raises
        BadRequest       the format is unknown, no feature is left, or the folder holds something and not `replace`.
        FeatureNotFound  the atlas has no such feature.
        RequestDiffers   the dictionary was trained again since the atlas was built.
    """
    check_format(format)
    out = Path(out)
    check_place(out, replace=replace)
    _check_outside(run, out)
    atlas = Atlas.open(run.atlas(run.choose_atlas(name)))
    dictionary = _dictionary_of(run, atlas) if format in _WITH_VECTORS else None
    origin = Origin(atlas, _chosen(atlas, features, limit), dictionary)
    found = export_atlas(origin, format, out, replace=replace, progress=progress)
    return {**asdict(found), "out": str(out), "checked": True}


def _check_outside(run: Run, out: Path) -> None:
    """A run's own parts are no place for an export; its folder `exports` is."""
    here, home = out.resolve(), run.path.resolve()
    if here == home or here in home.parents or (home in here.parents and here.relative_to(home).parts[0] != "exports"):
        raise BadRequest(f"{out} belongs to the run; choose an --out elsewhere, or below {run.path / 'exports'}.")


def _chosen(atlas: Atlas, features: Sequence[int] | None, limit: int | None) -> tuple[int, ...]:
    if limit is not None and limit < 1:
        raise BadRequest(f"--limit {limit} must be at least 1.")
    if features is not None and not features:
        raise BadRequest("--features names no feature; write numbers with commas, as 12,55.")
    for feature in features or ():
        atlas.check_feature(feature)
    chosen = range(atlas.n_features) if features is None else dict.fromkeys(features)
    return tuple(chosen)[:limit]


def _dictionary_of(run: Run, atlas: Atlas) -> Dictionary | None:
    """The dictionary the atlas is of; None where the run no longer has it."""
    folder = run.dictionary(atlas.dictionary)
    if not (folder / "monoscope.json").is_file():
        return None
    if dictionary_digest(folder) != atlas.manifest["dictionary_digest"]:
        raise RequestDiffers(
            f"The dictionary {atlas.dictionary} is not the one its atlas was built from; run monoscope atlas --replace."
        )
    return load_dictionary(folder)
