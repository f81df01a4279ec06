"""The results of `architectures.py` read: which learning rate was best, FVU at the wanted sparsity, and the page."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monoscope.core.artifact import replacing

COLUMNS = ("tool", "learning_rate", "seeds", "fvu", "l0", "dead_fraction", "ce_recovered", "f1", "note")
SIZE: tuple[str, ...] = ("latents", "k", "tokens", "batch_rows", "rows")
_BEGIN, _END = "<!-- figures: written by benchmarks/architectures.py -->", "<!-- end of the figures -->"
_OURS = "monoscope "
# An L0 so near to k is compared as it is.
_CLOSE = 0.02


def at_k(rows: list[dict[str, Any]], k: int) -> float | None:
    """FVU where L0 is k: a row's own where it is near enough, else linearly in log L0 between the rows on both sides.

    None where k is not between two rows.
    """
    close = [row for row in rows if abs(row["l0"] / k - 1) <= _CLOSE]
    if close:
        return min(row["fvu"] for row in close)
    below = max((row for row in rows if 0 < row["l0"] < k), key=lambda row: row["l0"], default=None)
    above = min((row for row in rows if row["l0"] > k), key=lambda row: row["l0"], default=None)
    if below is None or above is None:
        return None
    share = math.log(k / below["l0"]) / math.log(above["l0"] / below["l0"])
    return below["fvu"] + share * (above["fvu"] - below["fvu"])


def best_of(rows: Iterable[dict[str, Any]], k: int) -> dict[str, Any] | None:
    """The best learning rate's row that is nearest to k; learning rates are compared by FVU at k."""
    rates: dict[float, list[dict[str, Any]]] = {}
    for row in rows:
        rates.setdefault(row["learning_rate"], []).append(row)
    if not rates:
        return None

    def merit(found: list[dict[str, Any]]) -> tuple[bool, float]:
        fvu = at_k(found, k)
        nearest = min(found, key=lambda row: abs(math.log(max(row["l0"], 1e-3) / k)))
        return fvu is None and not 0.8 <= nearest["l0"] / k <= 1.25, nearest["fvu"] if fvu is None else fvu

    best = min(rates.values(), key=merit)
    return min(best, key=lambda row: abs(math.log(max(row["l0"], 1e-3) / k)))


def table(rows: Iterable[dict[str, Any]], size: dict[str, Any]) -> list[dict[str, Any]]:
    """One line for each architecture of ours, over its seeds, and for each learning rate of the others, best first.

    `fvu`, `l0` and `dead_fraction` are medians; `fvu` has `min` and `max` beside it where there are several seeds.
    """
    mine = [row for row in rows if all(row.get(name) == value for name, value in size.items())]
    tools: dict[str, list[dict[str, Any]]] = {}
    for row in mine:
        tools.setdefault(row["tool"], []).append(row)
    ours = [_line(found, size["k"]) for tool, found in tools.items() if tool.startswith(_OURS)]
    lines = sorted(ours, key=_fvu)
    for tool, found in sorted(tools.items()):
        if not tool.startswith(_OURS):
            lines += _lines_of_peer(found, size["k"])
    f1 = _recovery(Path(__file__).parent / "results" / "recovery.json")
    return [{**line, "f1": f1.get(line["tool"].removeprefix(_OURS))} for line in lines]


