"""A constitution: principles in words, each with a monitor that hears where a reply breaks it (`docs/constitution.md`).

A principle is about what the model says, so its monitor reads the reply alone. One with the action `redraft` has the
reply thrown away and written again, the principle named in a system message; after the last draft it is withheld.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monoscope.core.artifact import read_json
from monoscope.core.errors import BadRequest, Damaged, MonoscopeError
from monoscope.core.run import checked_name
from monoscope.model.chat import render_chat
from monoscope.model.transformer import LanguageModel
from monoscope.safety.alert import BLOCK, FLAG, REDRAFT, Alert
from monoscope.steer.reply import FILTERED
from monoscope.steer.request import Generation, Request

VERSION = 1
ACTIONS = (FLAG, BLOCK, REDRAFT)
MOST_PRINCIPLES, MOST_REDRAFTS, MOST_LETTERS = 100, 5, 1000
_USUAL_REDRAFTS = 2
_KEYS = {"name", "principle", "monitor", "positive", "negative", "action", "redrafts"}
_SENTENCE = "Your last answer broke a rule. Answer the conversation again, and keep to this: "


@dataclass(frozen=True)
class Principle:
    """A sentence and what is done where a reply breaks it. `positive` and `negative` are texts to fit `monitor` by."""

    name: str
    sentence: str
    monitor: Path
    action: str = FLAG
    redrafts: int = _USUAL_REDRAFTS
    positive: Path | None = None
    negative: Path | None = None


def load_constitution(path: Path) -> tuple[Principle, ...]:
    """The principles of a file; files that it names are looked for beside it.

    Raises
        ArtifactNotFound  there is no such file.
        Damaged           it is no constitution of a version that is known.
        BadRequest        a principle makes no sense.
    """
    values = read_json(path)
    if values.get("version") != VERSION:
        raise Damaged(f"{path} is no constitution of version {VERSION}; write its version, or another file.")
    unknown = sorted(set(values) - {"version", "principles"})
    if unknown:
        raise BadRequest(f"{path}: there is no setting {unknown[0]!r}; a constitution has version and principles.")
    rows = values.get("principles")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_PRINCIPLES:
        raise BadRequest(f"{path}: `principles` must be a list of 1 to {MOST_PRINCIPLES}.")
    found = tuple(_principle(path, number, row) for number, row in enumerate(rows))
    names = [principle.name for principle in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadRequest(f"{path}: two principles are named {twice}; give one of them another name.")
    return found


def _principle(path: Path, number: int, row: Any) -> Principle:
    where = f"{path}, principle {number + 1}"
    if not isinstance(row, dict):
        raise BadRequest(f"{where} must be an object with name, principle and monitor.")
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise BadRequest(f"{where}: there is no setting {unknown[0]!r}; a principle has {', '.join(sorted(_KEYS))}.")
    name, sentence = _text(where, row, "name"), _text(where, row, "principle")
    try:
        checked_name(name)
    except MonoscopeError as error:
        raise BadRequest(f"{where}: {error}") from error
    action, redrafts = row.get("action", FLAG), row.get("redrafts", _USUAL_REDRAFTS)
    if action not in ACTIONS:
        raise BadRequest(f"{where}: `action` must be one of {', '.join(ACTIONS)}.")
    if isinstance(redrafts, bool) or not isinstance(redrafts, int) or not 1 <= redrafts <= MOST_REDRAFTS:
        raise BadRequest(f"{where}: `redrafts` must be a number from 1 to {MOST_REDRAFTS}.")
    files = {key: path.parent / _text(where, row, key) for key in ("monitor", "positive", "negative") if key in row}
    if ("positive" in files) != ("negative" in files):
        raise BadRequest(f"{where}: `positive` and `negative` go together.")
    if not files:
        raise BadRequest(f"{where}: give a `monitor`, or `positive` and `negative` texts to fit one by.")
    monitor = files.get("monitor", path.parent / f"{path.stem}.monitors" / f"{name}.json")
    return Principle(name, sentence, monitor, action, redrafts, files.get("positive"), files.get("negative"))


def _text(where: str, row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_LETTERS:
        raise BadRequest(f"{where}: `{key}` must be a text of 1 to {MOST_LETTERS:,} characters.")
    return value.strip()


def broken(principles: Mapping[str, Principle], alerts: Sequence[object]) -> list[Principle]:
    """The principles that ask for another draft of a reply with these alerts."""
    names = [alert.monitor for alert in alerts if isinstance(alert, Alert) and alert.action == REDRAFT]
    return [principles[name] for name in names if name in principles]


def may_redraft(fired: Sequence[Principle], alerts: Sequence[object], draft: int) -> bool:
    """Whether one more draft may follow draft number `draft`: not once a principle has had all of its own, nor where
    another monitor blocks the reply."""
    blocked = any(isinstance(alert, Alert) and alert.action == BLOCK and alert.stopped for alert in alerts)
    return bool(fired) and not blocked and all(draft < principle.redrafts for principle in fired)


def next_draft(
    model: LanguageModel, messages: Sequence[Mapping[str, str]], fired: Sequence[Principle], request: Request
) -> Request:
    """The request for another draft: the conversation, with the principles named in its system message.

    Raises
        BadRequest  the model has no chat template, or there is no room for it.
    """
    told = _SENTENCE + " ".join(dict.fromkeys(principle.sentence for principle in fired))
    first = messages[0] if messages and messages[0]["role"] == "system" else None
    if first is not None:
        system, rest = f"{first['content']}\n\n{told}", messages[1:]
    else:
        system, rest = told, messages
    rendered = render_chat(model, [{"role": "system", "content": system}, *rest], reply_follows=True)
    room = min(request.max_tokens, model.context_limit - len(rendered.ids))
    if room < 1:
        raise BadRequest("There is no room for another draft; shorten the conversation.")
    return replace(request, prompt_ids=rendered.ids, template=rendered.template, max_tokens=room)


def withheld(done: Generation) -> Generation:
    """A reply of which nothing leaves."""
    return replace(done, ids=(), text="", finish_reason=FILTERED, logprobs=(), prompt_logprobs=(), report=())
