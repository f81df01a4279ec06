"""What a run holds: features by words, by text, one by one, and in the browser."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from monoscope.commands.terminal import AsJson, Name, app, tell
from monoscope.core.run import Run


@app.command
def search(
    run: Path,
    query: str,
    *,
    by: Annotated[str, Parameter(help="words, or prompt: features that fire on the text.")] = "words",
    limit: Annotated[int, Parameter(help="How many features.")] = 10,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Find features by words, or by a text on which they fire."""
    from monoscope import explore
    from monoscope.printing import hits_text

    tell(explore.search(Run(run), query, by=by, limit=limit, name=name), as_json, hits_text)


@app.command
def show(run: Path, feature: int, *, name: Name = None, as_json: AsJson = False) -> None:
    """One feature: contexts, histogram, tokens it raises and lowers, neighbours."""
    from monoscope import explore
    from monoscope.printing import feature_text

    tell(explore.show(Run(run), feature, name=name), as_json, feature_text)


@app.command
def encode(
    run: Path,
    text: str | None = None,
    *,
    input: Annotated[Path | None, Parameter(name="--input", help="JSON lines with text or messages.")] = None,  # noqa: A002
    pool: Annotated[str | None, Parameter(help="max or mean: one list of features for each text.")] = None,
    out: Annotated[Path | None, Parameter(help="Write the codes to this Parquet file.")] = None,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Which features fire on a text, token by token or pooled."""
    from monoscope import explore
    from monoscope.printing import codes_text

    tell(explore.encode(Run(run), text, input, pool=pool, out=out, name=name), as_json, codes_text)


@app.command
def serve(
    run: Path,
    *,
    host: Annotated[str, Parameter(help="Where to listen; beyond this machine a --token is needed.")] = "127.0.0.1",
    port: Annotated[int | None, Parameter(help="8421, or the next free port.")] = None,
    token: Annotated[str | None, Parameter(help="What visitors must know.")] = None,
    allow_host: Annotated[
        list[str] | None, Parameter(help="A further Host name to answer to; may be repeated.")
    ] = None,
    name: Name = None,
) -> None:
    """Open the explorer in a browser."""
    from monoscope.serve.app import serve as serve_run

    serve_run(run, host=host, port=port, token=token, name=name, allow_hosts=tuple(allow_host or ()))
