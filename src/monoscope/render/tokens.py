"""Tokens as people can read them: the one place that turns token bytes into what is shown.

Token text is hostile input. What leaves here holds no control character, no direction mark and no half character:
each becomes a dim mark with its name. A line break is a part of its own, drawn as a sign and a real break. Special
tokens are chips. Bytes that only together make a character are one unit, with the largest value among them.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from monoscope.render.scale import level_class

# What a part may be: "space" stands outside of the shade, at either end; the others inside it.
SPACE, TEXT, MARK, BREAK, CHIP = "space", "text", "mark", "break", "chip"

_NAMES = {
    "\u00a0": "NBSP", "\u00ad": "SHY", "\u034f": "CGJ", "\u061c": "ALM", "\u115f": "HCF", "\u1160": "HJF",
    "\u17b4": "KIV", "\u17b5": "KIV", "\u180b": "FVS1", "\u180c": "FVS2", "\u180d": "FVS3", "\u180e": "MVS",
    "\u180f": "FVS4", "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\u200e": "LRM", "\u200f": "RLM",
    "\u2028": "LS", "\u2029": "PS", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO",
    "\u202e": "RLO", "\u202f": "NNBSP", "\u2060": "WJ", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI",
    "\u2069": "PDI", "\u3164": "HF", "\ufeff": "BOM", "\uffa0": "HHF",
}  # fmt: skip
# Format characters that have a shape of their own, such as the Arabic sign of a year.
_VISIBLE_FORMAT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_SPECIAL = re.compile(
    rb"<\|[A-Za-z0-9_.:\- ]{1,40}\|>|</?s>|<(?:bos|eos|pad|unk|mask|start_of_turn|end_of_turn)>"
    rb"|\[(?:CLS|SEP|PAD|MASK|UNK)\]"
)
_HEX = "\u27e8{:02X}\u27e9"
_MOST_COMBINING = 4


@dataclass(frozen=True)
class Part:
    """A piece of a unit; `kind` is space, text, mark, break or chip."""

    kind: str
    text: str


@dataclass(frozen=True)
class Unit:
    """One or more tokens that are shown as one. `raw` are their bytes, and all units' `raw` joined are the text's.

    `value` is the one of largest size among `values`, one for each token; `first` is the position of the first token.
    """

    raw: bytes
    parts: tuple[Part, ...]
    value: float
    values: tuple[float, ...]
    first: int

    @property
    def shown(self) -> str:
        """What is shown, as plain text."""
        return "".join(part.text for part in self.parts)


def display_units(
    tokens: Sequence[bytes], values: Sequence[float] = (), *, special: Sequence[bool] | None = None
) -> tuple[Unit, ...]:
    """The units of some tokens, in order.

    Edges  no values mean zeros. Without `special`, a token that is written like one (<|im_end|>, </s>) is one.
    """
    given = tuple(float(value) for value in values) or (0.0,) * len(tokens)
    if len(given) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens with {len(given)} values")
    marks = tuple(special) if special is not None else tuple(bool(_SPECIAL.fullmatch(token)) for token in tokens)
    units, start = [], 0
    while start < len(tokens):
        stop = _stop_of_unit(tokens, marks, start)
        units.append(_unit(tokens[start:stop], given[start:stop], start, marks[start]))
        start = stop
    return tuple(units)


def text_parts(text: str) -> tuple[Part, ...]:
    """The parts of a text that comes without tokens, such as a title or a streamed answer."""
    return _parts(text.encode("utf-8", "surrogatepass"), active=False, leading=False)


def plain_text(text: str) -> str:
    """A text safe to show as one line: no control character, no direction mark, no break."""
    return "".join(" " if part.kind == BREAK else part.text for part in text_parts(text))


def around(units: Sequence[Unit], most: int) -> tuple[Sequence[Unit], bool, bool]:
    """At most `most` units around the strongest, and whether something was left out before and after them."""
    if len(units) <= most:
        return units, False, False
    peak = max(range(len(units)), key=lambda i: abs(units[i].value))
    start = min(max(0, peak - (2 * most) // 3), len(units) - most)
    return units[start : start + most], start > 0, start + most < len(units)


def units_html(
    units: Sequence[Unit],
    largest: float,
    *,
    links: str | None = None,
    chosen: int | None = None,
    mark: int | None = None,
) -> str:
    """Units as HTML, every text escaped: bare text where nothing fires, `<span>` with level and hover text elsewhere.

    `links`, when given, is an address ending in a parameter to which each unit's position is added; `chosen` is the
    position whose link is the current one. The unit that holds the token `mark` is marked where it does not fire.
    """
    return "".join(_unit_html(unit, largest, links, chosen, mark) for unit in units)


def told_html(units: Sequence[Unit], told: Sequence[tuple[str, str]], links: str) -> str:
    """Units as links, each with a class and a hover text of its own; `links` ends where a position is added."""
    found = []
    for unit, (shade, hover) in zip(units, told, strict=True):
        before, inside, breaks = _around_shade(unit)
        if inside:
            address = f"{html.escape(links)}{unit.first}"
            inside = f'<a class="{html.escape(shade)}" href="{address}" data-h="{html.escape(hover)}">{inside}</a>'
        found.append(before + inside + breaks)
    return "".join(found)


def units_json(units: Sequence[Unit], largest: float) -> list[dict[str, object]]:
    """Units for a script: `c` the class, `p` the parts as [kind, text], `h` the hover text, `i` the position."""
    return [
        {
            "i": unit.first,
            "c": level_class(unit.value, largest),
            "p": [[part.kind, part.text] for part in unit.parts],
            "v": round(unit.value, 4),
            "h": hover_text(unit, largest) if unit.value else "",
        }
        for unit in units
    ]


def parts_html(parts: Sequence[Part]) -> str:
    """Parts as HTML, escaped."""
    return "".join(_part_html(part) for part in parts)


def lone_html(raw: bytes) -> str:
    """A token out of its context: spaces alone are seen, and nothing breaks the line."""
    parts = _parts(raw, active=raw.strip(b" ") == b"", leading=True)
    if _SPECIAL.fullmatch(raw):
        parts = (Part(CHIP, raw.decode()),)
    return parts_html(parts).replace("<br>", "")


def hover_text(unit: Unit, largest: float) -> str:
    """What a unit says when pointed at."""
    shown = "".join(part.text for part in unit.parts)
    text = f"\u201c{shown}\u201d  {unit.value:.2f}"
    if largest > 0:
        text += f"  \u00b7  {100 * abs(unit.value) / largest:.0f} % of the largest"
    if len(unit.values) > 1:
        text += "  \u00b7  bytes " + ", ".join(f"{value:.2f}" for value in unit.values)
    return text + f"  \u00b7  token {unit.first}"


def _stop_of_unit(tokens: Sequence[bytes], marks: Sequence[bool], start: int) -> int:
    raw, stop = tokens[start], start + 1
    if marks[start]:
        return stop
    while stop < len(tokens) and not marks[stop]:
        tail = _open_tail(raw)
        if not tail or not _continues(tail, tokens[stop]):
            break
        raw, stop = raw + tokens[stop], stop + 1
    return stop


def _open_tail(raw: bytes) -> bytes:
    """The last bytes, where they begin a character that is not whole yet."""
    for length in range(1, min(3, len(raw)) + 1):
        if raw[-length] & 0xC0 != 0x80:
            return raw[-length:] if _is_open(raw[-length:]) else b""
    return b""


def _is_open(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.start == 0 and error.reason == "unexpected end of data"
    return False


def _continues(tail: bytes, token: bytes) -> bool:
    if not token:
        return True
    together = tail + token[:1]
    if _is_open(together):
        return True
    try:
        together.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unit(tokens: Sequence[bytes], values: Sequence[float], first: int, special: bool) -> Unit:
    raw = b"".join(tokens)
    value = max(values, key=abs)
    if special:
        parts = (Part(CHIP, plain_text(raw.decode(errors="surrogateescape"))),)
    else:
        parts = _parts(raw, active=value != 0, leading=True)
    return Unit(raw, parts, value, tuple(values), first)


def _parts(raw: bytes, *, active: bool, leading: bool) -> tuple[Part, ...]:
    """The parts of some bytes. `leading`: a first space, or an indent after a break, stands outside of the shade."""
    text = raw.decode("utf-8", "surrogateescape")
    if not text and active:
        return (Part(MARK, "\u27e8empty\u27e9"),)
    if active and text.strip(" ") == "" and leading:
        return (Part(TEXT, "\u00b7" * len(text)),)
    parts: list[Part] = []
    body = text
    if leading and text.startswith(" "):
        body = text.lstrip(" ")
        parts.append(Part(SPACE, text[: len(text) - len(body)]))
    run, combining = "", 0
    for character in body:
        combining = combining + 1 if unicodedata.combining(character) else 0
        part = _mark(character, combining)
        if part is None:
            run += character
            continue
        if run:
            parts.append(Part(TEXT, run))
            run = ""
        parts.append(part)
    if not run:
        return tuple(parts)
    indents = leading and not run.strip(" ") and parts and parts[-1].kind == BREAK
    return (*parts, Part(SPACE if indents else TEXT, run))


def _mark(character: str, combining: int) -> Part | None:
    """The mark that stands for a character that must not be shown as it is; None for all others."""
    code = ord(character)
    if character == "\n":
        return Part(BREAK, "\u23ce")
    if character == "\t":
        return Part(MARK, "\u21e5")
    if character in _NAMES:
        return Part(MARK, f"\u27e8{_NAMES[character]}\u27e9")
    if 0xDC80 <= code <= 0xDCFF:
        return Part(MARK, _HEX.format(code - 0xDC00))
    category = unicodedata.category(character)
    if category == "Cc":
        return Part(MARK, _HEX.format(code))
    hidden = category in ("Cf", "Cs", "Cn") and character not in _VISIBLE_FORMAT
    if hidden or combining > _MOST_COMBINING:
        return Part(MARK, f"\u27e8U+{code:04X}\u27e9")
    return None


def _part_html(part: Part) -> str:
    text = html.escape(part.text)
    if part.kind == MARK:
        return f'<i class="z">{text}</i>'
    if part.kind == BREAK:
        return f'<i class="z">{text}</i><br>'
    if part.kind == CHIP:
        return f'<b class="chip">{text}</b>'
    return text


def _unit_html(unit: Unit, largest: float, links: str | None, chosen: int | None, mark: int | None) -> str:
    shade = level_class(unit.value, largest)
    before, inside, breaks = _around_shade(unit)
    if links is not None and inside:
        wanted = f' class="{shade}"' if shade else ""
        current = ' aria-current="true"' if chosen == unit.first else ""
        return f'{before}<a{wanted}{current} href="{html.escape(links)}{unit.first}">{inside}</a>{breaks}'
    if not shade:
        if mark is not None and inside and unit.first <= mark < unit.first + len(unit.values):
            inside = f'<span class="here">{inside}</span>'
        return before + inside + breaks
    hover = html.escape(hover_text(unit, largest))
    return f'{before}<span class="{shade}" data-h="{hover}" data-v="{unit.value:.4g}">{inside}</span>{breaks}'


def _around_shade(unit: Unit) -> tuple[str, str, str]:
    """What stands before, in and after the shade; a last break falls after it, so that none hangs over a line's end."""
    first = 1 if unit.parts and unit.parts[0].kind == SPACE else 0
    last = len(unit.parts) - (1 if len(unit.parts) > first and unit.parts[-1].kind == SPACE else 0)
    inside, after = parts_html(unit.parts[first:last]), parts_html(unit.parts[last:])
    if inside.endswith("<br>"):
        inside, after = inside.removesuffix("<br>"), "<br>" + after
    return parts_html(unit.parts[:first]), inside, after
