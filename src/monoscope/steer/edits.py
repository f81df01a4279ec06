"""What to do to a feature, as a line of text and as a record.

    EDIT    := FEATURE MODE [VALUE[x|r]] [@SCOPE] [if FEATURE > VALUE]
    FEATURE := [DICTIONARY/]ID

Reading a line and printing the record give the same line back, up to spaces and the way a number is written.
"""

import math
import re
from dataclasses import dataclass

from monoscope.core.errors import BadEdit

MODES = ("add", "scale", "clamp", "ablate", "project-out")
MODES_WITHOUT_VALUE = ("ablate", "project-out")
SCOPES = ("all", "prompt", "generated", "everywhere", "last", "template")
UNITS = {"": "activation units", "x": "times the largest activation", "r": "times the mean residual norm"}
LARGEST_VALUE = 1e6

_EXAMPLE = "8011 clamp 2x @generated if 7449 > 1.5"
_LONGEST_TEXT = 300
_LARGEST_ID = 2**63 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ID = re.compile(r"[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_RANGE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")
_WHOLE = re.compile(r"(?P<body>.*?)(?:\s+if(?P<condition>\s.*|$))?", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """An edit acts only on tokens where `feature` is above `above`, in activation units."""

    feature: int
    above: float
    dictionary: str | None = None

    def __post_init__(self) -> None:
        _check_feature(self.feature, self.dictionary)
        object.__setattr__(self, "above", _checked_number(self.above, "threshold"))

    def __str__(self) -> str:
        return f"{_feature_text(self.feature, self.dictionary)} > {number_text(self.above)}"


@dataclass(frozen=True)
class Edit:
    """One change of one feature.

    Units   `value` is in activation units, or with `unit` "x" in multiples of the feature's largest activation, or
            with "r" in multiples of the mean residual norm at the site. For `scale` it is a factor without unit.
    Scope   all and prompt (what was said: the chat template's tokens stay as they are), generated, everywhere (the
            template's tokens too), last (the prompt's last token), template (only the template's tokens), or N:M,
            tokens of the rendered prompt, half-open. The attention sink is in none.

    Raises
        BadEdit  a part makes no sense; the sentence names the part.
    """

    feature: int
    mode: str
    value: float | None = None
    unit: str = ""
    scope: str = "all"
    condition: Condition | None = None
    dictionary: str | None = None

    def __post_init__(self) -> None:
        _check_feature(self.feature, self.dictionary)
        if self.mode not in MODES:
            raise BadEdit(f"The mode {self.mode!r} is unknown; use one of {', '.join(MODES)}, as in '{_EXAMPLE}'.")
        self._check_value()
        check_scope(self.scope)

    def _check_value(self) -> None:
        if self.mode in MODES_WITHOUT_VALUE:
            if self.value is not None or self.unit:
                raise BadEdit(f"The mode {self.mode} takes no value; write '{self.feature} {self.mode}'.")
            return
        if self.value is None:
            raise BadEdit(f"The mode {self.mode} needs a value, as in '{self.feature} {self.mode} 2'.")
        if self.unit not in UNITS:
            raise BadEdit(f"The unit {self.unit!r} is unknown; use x, r or none, as in '{_EXAMPLE}'.")
        if self.mode == "scale" and self.unit:
            raise BadEdit(f"A scale is a factor and takes no unit; write '{self.feature} scale 3'.")
        object.__setattr__(self, "value", _checked_number(self.value, "value"))

    def __str__(self) -> str:
        parts = [_feature_text(self.feature, self.dictionary), self.mode]
        if self.value is not None:
            parts.append(number_text(self.value) + self.unit)
        if self.scope != "all":
            parts.append(f"@{self.scope}")
        if self.condition is not None:
            parts.append(f"if {self.condition}")
        return " ".join(parts)


def parse_edit(text: str) -> Edit:
    """Read one edit.

    Raises
        BadEdit  naming the part that is wrong, with an example.
    """
    if not isinstance(text, str) or not text.strip():
        raise BadEdit(f"An edit is a line of text such as '{_EXAMPLE}'; this one is empty or no text.")
    if len(text) > _LONGEST_TEXT:
        raise BadEdit(f"An edit has {len(text):,} characters; at most {_LONGEST_TEXT} are read. Example: '{_EXAMPLE}'.")
    match = _WHOLE.fullmatch(text.strip())
    body, condition = (match["body"], match["condition"]) if match else (text, None)
    head, at, scope = body.partition("@")
    words = head.split()
    if not 2 <= len(words) <= 3:
        raise BadEdit(f"The edit {text!r} is not FEATURE MODE [VALUE[x|r]] [@SCOPE] [if ...]; example: '{_EXAMPLE}'.")
    dictionary, feature = parse_feature(words[0])
    value, unit = _parse_value(words[2]) if len(words) == 3 else (None, "")
    when = None if condition is None else _parse_condition(condition)
    return Edit(feature, words[1], value, unit, scope.strip() if at else "all", when, dictionary)


def check_scope(scope: str) -> None:
    """Agree that a scope is one of the grammar's.

    Raises
        BadEdit  it is not, or it is an empty range.
    """
    if scope in SCOPES:
        return
    match = _RANGE.fullmatch(scope)
    if match is None:
        raise BadEdit(f"The scope {scope!r} is unknown; use {', '.join(SCOPES)} or N:M, as in '8011 add 0.4r @2:9'.")
    if int(match[1]) >= int(match[2]):
        raise BadEdit(f"The scope {scope} holds no token; N:M is half-open and needs N below M, as in '@2:9'.")


def scope_range(scope: str, prompt_tokens: int) -> tuple[int, int]:
    """First position and the one after the last that a scope covers, for a prompt of so many tokens.

    Raises
        BadEdit  the scope reaches past the prompt.
    """
    endless = 2**40
    fixed = {
        "all": (0, endless),
        "everywhere": (0, endless),
        "template": (0, prompt_tokens),
        "prompt": (0, prompt_tokens),
        "generated": (prompt_tokens, endless),
        "last": (prompt_tokens - 1, prompt_tokens),
    }
    if scope in fixed:
        return fixed[scope]
    first, stop = (int(part) for part in scope.split(":"))
    if stop > prompt_tokens:
        raise BadEdit(
            f"The scope {scope} reaches past the prompt, which has {prompt_tokens} tokens; "
            f"use at most {first}:{prompt_tokens}, or @all."
        )
    return first, stop


def acts_in_template(scope: str) -> bool:
    """Whether an edit of this scope may act on a token that the chat template wrote: only if the scope names it."""
    return scope not in ("all", "prompt")


def acts_elsewhere(scope: str) -> bool:
    """Whether it may act on other tokens."""
    return scope != "template"


def number_text(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(value).removesuffix(".0")


def parse_feature(text: str) -> tuple[str | None, int]:
    """The dictionary, if it is named, and the number of a feature such as `8011` or `fine/8011`.

    Raises
        BadEdit  it is none.
    """
    name, slash, number = text.rpartition("/")
    if not _ID.fullmatch(number) or (slash and not _NAME.fullmatch(name)):
        raise BadEdit(f"The feature {text!r} is not [DICTIONARY/]ID with a whole number; example: '{_EXAMPLE}'.")
    return name or None, int(number)


def _parse_value(text: str) -> tuple[float, str]:
    unit = text[-1] if text[-1] in ("x", "r") else ""
    return _parse_number(text.removesuffix(unit), "value"), unit


def _parse_number(text: str, part: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise BadEdit(f"The {part} {text!r} is not a finite number; example: '{_EXAMPLE}'.")
    return float(text)


def _parse_condition(text: str) -> Condition:
    feature, above, threshold = text.strip().partition(">")
    if not above:
        raise BadEdit(f"The condition {text.strip()!r} is not FEATURE > VALUE; example: '{_EXAMPLE}'.")
    dictionary, number = parse_feature(feature.strip())
    return Condition(number, _parse_number(threshold.strip(), "threshold of the condition"), dictionary)


def _checked_number(value: float, part: str) -> float:
    try:
        number = float(value) + 0.0
    except (TypeError, ValueError, OverflowError) as error:
        raise BadEdit(f"The {part} {value!r} is not a number; example: '{_EXAMPLE}'.") from error
    if not math.isfinite(number) or abs(number) > LARGEST_VALUE:
        raise BadEdit(f"The {part} {number:g} must be finite and at most {LARGEST_VALUE:,.0f} in size; try '0.4r'.")
    return number


def _check_feature(feature: int, dictionary: str | None) -> None:
    if isinstance(feature, bool) or not isinstance(feature, int) or not 0 <= feature <= _LARGEST_ID:
        raise BadEdit(f"The feature {feature!r} is not a whole number from 0 on; example: '{_EXAMPLE}'.")
    if dictionary is not None and not _NAME.fullmatch(dictionary):
        raise BadEdit(
            f"The dictionary name {dictionary!r} may hold letters, digits, dots, dashes and underscores only."
        )


def _feature_text(feature: int, dictionary: str | None) -> str:
    return f"{dictionary}/{feature}" if dictionary else str(feature)
