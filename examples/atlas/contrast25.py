"""Twenty-five named concepts by contrast: the feature of rank 1, whether it is right by rule, and how well it tells.

python examples/atlas/contrast25.py RUN [--cache FOLDER] [--out F.json]

The concepts, how their texts are chosen and what counts as right stand in concepts.json, written before the first run.
Every second text of each set chooses the feature, the others prove it. Control: features drawn at random, by the same
rule and on the same texts. The second table ranks the first hundred again, by score × difference of the mean
activations in the texts that choose, as the demo does for its presets; it was added after the first table was read.
"""

from collections import Counter
from random import Random
from typing import Any

from common import Studied, answer, command, pattern, read_list, table

from monoscope.atlas.contrast import auroc, contrast
from monoscope.core.errors import EmptyText

SEED, MOST_PER_POSITIVE, CONTROLS, FEWEST = 20261125, 3, 20, 8
_OPENING = 30


def main() -> None:
    """Read the command line, measure, and print the table."""
    asked = command(__doc__).parse_args()
    studied = Studied.open(asked.run, asked.name, asked.cache)
    sets = [(concept, *sets_of(studied, concept)) for concept in read_list("concepts")["concepts"]]
    enough = [min(len(positive), len(negative)) >= FEWEST for _, positive, negative in sets]
    found = [measured(studied, *one) for one, plenty in zip(sets, enough, strict=True) if plenty]
    left_out = [one[0]["name"] for one, plenty in zip(sets, enough, strict=True) if not plenty]
    if not found:
        raise EmptyText(f"{asked.run} has too few texts on every concept of the list.")
    right = sum(one["right"] for one in found)
    control = {
        "right": sum(one["control"]["right"] for one in found) / len(found),
        "auroc_heldout": sum(one["control"]["auroc_heldout"] for one in found) / len(found),
    }
    again = sum(one["by_gap"]["right"] for one in found)
    values = {
        "right": right,
        "right_by_gap": again,
        "of": len(found),
        "left_out": left_out,
        "random_features": control,
        "concepts": found,
    }
    answer(values, page(found, right, control) + left(left_out), asked.out)


def left(names: list[str]) -> str:
    """What the run has too few texts for."""
    return f" Left out for want of texts: {', '.join(names)}." if names else ""


def page(found: list[dict[str, Any]], right: int, control: dict[str, float]) -> str:
    """The table, and what it adds up to."""
    heads = ("concept", "texts", "feature", "label", "fires on", "right", "by", "AUROC held out")
    rows = [(one["name"], f"{one['positives']} / {one['negatives']}", *_told(one)) for one in found]
    shown, again = (
        sum("contexts" in one["by"] for one in several) for several in (found, [o["by_gap"] for o in found])
    )
    heads_again = ("concept", "feature", "label", "fires on", "right", "by", "AUROC held out")
    rows_again = [(one["name"], *_told(one["by_gap"])) for one in found]
    right_again = sum(one["by_gap"]["right"] for one in found)
    return (
        f"{table(heads, rows)}\n\nRight at rank 1: {right} of {len(found)}, in half of the strongest contexts "
        f"{shown}. Features drawn at random: right {control['right']:.3f}, AUROC {control['auroc_heldout']:.3f}."
        f"\n\nRanked again by the difference of means:\n\n{table(heads_again, rows_again)}\n\nRight at rank 1: "
        f"{right_again} of {len(found)}, in half of the strongest contexts {again}."
    )


def _told(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["feature"], one["label"], ", ".join(one["words"]), one["right"], one["by"], one["auroc_heldout"]


def measured(studied: Studied, concept: dict[str, Any], positive: list[int], negative: list[int]) -> dict[str, Any]:
    """One concept: the feature of rank 1, whether that is right, and random features beside it."""
    pooled = studied.largest([*positive, *negative])
    inside, outside = pooled[: len(positive)], pooled[len(positive) :]
    hits = contrast(inside, outside, limit=100)
    best, others = hits[0], hits[1:5]
    gap = inside[::2].mean(0) - outside[::2].mean(0)
    by_gap = max(hits, key=lambda hit: hit.score * float(gap[hit.feature]))
    gap_ways = right_ways(studied, by_gap.feature, concept["accepts"])
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
        "next": [{"feature": hit.feature, "words": [w for w, _ in studied.words_of(hit.feature)]} for hit in others],
        "by_gap": {
            "feature": by_gap.feature,
            "label": studied.label(by_gap.feature),
            "words": [word for word, _ in studied.words_of(by_gap.feature)],
            "right": bool(gap_ways),
            "by": ", ".join(gap_ways),
            "auroc_heldout": by_gap.auroc_heldout,
        },
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
