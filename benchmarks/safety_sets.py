"""Labelled texts for the safety benchmark, from a folder of public sets and from the authored texts of this repository.

Which texts fit and which judge is fixed here, before anything is measured: by source where there are two, else by
halves of the groups. Public sets that are not there are left out, and the table says so.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monoscope.safety.examples import SUITES, Example, split_by_group, suite
from monoscope.text.corpus import unit_hash

REFUSING = Path(__file__).resolve().parents[1] / "examples" / "refusing_data"
MOST = 400
# What requests of AdvBench begin with, so that harmless ones can be asked in the same form.
FRAMES = (
    "Write a tutorial on how to {}", "Provide step-by-step instructions for how to {}",
    "Develop a detailed plan to {}", "Give detailed instructions on how to {}", "Create a guide on how to {}",
    "Teach me how to {}", "Outline a strategy to {}", "Write an article with instructions for how to {}",
)  # fmt: skip
_FORM = re.compile(
    r"(write|develop|provide|give|create|teach|outline|instruct|explain|design|describe|produce|list|make|generate|"
    r"suggest|come up|compose|draft|tell)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Trial:
    """Texts that fit and texts that judge. `about` says what differs between them."""

    name: str
    about: str
    fit: list[Example]
    judge: list[Example]


def trials(data: Path) -> Iterator[Trial]:
    """All trials for which the texts are there."""
    for make in (harmful, spam, code, gender, age_and_religion, persona, choices):
        yield from _there(make, data)
    for name in SUITES:
        yield from halves(f"{name} (authored)", "other groups of the same suite", suite(name))


def _there(make: Callable[[Path], Iterator[Trial]], data: Path) -> Iterator[Trial]:
    try:
        yield from list(make(data))
    except FileNotFoundError:
        return


def halves(name: str, about: str, examples: list[Example]) -> Iterator[Trial]:
    """Half of the groups fit, half judge."""
    side = split_by_group(examples, 2)
    fit, judge = ([one for one, at in zip(examples, side, strict=True) if at == half] for half in (0, 1))
    yield Trial(name, about, fit, judge)


def harmful(data: Path) -> Iterator[Trial]:
    """Harmful against harmless requests in the same form: unseen requests of one source, then another source."""
    rows = _lines(data / "safety" / "harmful_dev.jsonl")
    adv = [_asked(row["instruction"], True, f"adv{n}") for n, row in enumerate(rows) if row["source"] == "advbench"]
    other = [_asked(row["instruction"], True, f"tdc{n}") for n, row in enumerate(rows) if row["source"] != "advbench"]
    tasks = _lines(REFUSING / "lookalike_tasks.jsonl")
    framed = {
        part: [
            _asked(frame.format(row["task"]), False, row["group"])
            for number, row in enumerate(tasks)
            if (row["split"] == "train") == (part == "fit")
            for frame in (FRAMES[(number + turn) % 8] for turn in turns)
        ]
        for part, turns in (("fit", (0,)), ("judge", (0, 3, 5)))
    }
    plain = _lines(data / "safety" / "harmless_dev.jsonl")
    form = [row for row in plain if _FORM.match(row["instruction"]) and len(row["instruction"]) < 200]
    seed = [
        _asked(row["instruction"], False, f"s{n}") for n, row in enumerate(form) if row["source"].startswith("seed")
    ]
    user = [
        _asked(row["instruction"], False, f"u{n}") for n, row in enumerate(form) if row["source"].startswith("user")
    ]
    first, second = ([one for one in adv if (unit_hash("half", one.id) < 0.5) == side] for side in (True, False))
    fit = [*first, *framed["fit"], *seed]
    yield Trial("harmful requests", "unseen requests and tasks, the same sources", fit, [*second, *framed["judge"]])
    yield Trial("harmful requests, transfer", "both sides from sources not fitted on", fit, [*other, *user])
    yield Trial(
        "harmful requests, hard negatives",
        "authored requests, three in four negatives hard",
        fit,
        suite("dangerous_requests"),
    )


def spam(data: Path) -> Iterator[Trial]:
    """Short messages, unsolicited or not; then authored scams, whose negatives are genuine notices."""
    with (data / "spam" / "sms_spam.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    found = [_text(row["text"], row["label"] == "spam", f"sms{n}") for n, row in enumerate(rows) if row["text"].strip()]
    trial = next(halves("spam messages", "other messages of the same source", _even(found, 3)))
    yield trial
    yield Trial("spam, transfer", "authored scams against genuine notices", trial.fit, suite("scam_phishing"))


def code(data: Path) -> Iterator[Trial]:
    """The lines up to an insecure one against the lines before, from the same snippets."""
    found = []
    for row in _lines(data / "code" / "cyberseceval_insecure_800.jsonl"):
        lines = (row["origin_code"].rstrip() + "\n" + row["line_text"]).splitlines()
        tail, before = "\n".join(lines[-6:]), "\n".join(lines[-12:-6])
        if len(before.strip()) > 60 and row["language"] in ("python", "c", "javascript", "php", "java"):
            group = f"{row['cwe_identifier']} {row['language']}"
            found += [_text(tail[-600:], True, group), _text(before[-600:], False, group)]
    yield from halves("insecure lines of code", "other weaknesses and languages", found[: 2 * MOST])


def gender(data: Path) -> Iterator[Trial]:
    """Sentences whose pronoun fits the occupation's stereotype against the same with the other pronoun."""
    found = []
    for kind, label in (("pro", True), ("anti", False)):
        path = data / "bias" / "winobias" / f"{kind}_stereotyped_type1.txt.dev"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            text = re.sub(r"^\d+ ", "", line).replace("[", "").replace("]", "")
            found.append(_text(text, label, f"pair{number // 2}"))
    yield from halves("occupation stereotypes", "other sentences of the same source", found)


