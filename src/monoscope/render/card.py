"""A feature as a card of HTML that stands alone, for notebooks: its style comes with it, and no script."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from monoscope.render.scale import (
    DARK,
    LEVELS,
    LIGHT,
    NEGATIVE_DARK,
    NEGATIVE_LIGHT,
    POSITIVE_DARK,
    POSITIVE_LIGHT,
    signed,
)
from monoscope.render.svg import sparkline
from monoscope.render.tokens import Unit, around, plain_text, units_html

_SNIPPET_UNITS = 40


@dataclass(frozen=True)
class Card:
    """What a card shows. `density` is the share of tokens; `examples` are units, strongest first."""

    feature: int
    label: str
    density: float
    max_activation: float
    counts: tuple[int, ...]
    examples: tuple[tuple[Unit, ...], ...] = ()
    raises: tuple[tuple[str, float], ...] = ()
    why: str = ""


def card_html(card: Card) -> str:
    """One card."""
    return f'<div class="ms-cards">{_style()}{_body(card)}</div>'


def cards_html(cards: Sequence[Card], title: str = "") -> str:
    """Several cards under a title."""
    head = f"<p><b>{html.escape(plain_text(title))}</b></p>" if title else ""
    return f'<div class="ms-cards">{_style()}{head}{"".join(_body(card) for card in cards)}</div>'


def density_text(density: float) -> str:
    """A share of tokens for people: 0.031 %."""
    if density <= 0:
        return "0 %"
    return f"{100 * density:.2g} %" if density < 0.1 else f"{100 * density:.0f} %"


def snippet_html(units: Sequence[Unit], largest: float, most: int = _SNIPPET_UNITS) -> str:
    """The strongest place of an example on one line."""
    shown, before, after = around(units, most)
    text = units_html(shown, largest).replace("<br>", " ")
    text = text.lstrip(" ") if before else text
    return f"{'… ' if before else ''}{text}{' …' if after else ''}"


def _body(card: Card) -> str:
    examples = "".join(
        f'<p class="ex" dir="auto">{snippet_html(units, card.max_activation)}</p>' for units in card.examples
    )
    raised = ", ".join(f"{html.escape(plain_text(text))} {signed(value)}" for text, value in card.raises)
    why = f'<span class="dim">{html.escape(plain_text(card.why))}</span>' if card.why else ""
    return (
        f'<div class="card"><b>{html.escape(plain_text(card.label)) or f"feature {card.feature}"}</b> '
        f'<span class="dim">feature {card.feature} · fires on {density_text(card.density)} · largest '
        f"{card.max_activation:.2f}</span> {sparkline(card.counts)} {why}{examples}"
        + (f'<p class="dim">raises {raised}</p>' if raised else "")
        + "</div>"
    )


def _style() -> str:
    base = (
        ".ms-cards .card{border-top:1px solid var(--line);padding:.5em 0;color:var(--ink)}"
        ".ms-cards{background:var(--ground);padding:0 .6em;font:14px system-ui,sans-serif}"
        ".ms-cards .dim,.ms-cards .z{color:var(--dim);font-style:normal}"
        ".ms-cards .ex{font:12.5px/1.75 ui-monospace,Menlo,Consolas,monospace;margin:.2em 0;unicode-bidi:plaintext;"
        "white-space:pre-wrap}"
        ".ms-cards .chip{border:1px solid var(--line);border-radius:3px;font-weight:400;padding:0 .2em}"
        ".ms-cards .spark{width:60px;height:16px;fill:var(--bar);vertical-align:middle}"
    )
    shades = "".join(f".ms-cards .{s}{n}{{background:var(--{s}{n})}}" for s in "pn" for n in range(1, LEVELS + 1))
    light = _variables(LIGHT, POSITIVE_LIGHT, NEGATIVE_LIGHT)
    dark = _variables(DARK, POSITIVE_DARK, NEGATIVE_DARK)
    # Notebooks say in their own ways that they are dark; the system's wish is the fallback.
    return (
        f"<style>.ms-cards{{{light}}}@media(prefers-color-scheme:dark){{.ms-cards{{{dark}}}}}"
        f'[data-jp-theme-light="false"] .ms-cards,.vscode-dark .ms-cards{{{dark}}}'
        f'[data-jp-theme-light="true"] .ms-cards,.vscode-light .ms-cards{{{light}}}{base}{shades}</style>'
    )


def _variables(named: dict[str, str], positive: Sequence[str], negative: Sequence[str]) -> str:
    pairs = [*named.items(), *((f"p{n}", c) for n, c in enumerate(positive, 1))]
    pairs += [(f"n{n}", c) for n, c in enumerate(negative, 1)]
    return "".join(f"--{name}:{colour};" for name, colour in pairs)
