"""Reading features blind: sheets without labels or numbers, decoys among them, and a key that is opened afterwards.

python examples/atlas/blind.py make RUN FOLDER [--cache FOLDER]
python examples/atlas/blind.py score FOLDER ANSWERS [--out F.json]

`make` draws forty features that fire on at least twenty documents, and ten decoys, each of whose contexts is of
another feature; the order is shuffled. A sheet shows twelve contexts: the four strongest, then eight at even steps of
activation from there down to nothing, or to the share of the strongest that `--floor` says, each of another document.
A token on which the feature fires stands in ‹ ›, the one that the context was chosen for in « ».

ANSWERS is a JSON object, sheet to answer: {"01": {"coherent": true, "kind": "concept", "name": "volcanoes"}, …}; kinds
are concept, word, grammar, code and token piece. Coherent means that one description fits at least nine of the twelve.
"""

import argparse
import base64
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from common import Studied, answer, table

from monoscope.core.errors import BadRequest
from monoscope.core.pieces import token_pieces

SEED, FEATURES, DECOYS = 20261125, 40, 10
STRONGEST, SPREAD, REACH, FEWEST = 4, 8, 14, 20
KINDS = ("concept", "word", "grammar", "code", "token piece")
KEY = "key.b64"


def main() -> None:
    """Read the command line; make sheets, or score answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    doing = parser.add_subparsers(dest="doing", required=True)
    make = doing.add_parser("make")
    make.add_argument("run", type=Path)
    make.add_argument("folder", type=Path)
    make.add_argument("--floor", type=float, default=0.0, help="how weak a context may be, as a share of the strongest")
    make.add_argument("--name")
    make.add_argument("--cache", type=Path)
    score = doing.add_parser("score")
    score.add_argument("folder", type=Path)
    score.add_argument("answers", type=Path)
    score.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.doing == "make":
        make_sheets(Studied.open(asked.run, asked.name, asked.cache), asked.folder, asked.floor)
    else:
        found = scored(open_key(asked.folder), json.loads(asked.answers.read_text()))
        answer(found, page(found), asked.out)


def make_sheets(studied: Studied, folder: Path, floor: float) -> None:
    """Write the sheets and the sealed key."""
    dice = Random(SEED)
    live = dice.sample(studied.live.tolist(), len(studied.live))
    places = chosen_places(studied, live, floor)
    items = [{"feature": feature, "contexts": places[feature]} for feature in list(places)[:FEATURES]]
    others = list(places)[FEATURES:]
    for number in range(DECOYS):
        lent = others[number * (STRONGEST + SPREAD) : (number + 1) * (STRONGEST + SPREAD)]
        # Each place of the ranking is lent by another feature, so that a decoy's strengths look like a feature's.
        items.append({"feature": -1, "contexts": [places[feature][rank] for rank, feature in enumerate(lent)]})
    Random(f"{SEED} {floor}").shuffle(items)
    folder.mkdir(parents=True, exist_ok=True)
    key = {}
    for number, item in enumerate(items, 1):
        name = f"{number:02d}"
        shown = [drawn_context(studied, feature, row) for feature, row in item["contexts"]]
        lines = [f"{place:2d}  {text}" for place, text in enumerate(shown, 1)]
        (folder / f"sheet-{name}.txt").write_text(f"Sheet {name}\n\n" + "\n\n".join(lines) + "\n")
        key[name] = {
            "feature": item["feature"],
            "label": "" if item["feature"] < 0 else studied.label(item["feature"]),
            "lent_by": [feature for feature, _ in item["contexts"]] if item["feature"] < 0 else [],
        }
    (folder / KEY).write_bytes(base64.b64encode(json.dumps(key, ensure_ascii=False).encode()))


def chosen_places(studied: Studied, features: list[int], floor: float) -> dict[int, list[tuple[int, int]]]:
    """For the first features that fire on enough documents, the rows of their contexts, each with the feature."""
    found: dict[int, list[tuple[int, int]]] = {}
    for feature in features:
        rows, values = studied.codes.columns.of_latent(feature)
        values, order = values.sort(descending=True, stable=True)
        rows = rows[order]
        seen: dict[int, tuple[int, float]] = {}
        for row, document, value in zip(
            rows.tolist(), studied.document_of_row[rows].tolist(), values.tolist(), strict=True
        ):
            seen.setdefault(document, (row, value))
        if len(seen) >= FEWEST:
            found[feature] = [(feature, row) for row in _spread(list(seen.values()), floor)]
        if len(found) == FEATURES + DECOYS * (STRONGEST + SPREAD):
            break
    return found


def _spread(ranked: list[tuple[int, float]], floor: float) -> list[int]:
    """Of rows with falling values the first four, then those nearest to eight even steps down to the floor."""
    rest = ranked[STRONGEST:]
    top, chosen = rest[0][1], []
    for step in range(SPREAD):
        level = top * (floor + (1 - floor) * (SPREAD - step - 0.5) / SPREAD)
        nearest = min((one for one in rest if one not in chosen), key=lambda one: abs(one[1] - level))
        chosen.append(nearest)
    return [row for row, _ in (*ranked[:STRONGEST], *chosen)]


def drawn_context(studied: Studied, feature: int, row: int) -> str:
    """The text around a row, on one line, with the tokens on which the feature fires marked."""
    at = int(studied.codes.token[row])
    document = int(studied.document_of_row[row])
    first, last = studied.store.offsets[document : document + 2].tolist()
    start, stop = max(first, at - REACH), min(last, at + REACH + 1)
    pieces = token_pieces([studied.store.vocabulary[token] for token in studied.store.ids[start:stop].tolist()])
    fired = studied.codes.token[studied.codes.columns.of_latent(feature)[0]]
    fires = set(fired[(fired >= start) & (fired < stop)].tolist())
    marked = []
    for place, piece in enumerate(pieces, start):
        bare = piece.replace("\n", "⏎")
        lead = bare[: len(bare) - len(bare.lstrip(" "))]
        if place == at:
            marked.append(f"{lead}«{bare[len(lead) :] or '␣'}»")
        else:
            marked.append(f"{lead}‹{bare[len(lead) :] or '␣'}›" if place in fires else bare)
    return "".join(marked)


def open_key(folder: Path) -> dict[str, dict[str, Any]]:
    """The key, unsealed."""
    return json.loads(base64.b64decode((folder / KEY).read_bytes()))


def scored(key: dict[str, dict[str, Any]], answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Coherent features, refused decoys, and kinds among the coherent.

    Raises
        BadRequest  a sheet has no answer, or an answer has a kind that is not known.
    """
    missing = sorted(set(key) - set(answers))
    if missing:
        raise BadRequest(f"There is no answer for sheet {', '.join(missing)}.")
    for name in key:
        if answers[name]["coherent"] and answers[name].get("kind") not in KINDS:
            raise BadRequest(
                f"Sheet {name}: the kind is {answers[name].get('kind')!r}; write one of {', '.join(KINDS)}."
            )
    real = [name for name in key if key[name]["feature"] >= 0]
    decoys = [name for name in key if key[name]["feature"] < 0]
    coherent = [name for name in real if answers[name]["coherent"]]
    kinds = Counter(answers[name]["kind"] for name in coherent)
    return {
        "coherent": len(coherent),
        "of": len(real),
        "decoys_refused": sum(not answers[name]["coherent"] for name in decoys),
        "of_decoys": len(decoys),
        "kinds": {kind: kinds[kind] for kind in KINDS},
        "concept_share": kinds["concept"] / max(1, len(real)),
        "sheets": {name: {**key[name], **answers[name]} for name in sorted(key)},
    }


def page(found: dict[str, Any]) -> str:
    """What each sheet was, and what it adds up to."""
    heads = ("sheet", "feature", "label", "coherent", "kind", "name")
    rows = [
        (
            sheet,
            one["feature"] if one["feature"] >= 0 else "decoy",
            one["label"],
            one["coherent"],
            one.get("kind", ""),
            one.get("name", ""),
        )
        for sheet, one in found["sheets"].items()
    ]
    kinds = ", ".join(f"{kind} {count}" for kind, count in found["kinds"].items())
    return (
        f"{table(heads, rows)}\n\nCoherent: {found['coherent']} of {found['of']}. Decoys refused: "
        f"{found['decoys_refused']} of {found['of_decoys']}. Kinds: {kinds}. "
        f"Concepts: {found['concept_share']:.2f} of all."
    )


if __name__ == "__main__":
    main()
