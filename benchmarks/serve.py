"""How fast text is generated with and without edits, at one stream and at many, beside the other tools.

Every tool is a process with its own environment and number format; all have the same prompts and take turns, so they
are warm and meet the same disturbances. An order is one batch of greedy replies that nothing ends early, timed whole,
from the prompts to the last token; each stream has a feature of its own. Ratios and the cost of an edit are taken
within a turn. The first turn is not counted.
"""

from collections.abc import Callable
from typing import Any

import torch
from common import Results, arguments, say, show, spread, study
from environments import pinned
from serve_race import HTTP, OURS, PLAIN, Cell, Found, cells_of, entrants, race
from serve_scene import Scene

MOST_COST, LEAST_ONE, LEAST_MANY = 3.0, 1.0, 0.9
COLUMNS = (
    "tool",
    "dtype",
    "streams",
    "edits",
    "tokens_per_second",
    "ratio",
    "edit_cost_percent",
    "http_cost_percent",
    "limit",
    "of_limit",
    "same_as_plain",
    "peak_bytes",
)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--dictionary", help="the dictionary; without it the first of the run")
    parser.add_argument("--latents", type=int, default=9216, help="of the quick dictionary of a small study")
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=48, help="tokens of a reply")
    parser.add_argument("--turns", type=int, default=12, help="turns that count; one more goes before")
    parser.add_argument("--peer-turns", type=int, default=3, help="of these, turns in which other people's tools run")
    parser.add_argument("--only", nargs="+", default=[], help="beside plain generation, tools that hold such a word")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    results = Results("serve", settings, keys=("tool", "model", "dtype", "streams", "edits", "new_tokens", "cpu"))
    scene = Scene.of(study(settings.run, settings.study_tokens), settings)
    wanted = {
        "model": scene.source,
        "dictionary": scene.dictionary.name,
        "new_tokens": settings.new,
        "prompt_tokens": settings.prompt,
        "turns": settings.turns,
        "peer_turns": settings.peer_turns,
        "only": settings.only,
    }
    if all(results.done(**wanted, dtype=dtype, streams=n) for dtype in settings.dtypes for n in settings.streams):
        say("this was measured at this commit; --again measures it again")
    else:
        cells = list(cells_of(entrants(settings.dtypes, settings.only), settings.dtypes, settings.streams))
        found = race(scene, cells, settings)
        for dtype, limit in found.limits.items():
            results.limit[dtype] = {str(count): limit.tokens_per_second(count) for count in settings.streams}
            results.limit_terms[dtype] = limit.terms()
        results.put([{**row_of(cell, cells, found), **wanted} for cell in cells])
    rows = [row for row in results.rows if (row["model"], row["new_tokens"]) == (scene.source, settings.new)]
    show(rows, COLUMNS)
    verdict(rows)


def row_of(cell: Cell, cells: list[Cell], found: Found) -> dict[str, Any]:
    """What the turns say of one figure, or why there is none."""
    entrant = cell.entrant
    row: dict[str, Any] = {"tool": entrant.tool, "dtype": entrant.dtype, "streams": cell.streams, "edits": cell.edits}
    row["version"] = pinned(entrant.peer[0], entrant.peer[2]) if entrant.peer else None
    if cell not in found.rates or entrant in found.lost:
        return row | {"reason": found.lost.get(entrant, "no turn of it counted")}
    limit = found.limits[entrant.dtype].tokens_per_second(cell.streams)
    rate = spread(found.rates[cell].values())
    row |= {"tokens_per_second": rate, "limit": limit, "of_limit": rate["median"] / limit}
    row["peak_bytes"] = found.peaks[cell]
    plain = other(cells, cell, PLAIN, "none")
    if entrant.tool != PLAIN:
        row |= beside("ratio", found, cell, plain, lambda mine, theirs: mine / theirs)
    if cell.edits != "none":
        row |= beside("edit_cost_percent", found, cell, other(cells, cell, entrant.tool, "none"), cost)
    if entrant.tool == HTTP:
        row |= beside("http_cost_percent", found, cell, other(cells, cell, OURS, cell.edits), cost)
    replies, wanted = found.replies[cell], found.replies.get(plain, []) if plain else []
    if cell.edits == "none" and replies and len(replies) == len(wanted):
        row["same_as_plain"] = sum(map(list.__eq__, replies, wanted)) / len(wanted)
    return row


def other(cells: list[Cell], like: Cell, tool: str, edits: str) -> Cell | None:
    """The same streams in the same format with another tool or other edits."""
    wanted = (tool, like.entrant.dtype, like.streams, edits)
    found = (each for each in cells if (each.entrant.tool, each.entrant.dtype, each.streams, each.edits) == wanted)
    return next(found, None)


def beside(
    name: str, found: Found, cell: Cell, than: Cell | None, formula: Callable[[float, float], float]
) -> dict[str, dict[str, float]]:
    """A comparison within each turn in which both ran."""
    mine, theirs = found.rates[cell], found.rates.get(than, {}) if than else {}
    both = [formula(mine[turn], theirs[turn]) for turn in mine if turn in theirs]
    return {name: spread(both)} if both else {}


def cost(mine: float, plain: float) -> float:
    """How much longer a token takes, in percent of a token's time without it."""
    return 100 * (plain / mine - 1)


def verdict(rows: list[dict[str, Any]]) -> None:
    """Say what the goals are and whether they are met; a goal without a measurement is not."""
    print()
    for row in rows:
        if row["tool"] != OURS:
            continue
        about = f"{row['dtype']}, {row['streams']} streams, edits {row['edits']}"
        if "reason" in row:
            print(f"{about}: not measured, so NOT met: {row['reason']}")
        elif row["edits"] == "none":
            ratio, goal = row["ratio"], LEAST_ONE if row["streams"] == 1 else LEAST_MANY
            met = "met" if ratio["median"] >= goal else "NOT met"
            print(f"{about}: {_told(ratio)} of plain generate; goal {goal:g} {met}")
        else:
            met = "met" if row["edit_cost_percent"]["median"] <= MOST_COST else "NOT met"
            print(f"{about}: the edit costs {_told(row['edit_cost_percent'])} %; goal at most {MOST_COST:g} {met}")
    for row in rows:
        if row["tool"] != OURS and "reason" in row and row["edits"] == "none" and row["streams"] == 1:
            print(f"{row['tool']} in {row['dtype']} was not compared: {row['reason']}")


def _told(value: dict[str, float]) -> str:
    return f"{value['median']:.3g} ({value['min']:.3g} to {value['max']:.3g})"


if __name__ == "__main__":
    main()
