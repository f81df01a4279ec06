from pathlib import Path

import pytest

import monoscope
from monoscope.render import scale

STATIC = Path(monoscope.__file__).parent / "serve" / "static"


@pytest.mark.parametrize(
    ("value", "largest", "wanted"),
    [(0.0, 8.0, ""), (8.0, 8.0, "p8"), (1e-9, 8.0, "p1"), (-8.0, 8.0, "n8"), (4.0, 8.0, "p6"), (99.0, 8.0, "p8"),
     (float("nan"), 8.0, ""), (1.0, 0.0, "p8")],
)  # fmt: skip
def test_levels(value, largest, wanted):
    # 8 * 0.5 ** 0.6 = 5.28, so half of the largest has level 6.
    assert scale.level_class(value, largest) == wanted


def test_levels_never_fall_as_values_grow():
    levels = [scale.level(value / 100, 1.0) for value in range(101)]
    assert levels == sorted(levels) and set(levels) == set(range(9))


def test_the_style_sheet_is_the_one_made_from_the_table():
    assert (STATIC / "colours.css").read_text() == scale.colours_css()


def test_minus_is_a_minus():
    assert scale.signed(-1.4) == "\u22121.40"
    assert scale.signed(2.0, 1) == "+2.0"
    assert scale.signed(-0.001) == "+0.00"


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    lin = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]


def _contrast(one, other):
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("theme", "shades"),
    [
        (scale.LIGHT, scale.POSITIVE_LIGHT + scale.NEGATIVE_LIGHT),
        (scale.DARK, scale.POSITIVE_DARK + scale.NEGATIVE_DARK),
    ],
)
def test_text_can_be_read_on_every_ground(theme, shades):
    assert min(_contrast(theme["ink"], shade) for shade in shades) >= 4.5
    for text in ("ink", "dim", "accent", "warn", "good"):
        assert _contrast(theme[text], theme["ground"]) >= 4.5, text
        assert _contrast(theme[text], theme["raised"]) >= 4.5, text
    assert min(_contrast(theme["control"], theme[ground]) for ground in ("ground", "raised")) >= 3
    assert _contrast(theme["on-accent"], theme["accent"]) >= 4.5
