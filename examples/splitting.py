"""Draw how a family of words splits across dictionaries of one run, and which titles each has a feature for.

python examples/splitting.py RUN FOLDER --names w2048 w8192 w32768
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from monoscope.comparing import compare
from monoscope.console import Board
from monoscope.core.artifact import replacing
from monoscope.core.run import Run
from monoscope.evaluate.completeness import PRESENT, presence_bins
from monoscope.render.chart import Chart, Series, write_chart
from monoscope.render.tree import Twig, tree_svg

FAMILY = (
    "American,English,French,German,Italian,Chinese,Indian,British,Russian,Japanese,Spanish,European,America,Europe,Asia,"
    "China,India,world,States"
)
MARKS = {"absorbed": "dashed", "duplicate": "hollow"}
LEGEND = {"part": ("", "a part of its parent"), "absorbed": ("dashed", "absorbed: taken out of the heir")}
LEGEND["duplicate"] = ("hollow", "a duplicate")
SHOWN = (10, 8)


def main() -> None:
    """Read the command line, compare, draw, and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", required=True, help="dictionaries of the run, at least two")
    parser.add_argument("--parents", default="firing", help="how parents are found: firing or direction")
    parser.add_argument("--family", default=FAMILY, help="the words whose feature is the root")
    parser.add_argument("--title", default="Countries and peoples", help="what stands over the tree")
    parser.add_argument("--tree", default="splitting.svg", help="the tree's file in FOLDER")
    parser.add_argument("--titles", action="store_true", help="draw the titles that have a feature, too")
    asked = parser.parse_args()
    wanted = [f"{asked.run}:{name}" for name in asked.names]
    how = {"family": asked.family.split(","), "parents": asked.parents, "limit": 20}
    found = compare(wanted, by_titles=asked.titles, progress=Board(), **how)
    heads = [f"{one['latents']:,} latents" for one in found["dictionaries"]]
    with replacing(asked.folder / asked.tree) as aside:
        aside.write_text(_drawn(found["tree"]["tree"], heads, asked.title))
    if asked.titles:
        panels = _panels(Run(asked.run), found["completeness"]["dictionaries"])
        write_chart(asked.folder / "completeness.svg", *panels)
    told = {key: found[key] for key in ("dictionaries", "pairs", "completeness", "tree") if key in found}
    sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=1) + "\n")


def _drawn(tree: dict[str, Any], heads: list[str], title: str) -> str:
    kinds = {"part", *_kinds(tree)}
    return tree_svg(_twig(tree), heads, title=title, legend=[LEGEND[kind] for kind in LEGEND if kind in kinds])


def _kinds(node: dict[str, Any]) -> list[str]:
    return [node["kind"], *(kind for child in node["children"] for kind in _kinds(child))]


def _twig(node: dict[str, Any], root_fires: int = 0) -> Twig:
    root_fires = root_fires or node["fires"]
    children = sorted(node["children"], key=lambda child: -child["covers"])
    most = SHOWN[min(node["level"], len(SHOWN) - 1)]
    note = f"{100 * node['covers']:.0f} %" if node["level"] else f"{node['fires']:,} tokens"
    figures = ", ".join(f"{name} {node[name]:.2f}" for name in ("cosine", "correlation", "shared", "covers"))
    return Twig(
        label=", ".join(node["words"][:3]) or str(node["feature"]),
        note=note,
        size=node["fires"] / root_fires,
        bond=node["shared"],
        mark=MARKS.get(node["kind"], ""),
        more=len(children) - most if len(children) > most else 0,
        told=f"{node['dictionary']} {node['feature']}, {node['kind']}: {figures}",
        children=tuple(_twig(child, root_fires) for child in children[:most]),
    )


def _panels(run: Run, dictionaries: list[dict[str, Any]]) -> tuple[Chart, Chart]:
    by_frequency, by_reach = [], []
    for one in dictionaries:
        table = pq.read_table(run.comparison(one["name"]) / "concepts.parquet")
        frequency, present = table["frequency"].to_pylist(), [f1 >= PRESENT for f1 in table["f1"].to_pylist()]
        name, alive = f"{one['latents']:,} latents", one["alive"]
        by_frequency += _series(name, [1e6 * value for value in frequency], present)
        by_reach += _series(name, [value * alive for value in frequency], present)
        by_reach.append(_curve(name, one["fit"], by_reach[-1].x))
    shared = {"y_title": "share of titles with a feature", "y_format": ".0%", "x_format": "~g"}
    shared |= {"x_log": True, "ordered": True}
    return (
        Chart("By frequency", "mentions in a million training tokens", series=tuple(by_frequency), **shared),
        Chart("By frequency × living latents", "mentions a token × living latents", series=tuple(by_reach), **shared),
    )


def _series(name: str, x: list[float], present: list[bool]) -> list[Series]:
    bins = [one for one in presence_bins(x, present) if one["concepts"] >= 10]
    spread = [_wilson(one["present"], one["concepts"]) for one in bins]
    low, high = [pair[0] for pair in spread], [pair[1] for pair in spread]
    return [Series(name, [b["reach"] for b in bins], [b["present"] for b in bins], low, high, mark="points")]


def _curve(name: str, fit: dict[str, float], over: list[float]) -> Series:
    ends = math.log10(min(over)), math.log10(max(over))
    x = [10 ** (ends[0] + (ends[1] - ends[0]) * step / 40) for step in range(41)]
    return Series(name, x, [1 / (1 + math.exp(-fit["a"] - fit["b"] * math.log10(at))) for at in x], mark="line")


def _wilson(share: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """The interval that holds the true share 95 times in 100."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


if __name__ == "__main__":
    main()
