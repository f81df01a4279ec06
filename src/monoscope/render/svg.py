"""Small pictures drawn by the server: a histogram with a logarithmic height, and its thumbnail."""

import html
import math
from collections.abc import Sequence

_FLOOR = 0.06


def histogram(edges: Sequence[float], counts: Sequence[int], *, width: int = 360, height: int = 96) -> str:
    """Bars of log(1 + count), lowest values on the left. `data-lo` and `data-hi` tell a script the value axis."""
    bars = len(counts)
    if not bars or not any(counts):
        return ""
    step = width / bars
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
        f'data-lo="{edges[0]:.6g}" data-hi="{edges[-1]:.6g}" preserveAspectRatio="none">'
        f'{"".join(shapes)}<line class="at" x1="-9" x2="-9" y1="0" y2="{height}"/></svg>'
    )


def sparkline(counts: Sequence[int], *, bars: int = 12, width: int = 60, height: int = 16) -> str:
    """The same in a thumbnail of one path; decoration, as the numbers stand beside it."""
    merged = _merge(counts, bars)
    if not any(merged):
        return f'<svg class="spark" viewBox="0 0 {width} {height}" aria-hidden="true"></svg>'
    step = width / len(merged)
    path = "".join(
        f"M{number * step:.1f} {height}v-{max(share * height, 0.1):.1f}h{step - 1:.1f}V{height}z"
        for number, share in enumerate(_heights(merged))
        if share
    )
    return f'<svg class="spark" viewBox="0 0 {width} {height}" aria-hidden="true"><path d="{path}"/></svg>'


def _heights(counts: Sequence[int]) -> list[float]:
    """Heights in 0 to 1; a count above 0 is never drawn as nothing."""
    top = math.log1p(max(counts))
    return [max(_FLOOR, math.log1p(count) / top) if count > 0 else 0.0 for count in counts]


def _merge(counts: Sequence[int], bars: int) -> list[int]:
    if len(counts) <= bars:
        return list(counts)
    cuts = [round(number * len(counts) / bars) for number in range(bars + 1)]
    return [sum(counts[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
