"""Answers with edits, and named sets of edits."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from monoscope.commands.terminal import AsJson, Name, Seed, app, tell
from monoscope.core.errors import BadRequest
from monoscope.core.run import Run


@app.command
def steer(  # noqa: PLR0913  one flag for each setting of the answer
    run: Path,
    *,
    prompt: str,
    edit: Annotated[list[str] | None, Parameter(help="As '8011 add 0.4r'; may be repeated.")] = None,
    preset: Annotated[str | None, Parameter(help="A saved set of edits, before any --edit.")] = None,
    chat: Annotated[bool, Parameter(negative="", help="The prompt is a message to the assistant.")] = False,
    max_tokens: int = 60,
    temperature: Annotated[float, Parameter(help="0 is greedy.")] = 0.7,
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The same answer with and without edits, same seed, with a proof of what was edited."""
    from monoscope import explore
    from monoscope.printing import steered_text

    result = explore.steer(
        Run(run),
        prompt,
        tuple(edit or ()),
        preset=preset,
        chat=chat,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        name=name,
    )
    tell(result, as_json, steered_text)


@app.command
def preset(
    run: Path,
    action: Annotated[str, Parameter(help="save, list, show or delete.")],
    preset: Annotated[str | None, Parameter(help="Its name, as golden-gate.")] = None,
    *,
    edit: Annotated[list[str] | None, Parameter(help="What to save; may be repeated.")] = None,
    source: Annotated[
        Path | None, Parameter(name="--from", help="Save what is in this file, which preset RUN show NAME --json made.")
    ] = None,
    note: Annotated[str, Parameter(help="A line on what it is for.")] = "",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Named sets of edits: preset RUN save|list|show|delete NAME."""
    from monoscope import presetting
    from monoscope.printing import preset_text

    place = Run(run)
    if source is not None and (edit or action != "save"):
        raise BadRequest("--from FILE goes with save, and without --edit: preset RUN save NAME --from FILE.")

    def save(named: str) -> dict[str, Any]:
        if source is not None:
            return presetting.take_preset(place, named, source, note=note, name=name)
        return presetting.save_preset(place, named, tuple(edit or ()), note=note, name=name)

    actions: dict[str, Callable[[str], dict[str, Any]]] = {
        "save": save,
        "show": lambda named: presetting.show_preset(place, named),
        "delete": lambda named: presetting.delete_preset(place, named),
    }
    if action == "list":
        tell(presetting.list_presets(place), as_json, preset_text)
    elif action not in actions:
        raise BadRequest(f"There is no preset {action!r}; write preset RUN save, list, show or delete.")
    elif preset is None:
        raise BadRequest(f"Which preset? Write preset RUN {action} NAME.")
    else:
        tell(actions[action](preset), as_json, preset_text)
