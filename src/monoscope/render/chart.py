"""Line and point charts for pages and reports: plain numbers in, SVG or PNG out.

The only room that draws with Altair, an optional extra; no browser and no network are needed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monoscope.core.artifact import replacing
from monoscope.core.errors import BadRequest, Unavailable
from monoscope.render.scale import LIGHT

# Okabe and Ito's colours, which colour-blind readers can tell apart; yellow is left out, it is too pale on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f7f7f")
# From pale to dark, for series that have an order.
_PALE, _DARK = (158, 202, 225), (8, 48, 107)
_MARKS = ("line", "points", "both")
_BAND, _THIN = 0.18, 1.6


@dataclass(frozen=True)
class Series:
    """Points in the order in which a line joins them.

    `low` and `high`, where given, are drawn as a band around a line and as bars through points. Series of one name
    share a colour and an entry in the legend. Points that cannot be drawn (not finite, or not above 0 on a logarithmic
    axis) are left out.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    mark: str = "both"
    dashed: bool = False

    def __post_init__(self) -> None:
        """Check that the lengths fit.

        Raises
            BadRequest  they do not, or the mark is unknown.
        """
        if self.mark not in _MARKS:
            raise BadRequest(f"A series cannot be drawn as {self.mark!r}; choose one of {', '.join(_MARKS)}.")
        lengths = {len(self.x), len(self.y), len(self.low) or len(self.x), len(self.high) or len(self.x)}
        if len(lengths) > 1 or bool(self.low) != bool(self.high):
            raise BadRequest(f"The series {self.name!r} has x, y, low and high of different lengths.")


@dataclass(frozen=True)
class Chart:
    """One panel. `ordered` colours the series from pale to dark; `x_format` and `y_format` are as in d3 (`~s`, `.2f`).

    Sizes are those of the plotting area in pixels.
    """

    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    x_log: bool = False
    y_log: bool = False
    x_format: str = "~s"
    y_format: str = "~g"
    ordered: bool = False
    legend: str = ""
    width: int = 380
    height: int = 260


def chart_svg(*panels: Chart, columns: int = 2, title: str = "") -> str:
    """The panels, row by row, as the text of one SVG file.

    Raises
        Unavailable  the extra `plots` is not installed.
    """
    return _convert("vegalite_to_svg", panels, columns, title)


def chart_png(*panels: Chart, columns: int = 2, title: str = "", scale: float = 2.0) -> bytes:
    """The same as the bytes of a PNG file; `scale` is pixels of the picture to pixels of the panel."""
    return _convert("vegalite_to_png", panels, columns, title, scale=scale)


def write_chart(path: Path, *panels: Chart, columns: int = 2, title: str = "") -> None:
    """Write a picture, SVG or PNG by the ending of `path`, whole or not at all.

    Raises
        BadRequest   the ending is another.
        Unavailable  the extra `plots` is not installed.
    """
    if path.suffix not in (".svg", ".png"):
        raise BadRequest(f"A chart is written as .svg or .png, not as {path.name}.")
    svg = path.suffix == ".svg"
    found = (
        chart_svg(*panels, columns=columns, title=title) if svg else chart_png(*panels, columns=columns, title=title)
    )
    with replacing(path) as aside:
        aside.write_bytes(found.encode() if isinstance(found, str) else found)


def can_draw() -> bool:
    """Is the extra `plots` installed?"""
    try:
        _libraries()
    except Unavailable:
        return False
    return True


def _libraries() -> tuple[Any, Any]:
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise Unavailable(
            "Charts need the libraries altair and vl-convert-python; install them with "
            "`pip install 'monoscope[plots]'`."
        ) from error
    return altair, vl_convert


def _convert(how: str, panels: Sequence[Chart], columns: int, title: str, **settings: Any) -> Any:
    altair, converter = _libraries()
    drawn = [_panel(altair, panel) for panel in panels]
    whole = altair.concat(*drawn, columns=columns).resolve_scale(color="independent")
    whole = whole.configure(background="white", font="sans-serif").configure_view(stroke=LIGHT["line"])
    if title:
        whole = whole.properties(title=title)
    return getattr(converter, how)(whole.to_json(), **settings)


def _panel(altair: Any, panel: Chart) -> Any:
    names = list(dict.fromkeys(series.name for series in panel.series))
    colour = altair.Color(
        "series:N",
        scale=altair.Scale(domain=names, range=_colours(len(names), panel.ordered)),
        legend=altair.Legend(title=panel.legend or None, symbolOpacity=1) if len(names) > 1 else None,
        sort=names,
    )
    axes = {
        "x": _axis(altair.X, altair, "x:Q", panel.x_title, panel.x_log, panel.x_format),
        "y": _axis(altair.Y, altair, "y:Q", panel.y_title, panel.y_log, panel.y_format),
    }
    layers = [layer for series in panel.series for layer in _layers(altair, series, panel, {**axes, "color": colour})]
    return altair.layer(*layers).properties(title=panel.title, width=panel.width, height=panel.height)


def _axis(kind: Any, altair: Any, field: str, title: str, log: bool, form: str) -> Any:  # noqa: PLR0913
    scale = altair.Scale(type="log", nice=False, padding=12) if log else altair.Scale(zero=False, padding=12)
    axis = altair.Axis(format=form, gridColor=LIGHT["line"], tickCount=6, labelOverlap=True)
    return kind(field, title=title, scale=scale, axis=axis)


def _layers(altair: Any, series: Series, panel: Chart, channels: dict[str, Any]) -> list[Any]:
    chart = altair.Chart(altair.Data(values=_rows(series, panel)))
    layers = []
    if series.low:
        spread = {**channels, "y": channels["y"].copy(), "y2": altair.Y2("high:Q")}
        spread["y"].shorthand = "low:Q"
        marked = chart.mark_rule() if series.mark == "points" else chart.mark_area(opacity=_BAND, line=False)
        layers.append(marked.encode(**spread))
    if series.mark != "points":
        dash = [5, 4] if series.dashed else [1, 0]
        order = altair.Order("order:Q")
        layers.append(chart.mark_line(strokeWidth=_THIN, strokeDash=dash).encode(**channels, order=order))
    if series.mark != "line":
        layers.append(chart.mark_point(filled=True, size=36, opacity=1).encode(**channels))
    return layers


def _rows(series: Series, panel: Chart) -> list[dict[str, Any]]:
    rows = []
    for at, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        row = {"series": series.name, "order": at, "x": float(x), "y": float(y)}
        if series.low:
            row |= {"low": float(series.low[at]), "high": float(series.high[at])}
        if _drawable(row, panel):
            rows.append(row)
    return rows


def _drawable(row: dict[str, Any], panel: Chart) -> bool:
    upright = [row[name] for name in ("y", "low", "high") if name in row]
    finite = all(math.isfinite(value) for value in (row["x"], *upright))
    return finite and (row["x"] > 0 or not panel.x_log) and (min(upright) > 0 or not panel.y_log)


def _colours(count: int, ordered: bool) -> list[str]:
    if not ordered:
        return [COLOURS[number % len(COLOURS)] for number in range(count)]
    shares = [number / max(1, count - 1) for number in range(count)]
    mixed = [[round(a + share * (b - a)) for a, b in zip(_PALE, _DARK, strict=True)] for share in shares]
    return ["#" + "".join(f"{part:02x}" for part in colour) for colour in mixed]
