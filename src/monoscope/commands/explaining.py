"""Labels and how good they are: by statistics alone, or by a judge."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from monoscope.commands.terminal import AsJson, Name, Seed, app, board, stoppable, tell
from monoscope.core.errors import BadRequest
from monoscope.core.run import Run


@app.command
def explain(  # noqa: PLR0913  one flag for each setting
    run: Path,
    *,
    judge: Annotated[
        str | None,
        Parameter(help="URL#MODEL (key in MONOSCOPE_JUDGE_KEY), or a model to load: smollm2-135m, hf:ORG/NAME …"),
    ] = None,
    features: Annotated[str | None, Parameter(help="Which, as 12,55; else the most concept-like ones.")] = None,
    limit: Annotated[int | None, Parameter(help="How many features (50, where none are named).")] = None,
    batch: Annotated[int, Parameter(help="Texts in one question; 1 is easier for weak judges, and dearer.")] = 5,
    dry_run: Annotated[bool, Parameter(negative="", help="Only tell what asking would take.")] = False,
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Labels and their scores: what the statistics gave, or new ones by a judge. A stopped run goes on."""
    from monoscope import explaining
    from monoscope.printing import explained_text

    place = Run(run)
    shown = board(place)
    result = explaining.explain(
        place,
        judge,
        features=_numbers(features),
        limit=limit,
        batch=batch,
        dry_run=dry_run,
        seed=seed,
        name=name,
        progress=shown,
        tell=shown.say,
        should_stop=stoppable(),
    )
    tell(result, as_json, explained_text)


def _numbers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadRequest(f"--features {text!r} is not understood; write numbers with commas, as 12,55.") from None
