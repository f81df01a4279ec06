"""Values to colour levels, and the one table of colours.

A level is 1 to 8 for each sign, so that a value that is not 0 is always seen:

    level = ceil(8 * (|value| / max) ** 0.6)

The colours are straight lines in OKLCH of fixed hue, one set for light ground and one for dark, checked for contrast
and for colour-blind readers. `colours_css()` is the only place from which style sheets get them.
"""

import math

LEVELS = 8
EXPONENT = 0.6

LIGHT = {
    "ground": "#fbfaf8",
    "ink": "#181b1f",
    "dim": "#5b626b",
    "line": "#dcdad5",
    "control": "#83878d",
    "raised": "#ffffff",
    "accent": "#0b57a8",
    "on-accent": "#ffffff",
    "bar": "#565d66",
    "warn": "#8a4b00",
    "good": "#2c6e49",
}
DARK = {
    "ground": "#121417",
    "ink": "#f0eeeb",
    "dim": "#a3a9b1",
    "line": "#30353b",
    "control": "#737a83",
    "raised": "#1a1d21",
    "accent": "#82b7f5",
    "on-accent": "#10141a",
    "bar": "#9da3ac",
    "warn": "#f0b46a",
    "good": "#7fc79a",
}
POSITIVE_LIGHT = ("#feece0", "#ffdec6", "#fecfad", "#fcc194", "#fab27b", "#f8a360", "#f49441", "#f1840b")
NEGATIVE_LIGHT = ("#e7f1fe", "#d5e7fe", "#c3dcfe", "#b0d2ff", "#9dc8fe", "#8bbdfd", "#78b2fc", "#65a7fa")
POSITIVE_DARK = ("#342117", "#432716", "#512c15", "#603113", "#6f360f", "#7f3b08", "#8e4001", "#9c4700")
NEGATIVE_DARK = ("#1d2638", "#202e49", "#22365b", "#243e6e", "#274581", "#294d94", "#2a55a8", "#2c5dbd")
# For groups on the map; after Okabe and Ito, each at least 3 : 1 against the ground.
GROUPS_LIGHT = ("#0072b2", "#b8500f", "#00805e", "#a3487f", "#5b6fb5", "#8a6d00", "#00798c", "#7a5b48")
GROUPS_DARK = ("#5aaee6", "#f0955a", "#4fc3a1", "#dd8fbf", "#9aa9e8", "#d9b64a", "#4fc0cf", "#c3a58f")


def level(value: float, largest: float) -> int:
    """The level of a value, 0 only for 0 (and for what is no number). Values above `largest` have level 8."""
    if value == 0 or not math.isfinite(value):
        return 0
    if not largest > 0:
        return LEVELS
    share = min(1.0, abs(value) / largest)
    return min(LEVELS, max(1, math.ceil(LEVELS * share**EXPONENT)))


def level_class(value: float, largest: float) -> str:
    """The class that shades a value: p1 to p8, n1 to n8, or nothing for 0."""
    found = level(value, largest)
    return f"{'p' if value > 0 else 'n'}{found}" if found else ""


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, and a true minus."""
    text = f"{abs(value):.{digits}f}"
    return f"\N{MINUS SIGN}{text}" if value < 0 and float(text) else f"+{text}"


def colours_css() -> str:
    """The style sheet `colours.css`, whole."""
    light = _variables({**LIGHT, **_groups(GROUPS_LIGHT)}, POSITIVE_LIGHT, NEGATIVE_LIGHT)
    dark = _variables({**DARK, **_groups(GROUPS_DARK)}, POSITIVE_DARK, NEGATIVE_DARK)
    rules = [
        "/* Made by monoscope.render.scale.colours_css(); a test holds this file to it. */",
        f":root {{\n  color-scheme: light dark;\n{light}}}",
        f"@media (prefers-color-scheme: dark) {{\n  :root {{\n{_indented(dark)}  }}\n}}",
    ]
    for sign in "pn":
        rules += [f".{sign}{n} {{ background: var(--{sign}{n}); }}" for n in range(1, LEVELS + 1)]
    low, high = range(1, LEVELS - 1), range(LEVELS - 1, LEVELS + 1)
    rules += [
        f"{_all('n', range(1, LEVELS + 1))} {{ text-decoration: underline dotted; text-underline-offset: 0.2em; }}",
        "@media (forced-colors: active) {",
        f"  {_all('pn', low)} {{ text-decoration: underline; text-decoration-thickness: 2px; }}",
        f"  {_all('pn', high)} {{ text-decoration: underline; text-decoration-thickness: 4px; }}",
        "}",
    ]
    return "\n".join(rules) + "\n"


def _groups(colours: tuple[str, ...]) -> dict[str, str]:
    return {f"g{n}": colour for n, colour in enumerate(colours)}


def _all(signs: str, levels: range) -> str:
    return ", ".join(f".{sign}{n}" for sign in signs for n in levels)


def _variables(named: dict[str, str], positive: tuple[str, ...], negative: tuple[str, ...]) -> str:
    pairs = [
        *named.items(),
        *((f"p{n}", colour) for n, colour in enumerate(positive, start=1)),
        *((f"n{n}", colour) for n, colour in enumerate(negative, start=1)),
    ]
    return "".join(f"  --{name}: {colour};\n" for name, colour in pairs)


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
