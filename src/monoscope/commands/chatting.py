"""Talking with a model under edits, in a terminal or through a pipe."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from monoscope.commands.terminal import Name, Seed, app, stderr
from monoscope.core.run import Run


@app.command
def chat(  # noqa: PLR0913  one flag for each setting of the answers
    run: Path,
    *,
    preset: Annotated[str | None, Parameter(help="A saved set of edits, before any --edit.")] = None,
    edit: Annotated[list[str] | None, Parameter(help="As '8011 add 0.4r'; may be repeated.")] = None,
    temperature: Annotated[float, Parameter(help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, Parameter(help="The longest answer.")] = 256,
    system: Annotated[str, Parameter(help="A system message, in place of the template's own.")] = "",
    seed: Seed = 0,
    name: Name = None,
) -> None:
    """Chat with the model under edits; /help tells what can be changed on the way."""
    with stderr.status("loading the model …"):
        from monoscope import chatting
        from monoscope.chat_screen import Screen, typed_lines
        from monoscope.conversation import Manner, begin

        manner = Manner(seed, temperature, max_tokens, system)
        conversation = begin(Run(run), manner, tuple(edit or ()), preset=preset, name=name)
    screen = Screen(Console(), stderr)
    chatting.greet(conversation, screen)
    chatting.chat(conversation, typed_lines(screen), screen)
