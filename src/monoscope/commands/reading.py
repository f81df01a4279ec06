"""What a run holds: features by words, by text, one by one, and in the browser."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from monoscope.commands.terminal import AsJson, Name, app, board, tell
from monoscope.core.run import Run


@app.command
def search(  # noqa: PLR0913
    run: Path,
    query: str,
    *,
    by: Annotated[
        str,
        Parameter(
            help="words; prompt: features that fire on the text; token: features that raise it; "
            "like: features like 12, or 12 - 45 + 67."
        ),
    ] = "words",
    limit: Annotated[int, Parameter(help="How many features.")] = 10,
    token: Annotated[int | None, Parameter(help="Of a prompt only this token, counted from 0.")] = None,
    density_min: Annotated[float | None, Parameter(help="Only features that fire on at least this share.")] = None,
    density_max: Annotated[float | None, Parameter(help="Only features that fire on at most this share.")] = None,
    label_score: Annotated[float | None, Parameter(help="Only labels with at least this score.")] = None,
    source: Annotated[str | None, Parameter(help="Only features at home in this source of the text.")] = None,
    language: Annotated[str | None, Parameter(help="Only features at home in this language.")] = None,
    rank: Annotated[
        str, Parameter(help="answer; output: of the best answers those first that can steer (see steerable).")
    ] = "answer",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Find features by words, by a text on which they fire, by a token they raise, or by likeness."""
    from monoscope import explore
    from monoscope.atlas.search import Filters
    from monoscope.printing import hits_text

    filters = Filters(density_min, density_max, label_score, None, source, language)
    found = explore.search(Run(run), query, by=by, limit=limit, name=name, filters=filters, token=token, rank=rank)
    tell(found, as_json, hits_text)


@app.command
def show(run: Path, feature: int, *, name: Name = None, as_json: AsJson = False) -> None:
    """One feature: contexts, histogram, tokens it raises and lowers, neighbours; its dose where one was measured."""
    from monoscope import dosing, explore
    from monoscope.printing_effect import shown_text

    place = Run(run)
    found = {**explore.show(place, feature, name=name), **dosing.effects_of(place, feature, name=name)}
    tell(found, as_json, shown_text)


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


@app.command(name="map")
def draw_map(run: Path, *, name: Name = None, as_json: AsJson = False) -> None:
    """A map of the features, on which those whose directions are alike lie together; the explorer shows it."""
    from monoscope import building

    place = Run(run)
    tell(
        building.draw_map(place, name, board(place)),
        as_json,
        lambda r: (
            f"{r['features']:,} features of {r['name']} on the map, in {len(r['clusters'])} named groups"
            + (" (was there already)" if r["skipped"] else "")
        ),
    )


@app.command
def serve(  # noqa: PLR0913
    run: Path,
    *,
    host: Annotated[str, Parameter(help="Where to listen; beyond this machine a --token is needed.")] = "127.0.0.1",
    port: Annotated[int | None, Parameter(help="8421, or the next free port.")] = None,
    token: Annotated[str | None, Parameter(help="What visitors must know.")] = None,
    allow_host: Annotated[
        list[str] | None, Parameter(help="A further Host name to answer to; may be repeated.")
    ] = None,
    admin_token: Annotated[str | None, Parameter(help="Needed to change labels, notes, lists and presets.")] = None,
    allow_origin: Annotated[
        list[str] | None, Parameter(help="An origin whose pages may ask, as https://lab.example:8888; may be repeated.")
    ] = None,
    monitor: Annotated[
        list[str] | None,
        Parameter(help="A monitor to work under, FILE or FILE=watch|flag|block (flag); may be repeated."),
    ] = None,
    constitution: Annotated[Path | None, Parameter(help="Principles that replies must keep to, a JSON file.")] = None,
    alerts: Annotated[Path | None, Parameter(help="Where alerts are written; RUN/alerts.jsonl.")] = None,
    webhook: Annotated[str | None, Parameter(help="Also send each alert to this http or https address.")] = None,
    alert_text: Annotated[
        bool, Parameter(negative="", help="Alerts carry the last tokens before the crossing: words of visitors.")
    ] = False,
    name: Name = None,
) -> None:
    """Open the explorer in a browser, with OpenAI's interface at /v1, under monitors where there are some."""
    from monoscope.patrolling import Duty, open_patrol
    from monoscope.serve.app import serve as serve_run

    duty = Duty(tuple(monitor or ()), constitution, alerts, webhook, alert_text)
    patrol = open_patrol(Run(run), duty, name=name)
    serve_run(
        run,
        patrol=patrol,
        host=host,
        port=port,
        token=token,
        admin_token=admin_token,
        name=name,
        allow_hosts=tuple(allow_host or ()),
        allow_origins=tuple(allow_origin or ()),
    )
