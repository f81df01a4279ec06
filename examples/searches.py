"""Ask a run a handful of questions and write down the first three answers to each, one context each, misses included.

python examples/searches.py RUN [--name D] [--out docs/search.md] [QUERY ...]
"""

import argparse
import sys
from pathlib import Path

from monoscope import explore
from monoscope.core.run import Run

QUERIES = (
    "golden gate bridge",
    "chemistry",
    "countries of the world",
    "python exceptions",
    "religion",
    "music",
    "numbers and dates",
)
PROMPT = "The Golden Gate Bridge spans the bay of San Francisco"


def section(run: Run, name: str | None, query: str, by: str, limit: int) -> str:
    """A table of the first answers."""
    atlas = explore.open_atlas(run, name)
    lines = [
        f"## {query}" if by == "words" else f"## By prompt: {query}",
        "",
        "| feature | label | why | strongest context |",
    ]
    lines.append("|--:|---|---|---|")
    for hit in explore.find(run, atlas, query, by=by, limit=limit):
        context = hit.example or next(iter(atlas.feature(hit.feature).contexts), None)
        text = "" if context is None else _around(context.tokens, context.peak)
        lines.append(f"| {hit.feature} | {_cell(hit.label)} | {_cell(hit.why)} | {_cell(text)} |")
    return "\n".join([*lines, ""])


def _around(tokens: tuple[str, ...], peak: int) -> str:
    before, after = "".join(tokens[max(0, peak - 10) : peak]), "".join(tokens[peak + 1 : peak + 8])
    return f"{before}**{tokens[peak].strip() or '␣'}**{after}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("queries", nargs="*", default=QUERIES)
    parser.add_argument("--name")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    run = Run(asked.run)
    sections = [section(run, asked.name, query, "words", 3) for query in asked.queries]
    sections.append(section(run, asked.name, PROMPT, "prompt", 8))
    head = f"    python examples/searches.py {asked.run}\n\nText of Wikipedia is CC BY-SA; see NOTICE.\n"
    page = "\n".join(["# What the searches find, as it came\n", head, *sections])
    if asked.out is not None:
        asked.out.write_text(page)
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
