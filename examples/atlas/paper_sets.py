"""Held-out example sets for the concepts that the paper on scaling monosemanticity tells of.

Each concept has short texts that show it and texts that come near and do not. Frames and fillers of the half that
proves are others than those of the half that chooses, so a feature of one frame or one word does not pass.
"""

import json
import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from monoscope.text.generated import citation_documents, dna_documents

SEED, HALF = 20261125, 24
WORDS = {
    name: "\n".join(lines)
    for name, lines in json.loads((Path(__file__).parent / "paper_words.json").read_text()).items()
}
"""Frames, fillers and whole texts, a line each."""

Half = dict[str, list[str]]


def paper_concepts() -> dict[str, Any]:
    """All sets, by name: a half that chooses and a half that proves."""
    makers = {
        "uppercase text": _uppercase,
        "DNA sequence": _dna,
        "surname in a citation": _citation,
        "city": _framed(WORDS["places"], WORDS["cities"], WORDS["regions"]),
        "person": _framed(WORDS["talked"], WORDS["people"], WORDS["named_things"]),
        "chemical element": _framed(WORDS["samples"], WORDS["elements"], WORDS["materials"]),
        "field of study": _framed(WORDS["studies"], WORDS["fields"], WORDS["pastimes"]),
        "programming syntax": _syntax,
        "bug in code": _bugs,
        "gendered occupation": _framed(WORDS["jobs_seen"], WORDS["gendered"], WORDS["occupations"]),
        "secrecy": _secrecy,
    }
    halves = ("choose", "prove")
    sets = []
    for name, make in makers.items():
        sets.append(
            {"name": name, **{half: make(Random(f"{SEED}:{name}:{half}"), half == "choose") for half in halves}}
        )
    return {"seed": SEED, "concepts": sets}


def _half(items: Sequence[Any], choosing: bool) -> Sequence[Any]:
    """Every second item, so that both halves are of one kind."""
    return items[::2] if choosing else items[1::2]


def _framed(frames: str, inside: str, outside: str) -> Callable[[Random, bool], Half]:
    """Sentences with a gap, filled with what shows the concept or with what stands in the same place and does not."""

    def make(dice: Random, choosing: bool) -> Half:
        told = _half(frames.strip().splitlines(), choosing)
        return {
            "positive": _fill(dice, told, _half(_listed(inside), choosing)),
            "negative": _fill(dice, told, _half(_listed(outside), choosing)),
        }

    return make


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.replace("\n", " ").split(",")]


def _fill(dice: Random, frames: Sequence[str], fillers: Sequence[str]) -> list[str]:
    """Each frame about as often as any other, each filler too."""
    words = [fillers[place % len(fillers)] for place in range(HALF)]
    dice.shuffle(words)
    told = [frames[place % len(frames)].replace("_", word) for place, word in enumerate(words)]
    return [one[0].upper() + one[1:] for one in told]


def _uppercase(dice: Random, choosing: bool) -> Half:
    """Sentences in capitals against sentences with one short name in capitals, and titles with capital initials."""
    said = _half(WORDS["said"].strip().splitlines(), choosing)
    capitals = [one.upper() for one in said]
    names = _half(_listed(ACRONYMS), choosing)
    near = [
        f"{one[:-1]}, said the {dice.choice(names)}." if place % 3 else one.title() for place, one in enumerate(said)
    ]
    return {"positive": capitals[:HALF], "negative": near[:HALF]}


def _dna(dice: Random, choosing: bool) -> Half:
    """Sequences as they are printed against strings of as many letters or figures in the same frames."""
    texts = [document.text for document in islice(dna_documents(seed=71), 2 * HALF)]
    positive = [one[:160] for one in _half(texts, choosing)]
    swaps = ("ARNDCQEGHILKMFPSTWYV", "0123456789ABCDEF", "bcdfghjklmnpqrstvwxz", "XKQZJWVY")
    near = []
    for place, one in enumerate(positive):
        letters = swaps[place % len(swaps)]
        swap = re.compile(r"[GCAT]{5,}|[gcat]{5,}")
        near.append(swap.sub(lambda run, of=letters: _other(dice, run.group(), of), one))
    return {"positive": positive, "negative": near}


def _other(dice: Random, run: str, letters: str) -> str:
    drawn = "".join(dice.choice(letters) for _ in run)
    return drawn.lower() if run.islower() else drawn.upper()


def _citation(dice: Random, choosing: bool) -> Half:
    """Sentences that cite authors by name and year against sentences in which the same names do other things."""
    texts = [document.text for document in islice(citation_documents(seed=71), 8 * HALF)]
    cited = [re.split(r"(?<=[a-z)])[.] (?=[A-Z])|\n", one)[0].rstrip(".") + "." for one in texts if "[1]" not in one]
    positive = list(_half(cited, choosing))[:HALF]
    frames = _half(WORDS["not_cited"].strip().splitlines(), choosing)
    near = []
    for place, one in enumerate(positive):
        names = re.findall(r"(?:^|[( ])([A-Z][a-z]+)(?= \(| and| et|,| &)", one) or ["Weber", "Rossi"]
        first, second = names[0], names[-1] if names[-1] != names[0] else "Okafor"
        year = str(dice.randint(1962, 2023))
        near.append(frames[place % len(frames)].replace("_", first).replace("#", second).replace("@", year))
    return {"positive": positive, "negative": near}


def _syntax(dice: Random, choosing: bool) -> Half:
    """Lines of several languages against lists, formulas, addresses and sentences that say the same in words."""
    code, near = (_half(text.strip("\n").splitlines(), choosing) for text in (WORDS["code"], WORDS["no_code"]))
    code, near = list(code), list(near)
    dice.shuffle(code), dice.shuffle(near)
    return {"positive": code[:HALF], "negative": near[:HALF]}


def _bugs(dice: Random, choosing: bool) -> Half:
    """Faulty lines of Python against the same lines as they should be."""
    pairs = [pair.split("\n") for pair in WORDS["bugs"].strip("\n").split("\n\n")]
    chosen = list(_half(pairs, choosing))
    dice.shuffle(chosen)
    wrong, right = ([pair[side].replace("\\n", "\n") for pair in chosen] for side in (0, 1))
    return {"positive": wrong[:HALF], "negative": right[:HALF]}


def _secrecy(dice: Random, choosing: bool) -> Half:
    hidden, open_ = (list(_half(text.strip().splitlines(), choosing)) for text in (WORDS["hidden"], WORDS["open"]))
    dice.shuffle(hidden), dice.shuffle(open_)
    return {"positive": hidden[:HALF], "negative": open_[:HALF]}


ACRONYMS = "BBC, UN, FBI, EU, OECD, IMF, WHO, CIA, WTO, RAF, NHS, IRS"
