"""What edits do: the dose of a feature, the cost of an edit, and which features can steer at all."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from monoscope.commands.terminal import AsJson, Name, Replace, Seed, app, board, stoppable, tell
from monoscope.core.run import Run


@app.command
def dose(
    run: Path,
    feature: int,
    *,
    mode: Annotated[str, Parameter(help="add or clamp.")] = "add",
    scope: Annotated[str, Parameter(help="all, generated, or everywhere: the chat template's tokens too.")] = "all",
    prompts: Annotated[Path | None, Parameter(help="JSON lines with text or messages, instead of the usual.")] = None,
    name: Name = None,
    replace: Replace = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The strengths that bring a feature's concept up and keep the text fluent, beside three other ways to steer."""
    from monoscope import dosing
    from monoscope.printing_effect import dose_text

    place = Run(run)
    result = dosing.dose(
        place,
        feature,
        mode=mode,
        scope=scope,
        prompts=prompts,
        seed=seed,
        replacing_it=replace,
        name=name,
        progress=board(place),
    )
    tell(result, as_json, dose_text)


@app.command
def cost(
    run: Path,
    *,
    edit: Annotated[list[str] | None, Parameter(help="As '8011 add 0.4r'; may be repeated.")] = None,
    preset: Annotated[str | None, Parameter(help="A saved set of edits, before any --edit.")] = None,
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What edits cost elsewhere: perplexity, arithmetic, facts, and refusals of harmless questions."""
    from monoscope import dosing
    from monoscope.printing_effect import cost_text

    place = Run(run)
    result = dosing.cost(place, tuple(edit or ()), preset=preset, seed=seed, name=name, progress=board(place))
    tell(result, as_json, cost_text)


@app.command
def steerable(
    run: Path,
    *,
    limit: Annotated[int, Parameter(help="How many of the best to tell.")] = 20,
    name: Name = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Which features can steer: the output score of all that fire, by which search ranks with --rank output."""
    from monoscope import dosing
    from monoscope.printing_effect import steerable_text

    place = Run(run)
    result = dosing.steerable(
        place, limit=limit, replacing_it=replace, name=name, progress=board(place), should_stop=stoppable()
    )
    tell(result, as_json, steerable_text)
