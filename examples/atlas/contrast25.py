"""Twenty-five named concepts by contrast: the feature of rank 1, whether it is right by rule, and how well it tells.

python examples/atlas/contrast25.py RUN [--cache FOLDER] [--out F.json]

The concepts, how their texts are chosen and what counts as right stand in concepts.json, written before the first run.
Every second text of each set chooses the feature, the others prove it. Control: features drawn at random, by the same
rule and on the same texts.
"""

from collections import Counter
from random import Random
from typing import Any

from common import Studied, answer, command, pattern, read_list, table

from monoscope.atlas.contrast import auroc, contrast

SEED, MOST_PER_POSITIVE, CONTROLS = 20261125, 3, 20
_OPENING = 30


def main() -> None:
    """Read the command line, measure, and print the table."""
    asked = command(__doc__).parse_args()
    studied = Studied.open(asked.run, asked.name, asked.cache)
    found = [measured(studied, concept) for concept in read_list("concepts")["concepts"]]
    right = sum(one["right"] for one in found)
    control = {
        "right": sum(one["control"]["right"] for one in found) / len(found),
        "auroc_heldout": sum(one["control"]["auroc_heldout"] for one in found) / len(found),
    }
    values = {"right": right, "of": len(found), "random_features": control, "concepts": found}
    answer(values, page(found, right, control), asked.out)


def page(found: list[dict[str, Any]], right: int, control: dict[str, float]) -> str:
    """The table, and what it adds up to."""
    heads = ("concept", "texts", "feature", "label", "fires on", "right", "by", "AUROC held out")
    rows = [
        (
            one["name"],
            f"{one['positives']} / {one['negatives']}",
            one["feature"],
            one["label"],
            ", ".join(one["words"]),
            one["right"],
            one["by"],
            one["auroc_heldout"],
        )
        for one in found
    ]
    return (
        f"{table(heads, rows)}\n\nRight at rank 1: {right} of {len(found)}. Features drawn at random: right "
        f"{control['right']:.3f}, AUROC {control['auroc_heldout']:.3f}."
    )


def measured(studied: Studied, concept: dict[str, Any]) -> dict[str, Any]:
    """One concept: its texts, the feature of rank 1, whether that is right, and random features beside it."""
    positive, negative = sets_of(studied, concept)
    pooled = studied.largest([*positive, *negative])
    inside, outside = pooled[: len(positive)], pooled[len(positive) :]
    hits = contrast(inside, outside, limit=5)
    best = hits[0]
    ways = right_ways(studied, best.feature, concept["accepts"])
    dice = Random(f"{SEED}:{concept['name']}")
    drawn = dice.sample(studied.live.tolist(), CONTROLS)
    chance = auroc(inside[1::2][:, drawn], outside[1::2][:, drawn])
    return {
        "name": concept["name"],
        "positives": len(positive),
        "negatives": len(negative),
        "feature": best.feature,
        "label": studied.label(best.feature),
        "words": [word for word, _ in studied.words_of(best.feature)],
        "contexts": studied.contexts_of(best.feature, 3),
        "right": bool(ways),
        "by": ", ".join(ways),
        "score": best.score,
        "auroc_heldout": best.auroc_heldout,
        "rate_pos": best.rate_pos,
        "rate_neg": best.rate_neg,
        "next": [{"feature": hit.feature, "words": [w for w, _ in studied.words_of(hit.feature)]} for hit in hits[1:]],
        "control": {
            "right": sum(bool(right_ways(studied, one, concept["accepts"])) for one in drawn) / CONTROLS,
            "auroc_heldout": float(chance.mean()),
        },
    }


def sets_of(studied: Studied, concept: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Positive and negative documents by the rule in concepts.json, each in a random order of a fixed seed."""
    named, barred = pattern(concept["words"]), pattern(concept.get("without", ["\0"]))
    focus = concept["by"] == "focus"
    positive, others = [], []
    for number, (about, text) in enumerate(zip(studied.documents, studied.texts, strict=True)):
        if about["source"] not in (("focus", "answers") if focus else ("wiki-en",)) or barred.search(text):
            continue
        if about["topic"] == concept["topic"] if focus else _shows(concept["by"], text, named):
            positive.append(number)
        elif not named.search(text):
            others.append(number)
    dice = Random(f"{SEED}:{concept['name']}")
    dice.shuffle(positive), dice.shuffle(others)
    return positive, others if focus else _matched(studied, positive, others)


def _shows(by: str, text: str, named: Any) -> bool:
    if by == "opening":
        return bool(named.search(" ".join(text.split("\n", 1)[-1].split()[:_OPENING])))
    return len(named.findall(text)) >= (2 if by == "twice" else 1)


def _matched(studied: Studied, positive: list[int], others: list[int]) -> list[int]:
    """Of the other articles as many of each topic as the positives have, three times over where there are."""
    left = Counter(studied.documents[number]["topic"] for number in positive)
    left = Counter({topic: MOST_PER_POSITIVE * count for topic, count in left.items()})
    chosen = []
    for number in others:
        topic = studied.documents[number]["topic"]
        if left[topic] > 0:
            left[topic] -= 1
            chosen.append(number)
    return chosen


def right_ways(studied: Studied, feature: int, accepts: list[str]) -> list[str]:
    """By what a feature is right: its words, its label, its contexts."""
    wanted = pattern(accepts)
    ways = []
    if any(wanted.fullmatch(word) for word, _ in studied.words_of(feature)):
        ways.append("words")
    if wanted.search(studied.label(feature)):
        ways.append("label")
    contexts = studied.contexts_of(feature)
    if contexts and sum(bool(wanted.search(text)) for text in contexts) >= len(contexts) / 2:
        ways.append("contexts")
    return ways


if __name__ == "__main__":
    main()
