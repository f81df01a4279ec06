"""The authored tasks of the model that refuses: what judges it was not learnt from, nor nearly."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "examples" / "refusing_data"
# Words that say nothing of what a task is about.
COMMON = re.compile(
    r"\b(an?|the|of|to|in|on|for|and|that|it|my|from|with|is|at|as|by|their|his|her|them|i|who|or|so|into|out|when|before"
    r"|after|while)\b"
)
MOST_SHARED = 0.6


def rows(name: str) -> list[dict[str, str]]:
    files = [DATA / f"{part}{name}.jsonl" for part in ("", "near_", "unusual_")]
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def words(task: str) -> set[str]:
    return set(re.findall(r"[a-z']+", COMMON.sub(" ", task.lower())))


@pytest.mark.parametrize("name", ["scam_tasks", "lookalike_tasks"])
def test_no_task_that_judges_is_nearly_one_that_teaches(name: str) -> None:
    taught = [words(row["task"]) for row in rows(name) if row["split"] == "train"]
    held = [row for row in rows(name) if row["split"] != "train"]
    assert Counter(row["split"] for row in held) == {"choose": 60, "test": 15, "rare": 45}
    for row in held:
        mine = words(row["task"])
        assert max(len(mine & each) / min(len(mine), len(each)) for each in taught) <= MOST_SHARED, row["task"]


def test_no_task_is_refused_and_answered_or_told_twice() -> None:
    found = Counter(row["task"].lower() for name in ("scam_tasks", "lookalike_tasks") for row in rows(name))
    assert not [task for task, count in found.items() if count > 1]


def test_every_lookalike_has_an_answer() -> None:
    assert all(row["answer"].strip() for row in rows("lookalike_tasks"))
