"""What comes with the package to measure with: questions, neutral texts, openings of sentences, and the battery."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Item:
    """A beginning with one right ending and some wrong ones."""

    prompt: str
    right: str
    wrong: tuple[str, ...]


@cache
def questions() -> tuple[str, ...]:
    """Open questions that any topic may answer: a reply to them names a concept only if something made it."""
    return _lines("questions.txt")


@cache
def neutral_texts() -> tuple[str, ...]:
    """Plain sentences about nothing in particular."""
    return _lines("texts.txt")


@cache
def openings() -> tuple[str, ...]:
    """Beginnings that many words may follow."""
    return _lines("openings.txt")


@cache
def items(name: str) -> tuple[Item, ...]:
    """The items of a part of the battery: arithmetic or cloze."""
    return tuple(Item(one["prompt"], one["right"], tuple(one["wrong"])) for one in _battery()[name])


@cache
def benign_questions() -> tuple[str, ...]:
    """Harmless questions; some have a word in them that might frighten a careful model."""
    return tuple(_battery()["benign"])


@cache
def _battery() -> dict:
    return json.loads((resources.files("monoscope.effect") / "battery.json").read_text("utf-8"))


def _lines(name: str) -> tuple[str, ...]:
    return tuple((resources.files("monoscope.effect") / name).read_text("utf-8").splitlines())
