"""Small pictures drawn by the server: a histogram with a logarithmic height, and its thumbnail."""

import html
import math
from collections.abc import Sequence

_FLOOR = 0.06
_BAR_WIDTH, _BAR_HEIGHT = 120, 8
_SPARK_BARS, _SPARK_WIDTH, _SPARK_HEIGHT = 12, 60, 16


def histogram(edges: Sequence[float], counts: Sequence[int], *, width: int = 360, height: int = 96) -> str:
    """Bars of log(1 + count) over equally wide bins, lowest values on the left; empty bins at both ends are left out.

    `data-edges` tells a script where a value stands.
    """
    first, last = filled(counts)
    if first == last:
        return ""
    edges, counts = edges[first : last + 1], counts[first:last]
    step = width / len(counts)
    shapes = []
    for number, share in enumerate(_heights(counts)):
        if not share:
            continue
        tall = share * height
        told = f"{edges[number]:.2f} to {edges[number + 1]:.2f}: {counts[number]:,}"
        shapes.append(
            f'<rect x="{number * step + 0.5:.2f}" y="{height - tall:.2f}" width="{max(step - 1, 0.5):.2f}" '
            f'height="{tall:.2f}"><title>{html.escape(told)}</title></rect>'
        )
    told = f"Histogram of {sum(counts):,} activations from {edges[0]:.2f} to {edges[-1]:.2f}, height on a log scale"
    return (
        f'<svg class="hist" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(told)}" '
        f'data-edges="{" ".join(f"{edge:.4g}" for edge in edges)}" preserveAspectRatio="none">'
        f'{"".join(shapes)}<line class="at" x1="-9" x2="-9" y1="0" y2="{height}"/></svg>'
    )


def filled(counts: Sequence[int]) -> tuple[int, int]:
    """The first bin that holds something, and the one after the last; twice 0 when none does."""
    held = [number for number, count in enumerate(counts) if count > 0]
    return (held[0], held[-1] + 1) if held else (0, 0)


def sparkline(counts: Sequence[int]) -> str:
    """The same in a thumbnail of one path; decoration, as the numbers stand beside it."""
    path = sparkline_path(counts)
    inside = f'<path d="{path}"/>' if path else ""
    return f'<svg class="spark" viewBox="0 0 {_SPARK_WIDTH} {_SPARK_HEIGHT}" aria-hidden="true">{inside}</svg>'


def sparkline_path(counts: Sequence[int]) -> str:
    """The path of a thumbnail of 60 by 16; empty where nothing was counted."""
    merged = _merge(counts[slice(*filled(counts))], _SPARK_BARS)
    if not merged:
        return ""
    step = _SPARK_WIDTH / len(merged)
    return "".join(
        f"M{number * step:.1f} {_SPARK_HEIGHT}v-{share * _SPARK_HEIGHT:.1f}h{step - 1:.1f}V{_SPARK_HEIGHT}z"
        for number, share in enumerate(_heights(merged))
        if share
    )


def share_bar(share: float, mark: float | None = None) -> str:
    """A lying bar for a share of 1, and a line where `mark` stands; decoration, as the number stands beside it."""
    wide = _BAR_WIDTH * min(1.0, max(0.0, share))
    line = (
        "" if mark is None else f'<path class="at" d="M{_BAR_WIDTH * min(1.0, max(0.0, mark)):.1f} 0v{_BAR_HEIGHT}"/>'
    )
    return (
        f'<svg class="share" viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{wide:.1f}" height="{_BAR_HEIGHT}"/>{line}</svg>'
    )


def _heights(counts: Sequence[int]) -> list[float]:
    """Heights in 0 to 1; a count above 0 is never drawn as nothing."""
    top = math.log1p(max(counts))
    return [max(_FLOOR, math.log1p(count) / top) if count > 0 else 0.0 for count in counts]


def _merge(counts: Sequence[int], bars: int) -> list[int]:
    if len(counts) <= bars:
        return list(counts)
    cuts = [round(number * len(counts) / bars) for number in range(bars + 1)]
    return [sum(counts[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
