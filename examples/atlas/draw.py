"""Draw the lists of titles, and write the example sets, that the measured pages ask for.

python examples/atlas/draw.py RUN [--text demo]      writes titles.json and paper_concepts.json beside itself

Both are drawn by fixed seeds and committed before anything is measured with them.
"""

import argparse
import json
import re
from pathlib import Path
from random import Random
from typing import Any

from common import LISTS
from paper_sets import paper_concepts

from monoscope.core.run import Run
from monoscope.evaluate.mentions import titles
from monoscope.harvest.token_store import TokenStore

SEED, TITLES, SOURCE = 20261125, 50, "wiki-en"
_SHORTEST, _LONGEST = 8, 45
FOUND = {
    "title": (
        "One of the first five features fires at least ten times and has at least half of its activation in documents "
        "that hold the title, or tells the title's mentions from all other units with F1 of at least 0.5 in the half "
        "that did not choose its threshold."
    ),
    "topic": (
        "One of the first five features has at least half of its activation on the English articles on articles of the "
        "topic, and fires in at least one in twenty of them."
    ),
}


def main() -> None:
    """Read the command line, draw, and write both lists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--text", default="demo")
    asked = parser.parse_args()
    store = TokenStore.load(Run(asked.run).text(asked.text))
    write("titles", {"seed": SEED, "found": FOUND, "topics": topics(store), "titles": drawn(store)})
    write("paper_concepts", paper_concepts())


def write(name: str, values: dict[str, Any]) -> None:
    """One list, readable and stable."""
    (LISTS / f"{name}.json").write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n")


def topics(store: TokenStore) -> list[dict[str, str]]:
    """Every topic of the English articles, with the opening of an article drawn from it."""
    by_topic: dict[str, list[int]] = {}
    for number, row in enumerate(store.documents.to_pylist()):
        if row["source"] == SOURCE and row["topic"] and sentences(store, number)[:1]:
            by_topic.setdefault(row["topic"], []).append(number)
    found = []
    for topic, numbers in sorted(by_topic.items()):
        number = Random(f"{SEED}:{topic}").choice(numbers)
        row = store.documents.slice(number, 1).to_pylist()[0]
        found.append({"topic": topic, "prompt": sentences(store, number)[0], "article": row["title"]})
    return found


def drawn(store: TokenStore) -> list[dict[str, str]]:
    """Titles that can be looked for as words, of articles with a sentence to ask with that comes after the first."""
    spelled = set(titles(store))
    rows = store.documents.to_pylist()
    possible = [
        number
        for number, row in enumerate(rows)
        if row["source"] == SOURCE and row["title"] in spelled and len(sentences(store, number)) > 1
    ]
    chosen = sorted(Random(SEED).sample(possible, TITLES))
    return [{"title": rows[n]["title"], "topic": rows[n]["topic"], "prompt": sentences(store, n)[1]} for n in chosen]


def sentences(store: TokenStore, number: int) -> list[str]:
    """The sentences of an article, its title line left out, that are neither scraps nor endless."""
    text = store.text_of(int(store.offsets[number]), int(store.offsets[number + 1]))
    body = text.split("\n", 1)[-1].replace("\n", " ")
    found = re.split(r"(?<=[a-z)][.])\s+(?=[A-Z])", body)
    return [one.strip() for one in found if _SHORTEST <= len(one.split()) <= _LONGEST]


if __name__ == "__main__":
    main()
