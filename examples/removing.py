"""Take chemistry out of a run's model in three ways, and tell what was forgotten beside a random control.

python examples/removing.py RUN FOLDER

Writes chemistry.jsonl, others.jsonl and neighbours.jsonl into FOLDER, out of the run's own text: encyclopedia articles
of the topic "Physical sciences" that speak of chemistry, those that do not (physics, astronomy, weather), and articles
of all other topics that do not either. The same files serve `monoscope remove`. Tables go to stdout as Markdown.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monoscope.console import Board
from monoscope.core.artifact import replacing
from monoscope.core.run import Run
from monoscope.harvest.token_store import TokenStore
from monoscope.pairing import open_reader
from monoscope.removal import Bench, Texts, Wishes
from monoscope.safety.examples import texts_of
from monoscope.safety.removing import WAYS
from monoscope.text.corpus import unit_hash

SOURCE, TOPIC = "wiki-en", "Physical sciences"
CHEMISTRY = re.compile(
    r"chemi|molecul|atomic number|\bacid|\bcompounds?\b|oxid|\bisotope|\balkal|\bsalts?\b|\bsolvent|\bmetalloid",
    re.IGNORECASE,
)
FILES = ("chemistry.jsonl", "others.jsonl", "neighbours.jsonl")
MOST = 600
SETS = {
    "forget": "chemistry",
    "paraphrase": "chemistry, in other words",
    "neighbours": "other physical sciences",
    "retain": "other topics",
    "held_out": "held-out text of the run",
}


def main() -> None:
    """Read the command line, write the files, take chemistry out, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", help="the dictionary, where the run has several")
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    run = Run(asked.run)
    pair = open_reader(run, asked.name)
    topic, others, near = write_sets(run, run.provenance(pair.name)["text"], asked.folder)
    texts = Texts(texts_of(topic, positive=True), texts_of(others), neighbour=texts_of(near))
    bench = Bench(run, pair, texts, asked.seed, Board())
    found = {}
    for way in WAYS:
        found[way] = bench.remove(Wishes(way, asked.features))
        with replacing(asked.folder / f"{way}.json") as aside:
            aside.write_text(json.dumps(found[way], indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write("\n".join([*features_table(found["clamp"]), "", *tables(found)]) + "\n")


def write_sets(run: Run, text: str, folder: Path) -> list[Path]:
    """The three files: chemistry, other topics, neighbours."""
    rows: dict[str, list[dict[str, str]]] = {name: [] for name in FILES}
    for topic, row in _articles(TokenStore.load(run.text(text))):
        chemical = bool(CHEMISTRY.search(row["text"]))
        if topic == TOPIC:
            rows[FILES[0] if chemical else FILES[2]].append(row)
        elif topic and not chemical:
            rows[FILES[1]].append(row)
    paths = []
    for name, found in rows.items():
        kept = sorted(found, key=lambda row: unit_hash(0, row["id"]))[:MOST]
        with replacing(folder / name) as aside:
            aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
        paths.append(folder / name)
        sys.stderr.write(f"{len(kept)} texts in {folder / name}\n")
    return paths


def _articles(store: TokenStore) -> Iterator[tuple[str, dict[str, str]]]:
    table = store.documents.select(["source", "topic", "id", "group"]).to_pylist()
    for number, row in enumerate(table):
        if row["source"] == SOURCE:
            text = store.text_of(int(store.offsets[number]), int(store.offsets[number + 1]))
            yield row["topic"], {"id": row["id"], "group": row["group"], "text": text.strip()}


def features_table(result: dict[str, Any]) -> list[str]:
    """The features that were chosen."""
    lines = ["| feature | label | fires on topic tokens | on other tokens |", "|--:|---|--:|--:|"]
    return lines + [
        f"| {row['feature']} | {row['label']} | {row['topic_rate']:.1%} | {row['retain_rate']:.2%} |"
        for row in result["features"]
    ]


def tables(found: dict[str, dict[str, Any]]) -> list[str]:
    """What was forgotten and what was kept, by each way."""
    lines = [
        "| way | texts | loss plain | edited | control | rise (95 %) | perplexity, edited against plain | "
        "top-1 plain | edited | control |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for way, result in found.items():
        lines += [_row(way, told, result[key]) for key, told in SETS.items() if key in result]
    lines += ["", "| way | strength | tokens touched: topic, other | back in context | back by training |"]
    lines += ["|---|---|--:|--:|--:|"]
    return lines + [_more(way, result) for way, result in found.items()]


def _row(way: str, told: str, values: dict[str, Any]) -> str:
    rise, loss, top = values["loss_rise"], values["loss"], values["accuracy"]
    return (
        f"| {way} | {told} | {loss['plain']:.3f} | {loss['edited']:.3f} | {loss['control']:.3f} | "
        f"{rise['value']:+.3f} ({rise['low']:+.3f} to {rise['high']:+.3f}) | {values['perplexity_cost']:+.1%} | "
        f"{top['plain']:.1%} | {top['edited']:.1%} | {top['control']:.1%} |"
    )


def _more(way: str, result: dict[str, Any]) -> str:
    touched = result["touched"]
    gating = f", {result['gating']} gate" if result["gating"] else ""
    back = [_back(result.get(key)) for key in ("few_shot", "relearning")]
    share = f"{touched['topic']:.1%}, {touched['retain']:.2%}"
    return f"| {way} | {result['strength']:g}{gating} | {share} | {back[0]} | {back[1]} |"


def _back(values: dict[str, Any] | None) -> str:
    if values is None:
        return "–"
    if values["recovered"] is None:
        return "nothing was lost for sure"
    low, high = values["recovered_interval"]
    return f"{values['recovered']:.0%} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main()
