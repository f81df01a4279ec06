"""What a run hands on to others."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from monoscope.commands.terminal import AsJson, Name, Replace, app, stderr, tell
from monoscope.console import Board
from monoscope.core.errors import BadRequest
from monoscope.core.run import Run


@app.command
def export(  # noqa: PLR0913  one flag for each setting
    run: Path,
    *,
    format: Annotated[str, Parameter(help="neuronpedia, neuronpedia-batch, parquet or static.")],
    out: Annotated[Path, Parameter(help="The folder to write.")],
    features: Annotated[str | None, Parameter(help="Which, as 12,55; else all.")] = None,
    limit: Annotated[int | None, Parameter(help="At most so many features.")] = None,
    name: Name = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """An atlas for Neuronpedia, as Parquet tables, or as pages that open without a server; read back and compared."""
    from monoscope import exporting
    from monoscope.printing import exported_text

    result = exporting.export(
        Run(run),
        format=format,
        out=out,
        features=None if features is None else _numbers(features),
        limit=limit,
        replace=replace,
        name=name,
        progress=Board(stderr),
    )
    tell(result, as_json, exported_text)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadRequest(f"--features {text!r} is not understood; write numbers with commas, as 12,55.") from None
