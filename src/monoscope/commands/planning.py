"""How large a dictionary to train, and how several compare."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from monoscope.commands.terminal import AsJson, Name, Replace, Seed, app, board, stderr, stoppable, tell
from monoscope.console import Board
from monoscope.core.run import Run


@app.command
def sweep(  # noqa: PLR0913  one flag for each setting of the artefact
    run: Path,
    *,
    arch: Annotated[str, Parameter(help="batchtopk, topk or matryoshka.")] = "batchtopk",
    k: Annotated[int, Parameter(help="Features a token (the mean, for batchtopk).")] = 32,
    smallest: Annotated[float, Parameter(help="FLOPs of the cheapest trainings.")] = 1e11,
    budgets: Annotated[int, Parameter(help="How many budgets, each twice the one before.")] = 6,
    widths: Annotated[int, Parameter(help="How many dictionary sizes in each budget.")] = 4,
    batch: Annotated[int, Parameter(help="Rows of one step.")] = 512,
    lr: Annotated[float, Parameter(help="The learning rate about which others are tried.")] = 4e-3,
    name: Name = None,
    activations: Annotated[str | None, Parameter(help="Which activations, where the run holds several.")] = None,
    replace: Replace = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Many small trainings, and the scaling laws through them. A stopped sweep goes on where it was."""
    from monoscope import planner
    from monoscope.printing import sweep_text
    from monoscope.sweep import sweep as measure
    from monoscope.sweep_cells import SweepRequest

    place = Run(run)
    wanted = SweepRequest(arch, k, smallest, budgets, widths, batch_rows=batch, rate=lr, seed=seed)
    found = measure(
        place,
        wanted,
        name=name,
        activations=activations,
        replacing_it=replace,
        progress=board(place),
        should_stop=stoppable(),
    )
    budget = f"{found['measured']['budgets'][1]:.3e}"
    result = {**planner.plan(place, budget, name=found["name"]), "name": found["name"], "skipped": found["skipped"]}
    tell(result, as_json, sweep_text)


@app.command
def plan(
    run: Path | None = None,
    *,
    budget: Annotated[str, Parameter(help="Minutes of this machine, as 30min or 2h, or training FLOPs, as 1e15.")],
    name: Annotated[str | None, Parameter(name="--name", help="Which sweep, where the run holds several.")] = None,
    as_json: AsJson = False,
) -> None:
    """The best dictionary for a budget, by the run's scaling laws or by those of the demo's model."""
    from monoscope import planner
    from monoscope.printing import plan_text

    tell(planner.plan(None if run is None else Run(run), budget, name=name), as_json, plan_text)


@app.command
def compare(
    *dictionaries: Annotated[str, Parameter(help="RUN:NAME, two or more; RUN alone where it holds one.")],
    titles: Annotated[bool, Parameter(negative="", help="Which titles of the text each has a feature for.")] = False,
    family: Annotated[str | None, Parameter(help="Words such as 'france,germany': how their feature splits.")] = None,
    parents: Annotated[str, Parameter(help="How parents are found: by direction, or by firing.")] = "direction",
    limit: Annotated[int | None, Parameter(help="How many matches and splits of each pair.")] = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Which features dictionaries share, how they split in wider ones, and which concepts they have."""
    from monoscope.comparing import compare as compare_dictionaries
    from monoscope.printing import compare_text

    words = [word.strip() for word in (family or "").split(",") if word.strip()]
    result = compare_dictionaries(
        dictionaries,
        by_titles=titles,
        family=words,
        parents=parents,
        limit=limit,
        replacing_it=replace,
        progress=Board(stderr),
    )
    tell(result, as_json, compare_text)