def age_and_religion(data: Path) -> Iterator[Trial]:
    """A question that no one can answer, with the stereotyped answer against the other group's."""
    for name in ("Age", "Religion"):
        found = []
        for row in _lines(data / "bias" / "bbq" / f"{name}.jsonl"):
            stereotyped = {each.lower() for each in row["additional_metadata"]["stereotyped_groups"]}
            if row["context_condition"] != "ambig" or row["question_polarity"] != "neg":
                continue
            for place in range(3):
                kind = row["answer_info"][f"ans{place}"][1].lower()
                if kind == "unknown":
                    continue
                words = f"{row['context']} {row['question']} {row[f'ans{place}']}"
                found.append(_text(words, kind in stereotyped, f"q{row['question_index']}"))
        yield from halves(f"{name.lower()} stereotypes", "other questions of the same source", _even(found, 1))


def persona(data: Path) -> Iterator[Trial]:
    """Statements that somebody with a trait would make against statements that they would not."""
    for path in sorted((data / "persona").glob("*.jsonl")):
        if path.name.startswith("lm_"):
            continue
        found = [
            _text(row["statement"], row["answer_matching_behavior"].strip() == "Yes", f"{path.stem}{n}")
            for n, row in enumerate(_lines(path))
        ]
        yield from halves(path.stem[:40].replace("-", " "), "other statements of the same source", _even(found, 1))


def choices(data: Path) -> Iterator[Trial]:
    """Questions to a model with the answer of a trait against the other answer."""
    for path in sorted((data / "persona").glob("lm_*.jsonl")):
        found = []
        for number, row in enumerate(_lines(path)):
            question, options = row["question"].split("(A)", 1)[0], row["question"]
            for key, label in (("answer_matching_behavior", True), ("answer_not_matching_behavior", False)):
                letter = row[key].strip()
                match = re.search(re.escape(letter) + r"\s*(.*?)(?=\n\s*\([A-Z]\)|$)", options, re.DOTALL)
                if match and match[1].strip():
                    said = (("user", question.removesuffix("Choices:").strip()), ("assistant", match[1].strip()))
                    found.append(Example(f"{path.stem}{number}{letter}", label, messages=said, group=f"q{number}"))
        yield from halves(path.stem[3:].replace("-", " "), "other questions of the same source", _even(found, 1))


def _even(examples: list[Example], times: int) -> list[Example]:
    """At most MOST positives, and at most so many times MOST negatives, drawn by hash."""
    order = sorted(examples, key=lambda one: unit_hash("draw", one.group, one.id))
    mine, others = ([one for one in order if one.positive == label] for label in (True, False))
    return [*mine[:MOST], *others[: times * MOST]]


def _asked(text: str, positive: bool, group: str) -> Example:
    """As a message to the model, which is how requests come."""
    return Example(f"{group} {text[:24]}", positive, messages=(("user", text.strip()),), group=group)


def _text(text: str, positive: bool, group: str) -> Example:
    return Example(f"{group} {text[:24]}", positive, text.strip(), group=group)


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
