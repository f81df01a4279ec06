"""Thirty features drawn by a seed, each dosed beside a difference of means, a random direction and plain prompting.

    python examples/effect/thirty.py RUN [--count 30] [--seed 0] [--mode add] [--scope all] [--out FILE.json]

Drawn are features that fire, whose label scores at least 0.6 and names words or topics, not kinds of tokens, and whose
contexts share at least one word to listen for. Doses are kept on the desk, so a stopped run goes on where it was.
The table, as Markdown, goes to stdout, everything that was measured to --out.
"""

# ruff: noqa: E402  what comes first must come before torch is imported

from monoscope.core.waiting import wait_briefly

wait_briefly()

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monoscope.atlas.outputs import outputs_of
from monoscope.atlas.query import Atlas
from monoscope.core.run import Run
from monoscope.core.runtime import numpy_stream
from monoscope.dosing import kept_dose, new_dose, open_bench
from monoscope.effect.baselines import FEATURE, MEANS, METHODS, RANDOM
from monoscope.effect.dose import MODES, SCOPES, Bench, Settings
from monoscope.effect.resample import paired_interval

LEAST_LABEL_SCORE = 0.6
CONTENT_KINDS = ("words", "word", "near", "topic", "both")
PUSHES = (FEATURE, MEANS, RANDOM)
BEST, OTHERS, NEXT = "concept_rate", "rate_on_others", "most_word_probability"


def drawn(bench: Bench, count: int, seed: int) -> tuple[list[int], int]:
    """The features, and how many were passed over because their contexts share no word."""
    atlas = bench.atlas
    fine = (atlas.column("firings") > 0) & (atlas.column("label_score") >= LEAST_LABEL_SCORE)
    fine &= np.isin(atlas.column("label_kind").astype(str), CONTENT_KINDS)
    chosen, silent = [], 0
    for feature in numpy_stream(seed, "thirty").permutation(np.flatnonzero(fine)).tolist():
        if len(chosen) == count:
            break
        if bench.lexicon(atlas.feature(feature)).words:
            chosen.append(feature)
        else:
            silent += 1
    return chosen, silent


def row_of(record: dict[str, Any]) -> str:
    """One feature as a row of the table."""
    cells = [str(record["feature"]), _cell(record["label"][:40]), _cell(", ".join(record["words"]))]
    cells.append(f"{100 * record['baseline'][BEST]:.0f}")
    for method in METHODS:
        one = record["methods"][method]
        strength = "" if one["strength"] is None else f" at {one['strength']}"
        cells.append(f"{100 * one[BEST]:.0f}{strength} ({100 * one[OTHERS]:.0f})")
    shares = [record["baseline"]["word_probability"], *(record["methods"][method][NEXT] for method in PUSHES)]
    cells.append(" / ".join("–" if share is None else f"{100 * share:.2g}" for share in shares))
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def summary(records: Sequence[dict[str, Any]], outputs: np.ndarray | None) -> dict[str, Any]:
    """How the feature's push did beside each other method, and the means over features."""
    plain = np.array([record["baseline"][BEST] for record in records])
    found = {
        "features": len(records),
        "recommended": float(np.mean([record["recommended"] is not None for record in records])),
        "plain": float(plain.mean()),
        "figures": {
            BEST: _figure(records, BEST, METHODS),
            OTHERS: _figure(records, OTHERS, METHODS),
            NEXT: _figure([record for record in records if _has_next(record)], NEXT, PUSHES),
        },
        "perplexity": {method: _median_perplexity(records, method) for method in METHODS},
    }
    if outputs is not None:
        scores = outputs[[record["feature"] for record in records]]
        gain = np.array([record["methods"][FEATURE][OTHERS] for record in records]) - plain
        found["output_score_and_gain"] = _rank_correlation(scores, gain)
    return found


def _has_next(record: dict[str, Any]) -> bool:
    return all(record["methods"][method][NEXT] is not None for method in PUSHES)


def _figure(records: Sequence[dict[str, Any]], name: str, methods: Sequence[str]) -> dict[str, Any]:
    values = {method: np.array([record["methods"][method][name] for record in records]) for method in methods}
    return {
        "features": len(records),
        "means": {method: float(some.mean()) for method, some in values.items()},
        "beside": {method: _beside(values[FEATURE], some) for method, some in values.items() if method != FEATURE},
    }


def _beside(mine: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    low, high = paired_interval(other, mine, np.ones(len(mine)))
    return {
        "better": float((mine > other).mean()),
        "equal": float((mine == other).mean()),
        "difference": float((mine - other).mean()),
        "low": low,
        "high": high,
    }


def _median_perplexity(records: Sequence[dict[str, Any]], method: str) -> float:
    return float(np.median([record["methods"][method]["perplexity"] for record in records]))


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, equal values sharing the mean of their ranks."""

    def ranks(values: np.ndarray) -> np.ndarray:
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(count) - (count - 1) / 2)[place]

    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def summary_text(found: dict[str, Any]) -> str:
    """The summary in words."""
    lines = [
        f"{found['features']} features; a dose is recommended for {100 * found['recommended']:.0f} %; concept rate of "
        f"plain replies {100 * found['plain']:.0f} %."
    ]
    told = {
        BEST: "Concept rate, each method at its best strength",
        OTHERS: "Concept rate at a strength chosen on the other questions",
        NEXT: "Probability that the next word is one of the concept's, at the fluent strength where it is largest",
    }
    for name, words in told.items():
        figure = found["figures"][name]
        means = ", ".join(f"{method} {100 * one:.3g} %" for method, one in figure["means"].items())
        lines.append(f"{words} ({figure['features']} features): {means}.")
        lines += [
            f"- beside {method}: better on {100 * one['better']:.0f} %, equal on {100 * one['equal']:.0f} %; mean "
            f"difference {100 * one['difference']:+.2g} points ({100 * one['low']:+.2g} to {100 * one['high']:+.2g})"
            for method, one in figure["beside"].items()
        ]
    lines.append(
        "Median perplexity: " + ", ".join(f"{name} {one:.1f}" for name, one in found["perplexity"].items()) + "."
    )
    if "output_score_and_gain" in found:
        lines.append(f"Rank correlation of output score and gain: {found['output_score_and_gain']:.2f}.")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=MODES, default="add")
    parser.add_argument("--scope", choices=SCOPES, default="all")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    run = Run(given.run)
    atlas = Atlas.open(run.atlas(run.choose_atlas(given.name)))
    bench = open_bench(run, atlas, Settings(mode=given.mode, seed=given.seed, scope=given.scope))
    features, silent = drawn(bench, given.count, given.seed)
    sys.stderr.write(f"{len(features)} features drawn; {silent} more share no word and were passed over\n")
    head = ("feature", "label", "listened for", "plain", *(name.replace("_", " ") for name in METHODS), "next word")
    sys.stdout.write(f"| {' | '.join(head)} |\n|--:|---|---|--:|--:|--:|--:|--:|---|\n")
    records, began = [], time.monotonic()
    for feature in features:
        records.append(kept_dose(atlas, feature, bench.settings) or new_dose(bench, feature))
        sys.stdout.write(row_of(records[-1]) + "\n")
        sys.stdout.flush()
        sys.stderr.write(f"{len(records)} of {len(features)}, {time.monotonic() - began:.0f} s\n")
    found = summary(records, outputs_of(atlas))
    sys.stdout.write("\n" + summary_text(found) + "\n")
    if given.out is not None:
        told = {"seed": given.seed, "passed_over": silent, "summary": found, "records": records}
        given.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
