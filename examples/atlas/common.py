"""What the measured pages share: the run's parts, pooled codes, words that a feature fires on, lists and tables."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monoscope.core.run import Run
from monoscope.harvest.token_store import TokenStore

LISTS = Path(__file__).parent


def read_list(name: str) -> Any:
    """A list that was written down before the first run."""
    return json.loads((LISTS / f"{name}.json").read_text())


def pattern(words: Sequence[str]) -> re.Pattern[str]:
    """Whole words in any case; a star stands for any ending."""
    inner = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in words)
    return re.compile(rf"(?<!\w)(?:{inner})(?!\w)", re.IGNORECASE)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as a Markdown table; numbers to three places stand on the right."""
    rows = [[_cell(value) for value in row] for row in rows]
    return "\n".join(
        f"| {' | '.join(row)} |" for row in ([_cell(head) for head in heads], ["---"] * len(heads), *rows)
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def text_of(run: Run, dictionary: str) -> TokenStore:
    """The text that a dictionary was trained on."""
    return TokenStore.load(run.text(run.provenance(dictionary)["text"]))
