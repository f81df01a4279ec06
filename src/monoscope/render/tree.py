"""A tree drawn from left to right, one column for each generation: plain values in, SVG out."""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from monoscope.render.scale import LIGHT

_ROW, _HEAD, _EDGE = 19, 54, 16
# Letters are as wide as those of the widest common fallback (DejaVu Sans).
_LETTER, _HEAD_LETTER, _LEAST_GAP = 7.0, 7.6, 60
_SMALLEST, _LARGEST = 2.2, 7.5


@dataclass(frozen=True)
class Twig:
    """A node and what grows from it.

    `size` in 0 to 1 is the node's area, `bond` in 0 to 1 the strength of the line to its parent. `note` stands dim
    behind the label. `mark` is "" for a filled node, "hollow" or "dashed". `more` counts children that are not drawn.
    """

    label: str
    note: str = ""
    size: float = 1.0
    bond: float = 1.0
    mark: str = ""
    more: int = 0
    told: str = ""
    children: tuple["Twig", ...] = field(default=())


@dataclass(frozen=True)
class _Placed:
    twig: Twig
    level: int
    y: float
    children: tuple["_Placed", ...]
    more_y: float | None


def tree_svg(root: Twig, heads: Sequence[str], *, title: str = "", legend: Sequence[tuple[str, str]] = ()) -> str:
    """The tree with a line of text over each column; `legend` pairs a mark with its meaning.

    A node lies in the middle of its children, and no two leaves share a row. Hovering shows `told`.
    """
    placed, rows = _place(root, 0, 0)
    nodes = list(_walk(placed))
    columns = _columns(nodes, heads)
    top = _HEAD + (22 if title else 0)
    width = columns[-1] + _EDGE
    height = top + rows * _ROW + _EDGE + (24 if legend else 0)
    parts = [_text(_EDGE, 24, title, "title")] if title else []
    parts += [_text(x, top - 22, head, "head") for x, head in zip(columns, heads, strict=False)]
    parts += [_bonds(node, columns, top) for node in nodes]
    parts += [_node(node, columns, top) for node in nodes]
    parts += _legend(legend, height - 14)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{html.escape(title or root.label)}">'
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="{LIGHT["raised"]}"/>{"".join(parts)}</svg>\n'
    )


_STYLE = (
    f"text{{font:12px system-ui,'Helvetica Neue',Arial,sans-serif;fill:{LIGHT['ink']}}}"
    f".title{{font-size:15px;font-weight:600}}.head{{font-weight:600;fill:{LIGHT['dim']}}}"
    f".note{{fill:{LIGHT['dim']};font-size:11px}}.bond{{fill:none;stroke:{LIGHT['control']}}}"
    f".node{{fill:{LIGHT['accent']};stroke:{LIGHT['accent']};stroke-width:1.3}}.hollow{{fill:{LIGHT['raised']}}}"
    f".dashed{{fill:{LIGHT['raised']};stroke-dasharray:2 2}}"
)


def _place(twig: Twig, level: int, row: int) -> tuple[_Placed, int]:
    """Where a node and all below it lie, in rows from `row` on, and the first row that is left free."""
    first, children = row, []
    for child in twig.children:
        placed, row = _place(child, level + 1, row)
        children.append(placed)
    more_y = None
    if twig.more:
        more_y, row = row + 0.5, row + 1
    if row == first:
        return _Placed(twig, level, row + 0.5, (), None), row + 1
    ends = [child.y for child in children] + ([more_y] if more_y is not None else [])
    return _Placed(twig, level, (ends[0] + ends[-1]) / 2, tuple(children), more_y), row


def _walk(node: _Placed) -> Iterator[_Placed]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _columns(nodes: list[_Placed], heads: Sequence[str]) -> list[float]:
    """The left end of each column, and the right end of the last."""
    levels = max(node.level + (node.more_y is not None) for node in nodes) + 1
    wide = [0.0] * levels
    for node in nodes:
        wide[node.level] = max(wide[node.level], _length(node.twig))
        if node.more_y is not None:
            wide[node.level + 1] = max(wide[node.level + 1], 80.0)
    for level, head in enumerate(heads[:levels]):
        wide[level] = max(wide[level], len(head) * _HEAD_LETTER)
    columns = [float(_EDGE + _LARGEST)]
    for level, width in enumerate(wide):
        columns.append(columns[-1] + width + (_LEAST_GAP if level < levels - 1 else 0))
    return columns


def _length(twig: Twig) -> float:
    note = f" {twig.note}" if twig.note else ""
    return 14 + _LETTER * (len(twig.label) + 0.92 * len(note))


def _at(y: float, top: float) -> float:
    return top + y * _ROW


def _bonds(node: _Placed, columns: list[float], top: float) -> str:
    x, y = columns[node.level] + _length(node.twig), _at(node.y, top)
    ends = [(child.y, child.twig.bond) for child in node.children]
    ends += [(node.more_y, 0.0)] if node.more_y is not None else []
    shapes = []
    for end, bond in ends:
        to_x, to_y = columns[node.level + 1] - _LARGEST - 1, _at(end, top)
        middle = to_x - _LEAST_GAP / 2
        strength = f'stroke-width="{0.6 + 2.4 * _share(bond):.2f}" stroke-opacity="{0.35 + 0.5 * _share(bond):.2f}"'
        shapes.append(
            f'<path class="bond" {strength} d="M{x:.1f} {y:.1f}H{to_x - _LEAST_GAP + 8:.1f}'
            f'C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"/>'
        )
    return "".join(shapes)


def _node(node: _Placed, columns: list[float], top: float) -> str:
    twig, x, y = node.twig, columns[node.level], _at(node.y, top)
    radius = max(_SMALLEST, _LARGEST * math.sqrt(_share(twig.size)))
    note = f'<tspan class="note" dx="5">{html.escape(twig.note)}</tspan>' if twig.note else ""
    told = f"<title>{html.escape(twig.told)}</title>" if twig.told else ""
    shapes = (
        f'<g>{told}<circle class="node {html.escape(twig.mark)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
        f'<text x="{x + 11:.1f}" y="{y + 4:.1f}">{html.escape(twig.label)}{note}</text></g>'
    )
    if node.more_y is not None:
        shapes += _text(columns[node.level + 1] + 11, _at(node.more_y, top) + 4, f"and {twig.more:,} more", "note")
    return shapes


def _legend(legend: Sequence[tuple[str, str]], y: float) -> list[str]:
    parts, x = [], float(_EDGE + 6)
    for mark, meaning in legend:
        parts.append(f'<circle class="node {html.escape(mark)}" cx="{x:.1f}" cy="{y - 4:.1f}" r="4.5"/>')
        parts.append(_text(x + 10, y, meaning, "note"))
        x += 34 + 5.9 * len(meaning)
    return parts


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html.escape(words)}</text>'


def _share(value: float) -> float:
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0
