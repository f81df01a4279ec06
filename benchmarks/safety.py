"""Detectors of safety concepts on public and authored texts: every way side by side, with intervals.

Which texts fit and which judge is fixed in `safety_sets.py`. A bag of words, a dense probe and a random feature stand
beside each figure; every text is scored at its end, `auroc_streaming` by the largest score from the sixteenth token on.
`alarms` is the share of ordinary text that a threshold flags which conformal calibration set for
1 % on other ordinary text, `hits` the share of positives above that threshold.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, say, show, study
from safety_sets import Trial, trials

from monoscope.pairing import open_reader, ordinary_texts
from monoscope.safety.comparison import DETECTORS, WAYS, WHOLE, fit_ways, judge
from monoscope.safety.detector import score_texts
from monoscope.safety.examples import Example
from monoscope.safety.fitting import Manner
from monoscope.safety.reading import Reading, read_examples
from monoscope.safety.statistics import area, binomial_range, conformal_threshold, drift, rate_above

COLUMNS = ("trial", "fit", "judged", *WAYS)
FPR, STREAMED = 0.01, Manner().warm_up


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the public sets (docs/safety.md)")
    parser.add_argument("--only", help="trials whose name holds this")
    parser.add_argument("--statistic", default="mean", help="how a detector pools: mean, max or rolling")
    parser.add_argument("--dictionary", help="the dictionary, where the run has several")
    settings = parser.parse_args()
    results = Results("safety", settings, keys=("trial", "statistic"))
    run = study(settings.run, settings.study_tokens)
    pair = open_reader(run, settings.dictionary)
    manner = replace(WHOLE, statistic=settings.statistic)
    ordinary = read_examples(pair.model, pair.dictionary, ordinary_texts(run, pair.name))
    for trial in trials(settings.data):
        if settings.only and settings.only not in trial.name:
            continue
        began = time.perf_counter()
        row = row_of(pair, trial, manner, ordinary)
        row["seconds"] = round(time.perf_counter() - began, 1)
        results.put([{"trial": trial.name, "statistic": settings.statistic, **row}])
        say(f"{trial.name}: " + ", ".join(f"{way} {row[way]['auroc']:.3f}" for way in WAYS))
    show(
        [{**row, **{way: row[way]["auroc"] for way in WAYS}, "fit": row["fit"], "judged": row["judged"]}
         for row in results.rows],
        COLUMNS,
    )  # fmt: skip


def row_of(pair: Any, trial: Trial, manner: Manner, ordinary: Reading) -> dict[str, Any]:
    """Every way fitted and judged, and what thresholds set on ordinary text do."""
    part = "reply" if all(len(one.messages) > 1 for one in trial.fit) else "said"
    fit = read_examples(pair.model, pair.dictionary, trial.fit, part=part)
    held = read_examples(pair.model, pair.dictionary, trial.judge, part=part)
    fitted = fit_ways(fit, trial.fit, manner=manner)
    found = judge(fitted.scores(held, trial.judge), trial.judge)
    positive = torch.tensor([one.positive for one in trial.judge])
    row: dict[str, Any] = {
        "about": trial.about,
        "fit": _counts(trial.fit),
        "judged": _counts(trial.judge),
        "part": part,
        "feature": fitted.feature,
        "fvu": round(held.fvu, 4),
        "fvu_ordinary": round(ordinary.fvu, 4),
    }
    row |= {way: told.to_json() for way, told in found.items()}
    row["chosen"] = fitted.detectors["features"].features.tolist()
    half = torch.arange(len(ordinary)) % 2 == 0
    for kind in DETECTORS:
        detector = fitted.detectors[kind]
        quiet, loud = score_texts(detector, ordinary), score_texts(detector, held)
        threshold = conformal_threshold(quiet[half], FPR)
        row[kind] |= {
            "alarms": round(rate_above(quiet[~half], threshold), 4),
            "alarms_range": [count / int((~half).sum()) for count in binomial_range(int((~half).sum()), FPR)],
            "hits": round(rate_above(loud[positive], threshold), 4),
            "negatives_flagged": round(rate_above(loud[~positive], threshold), 4),
            "auroc_streaming": round(area(score_texts(replace(detector, warm_up=STREAMED), held), positive), 4),
            "drift_to_negatives": round(drift(quiet, loud[~positive]).distance, 4),
        }
    return row


def _counts(examples: list[Example]) -> list[int]:
    mine = sum(one.positive for one in examples)
    return [mine, len(examples) - mine]


if __name__ == "__main__":
    main()