def _lines_of_peer(found: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    good = [row for row in found if "reason" not in row]
    if not good:
        return [{"tool": found[0]["tool"], "note": f"missing: {found[0]['reason']}"}]
    best = best_of([row for row in good if row["seed"] == min(each["seed"] for each in good)], k)
    rates = sorted({row["learning_rate"] for row in good})
    lines = [_line([row for row in good if row["learning_rate"] == rate], k) for rate in rates]
    for line in lines:
        if best and len(rates) > 1 and line["learning_rate"] == best["learning_rate"]:
            line["note"] = ", ".join(part for part in ("best rate", line["note"]) if part)
    return sorted(lines, key=lambda line: not line["note"].startswith("best"))


def _line(rows: list[dict[str, Any]], k: int) -> dict[str, Any]:
    """Rows of one tool at one learning rate: of each seed the FVU at k, or of the nearest row where that is unknown."""
    values, nearest, noted = [], [], ""
    for seed in sorted({row["seed"] for row in rows}):
        found = [row for row in rows if row["seed"] == seed]
        near = min(found, key=lambda row: abs(math.log(max(row["l0"], 1e-3) / k)))
        fvu = at_k(found, k) if near["coefficient"] is not None else near["fvu"]
        if near["coefficient"] is not None:
            if fvu is None:
                noted = noted or f"at L0 {near['l0']:.0f}, not {k}"
            elif abs(near["l0"] / k - 1) > _CLOSE:
                noted = noted or f"FVU between two penalties, at L0 {k}"
        values.append(near["fvu"] if fvu is None else fvu)
        nearest.append(near)
    line: dict[str, Any] = {
        name: statistics.median(found)
        for name in ("l0", "dead_fraction", "ce_recovered", "seconds")
        if (found := [row[name] for row in nearest if row.get(name) is not None])
    }
    fvu = statistics.median(values)
    spread = {"median": fvu, "min": min(values), "max": max(values)}
    return {
        **line,
        "tool": rows[0]["tool"],
        "learning_rate": rows[0]["learning_rate"],
        "seeds": len(values),
        "fvu": spread if len(values) > 1 else fvu,
        "note": noted,
    }


def _fvu(line: dict[str, Any]) -> float:
    found = line["fvu"]
    return found["median"] if isinstance(found, dict) else found


def _recovery(path: Path) -> dict[str, float]:
    """F1 of recovered features by architecture, on the synthetic suite that most of them were measured on."""
    if not path.is_file():
        return {}
    rows = [row for row in json.loads(path.read_text())["rows"] if row.get("f1") is not None]
    suites: dict[str, set[str]] = {}
    for row in rows:
        suites.setdefault(row["suite"], set()).add(row["arch"])
    suite = max(suites, key=lambda name: len(suites[name]), default=None)
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["suite"] == suite:
            found.setdefault(row["arch"], []).append(row["f1"])
    return {arch: statistics.median(values) for arch, values in found.items()}


# --- the page --------------------------------------------------------------------------------------------------------


def write_page(path: Path, rows: Sequence[dict[str, Any]], everybody: Sequence[str]) -> None:
    """Put the tables of all sizes between the page's two marks; what was written around them stays.

    `everybody` names the tools that should be in a table; the page says which are not yet.

    Raises
        SystemExit  the page has no such marks.
    """
    text = path.read_text()
    if _BEGIN not in text or _END not in text:
        raise SystemExit(f"{path} lacks the lines {_BEGIN!r} and {_END!r}; put them where the tables are to be.")
    before, rest = text.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    with replacing(path) as aside:
        aside.write_text(f"{before}{_BEGIN}\n\n{_tables(rows, everybody)}\n{_END}{after}")


def _tables(rows: Sequence[dict[str, Any]], everybody: Sequence[str]) -> str:
    sizes = sorted({tuple(row[name] for name in SIZE) for row in rows}, reverse=True)
    pieces = []
    for values in sizes:
        size = dict(zip(SIZE, values, strict=True))
        title = f"### {size['latents']:,} latents, {size['tokens']:,} tokens, batches of {size['batch_rows']:,}"
        lines = table(rows, size)
        said = [f"* {line}." for line in verdicts(lines)]
        missing = [tool for tool in everybody if tool not in {line["tool"] for line in lines}]
        if missing:
            said.append(f"* Not measured at this size yet: {', '.join(missing)}.")
        pieces.append("\n".join([title, "", *_markdown(lines), "", *said, ""]))
    return "\n".join(pieces)


def _markdown(lines: list[dict[str, Any]]) -> list[str]:
    heads = ("", "learning rate", "seeds", "FVU", "L0", "dead", "CE recovered", "F1, synthetic", "")
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *("| " + " | ".join(_cells(line)) + " |" for line in lines),
    ]


def _cells(line: dict[str, Any]) -> list[str]:
    if "fvu" not in line:
        return [line["tool"], *[""] * 7, line["note"]]
    fvu = line["fvu"]
    shown = f"{fvu['median']:.4f} ({fvu['min']:.4f} to {fvu['max']:.4f})" if isinstance(fvu, dict) else f"{fvu:.4f}"
    return [
        line["tool"],
        f"{line['learning_rate']:g}",
        str(line["seeds"]),
        shown,
        f"{line['l0']:.1f}",
        f"{line['dead_fraction']:.2%}",
        "" if line.get("ce_recovered") is None else f"{line['ce_recovered']:.4f}",
        "" if line.get("f1") is None else f"{line['f1']:.2f}",
        line["note"],
    ]


# --- beside each other -----------------------------------------------------------------------------------------------


def verdicts(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Of each kind of the others, at its best rate, how its FVU compares with ours of the same kind.

    A difference counts where it is larger than the range of either over its seeds.
    """
    found = []
    ours = {line["tool"].removeprefix(_OURS): line for line in lines if line["tool"].startswith(_OURS)}
    for line in _best_lines(lines):
        kind = line["tool"].split()[1]
        if kind not in ours:
            continue
        change = _fvu(line) / _fvu(ours[kind]) - 1
        if ", not" in line["note"]:
            more = line["l0"] > ours[kind]["l0"]
            how = "worse with more latents active" if change > 0 and more else "not comparable at that L0"
            found.append(f"{line['tool']}: FVU {change:+.1%} of ours {line['note']}, {how}")
            continue
        apart = abs(_fvu(line) - _fvu(ours[kind])) > max(_range(line), _range(ours[kind]))
        how = ("worse" if change > 0 else "BETTER") if apart else "no different within its seeds"
        found.append(f"{line['tool']}: FVU {change:+.1%} of ours, {how}")
    return found


def _best_lines(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first line of each other tool's kind; `table` puts its best first."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        if not line["tool"].startswith(_OURS) and "fvu" in line:
            found.setdefault(line["tool"], line)
    return list(found.values())


def _range(line: dict[str, Any]) -> float:
    fvu = line["fvu"]
    return fvu["max"] - fvu["min"] if isinstance(fvu, dict) else 0.0
