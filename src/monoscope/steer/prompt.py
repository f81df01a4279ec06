"""What is said to a model, as tokens that know which of them the chat template wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

from monoscope.model.chat import Rendered, render_chat, render_plain
from monoscope.model.transformer import LanguageModel
from monoscope.steer.edits import Edit
from monoscope.steer.request import Request
from monoscope.steer.resolve import Move

Prompt = str | Sequence[Mapping[str, str]]


def render_prompt(model: LanguageModel, prompt: Prompt) -> Rendered:
    """A text to continue, or messages to answer."""
    if isinstance(prompt, str):
        return render_plain(model, prompt)
    return render_chat(model, prompt, reply_follows=True)


def prompt_ids(model: LanguageModel, prompt: Prompt) -> tuple[int, ...]:
    """The tokens of a text to continue, or of messages to answer."""
    return render_prompt(model, prompt).ids


def request_for(
    model: LanguageModel, prompt: Prompt, edits: Sequence[Move | Edit | str] = (), **settings: Any
) -> Request:
    """A request for a prompt under edits, which spare the template's tokens unless their scope names them."""
    rendered = render_prompt(model, prompt)
    return Request(rendered.ids, tuple(edits), template=rendered.template, **settings)
