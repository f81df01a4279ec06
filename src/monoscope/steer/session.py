"""Steering from Python: make edits by name, and talk to a model under them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from monoscope.core.errors import BadRequest
from monoscope.dictionary.base import Dictionary
from monoscope.model.transformer import LanguageModel
from monoscope.steer.edits import Condition, Edit
from monoscope.steer.engine import generate
from monoscope.steer.prompt import Prompt, request_for
from monoscope.steer.request import Generation, Request
from monoscope.steer.resolve import Move, resolve_all

_SETTINGS = {field.name for field in fields(Request)} - {"prompt_ids", "edits", "template"}


def add(feature: int, value: float, unit: str = "", *, scope: str = "all", when: Condition | None = None) -> Edit:
    """Add a feature's direction. With unit "r", 0.35 to 0.45 steers most small models."""
    return Edit(feature, "add", value, unit, scope, when)


def clamp(feature: int, value: float, unit: str = "", *, scope: str = "all", when: Condition | None = None) -> Edit:
    """Set a feature's activation, leaving the rest of the residual as it is."""
    return Edit(feature, "clamp", value, unit, scope, when)


def scale(feature: int, factor: float, *, scope: str = "all", when: Condition | None = None) -> Edit:
    """Multiply a feature's activation; nothing happens where it does not fire."""
    return Edit(feature, "scale", factor, "", scope, when)


def ablate(feature: int, *, scope: str = "all", when: Condition | None = None) -> Edit:
    """Set a feature's activation to 0."""
    return Edit(feature, "ablate", None, "", scope, when)


def project_out(feature: int, *, scope: str = "all", when: Condition | None = None) -> Edit:
    """Remove everything along a feature's direction, whatever put it there."""
    return Edit(feature, "project-out", None, "", scope, when)


@dataclass
class Steered:
    """A model under edits. Mutable in one way only: it ends with its `with` block.

    Settings of `chat` and `complete` are those of `Request`: max_tokens, seed, temperature, top_p, repetition_penalty,
    stop_ids.
    """

    model: LanguageModel
    edits: tuple[Move, ...]
    open: bool = True

    def chat(self, text: str | Sequence[Mapping[str, str]], **settings: Any) -> Generation:
        """The reply to one message or to a conversation; printing it shows the text, `.proof` tells what was done."""
        return self._generate([{"role": "user", "content": text}] if isinstance(text, str) else text, settings)

    def complete(self, text: str, **settings: Any) -> Generation:
        """The text that follows."""
        return self._generate(text, settings)

    def _generate(self, prompt: Prompt, settings: dict[str, Any]) -> Generation:
        if not self.open:
            raise BadRequest("This steered model ended with its `with` block; open another one.")
        unknown = sorted(set(settings) - _SETTINGS)
        if unknown:
            raise BadRequest(f"There is no setting {', '.join(unknown)}; there are {', '.join(sorted(_SETTINGS))}.")
        request = request_for(self.model, prompt, self.edits, **settings)
        return generate(self.model, None, [request])[0]


@contextlib.contextmanager
def steer(
    model: LanguageModel,
    dictionary: Dictionary | Mapping[str, Dictionary],
    edits: Sequence[Edit | str | Move],
) -> Iterator[Steered]:
    """A model that answers under edits, while inside the `with` block.

    Raises
        BadEdit, FeatureNotFound  an edit makes no sense for these dictionaries.
    """
    steered = Steered(model, resolve_all(edits, dictionary))
    try:
        yield steered
    finally:
        steered.open = False
