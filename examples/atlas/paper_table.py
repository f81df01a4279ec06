"""The paper's own examples: for each concept the best feature, proved on texts of other frames and other words.

python examples/atlas/paper_table.py RUN [--cache FOLDER] [--out F.json]

The texts stand in paper_concepts.json, written before the first run. A feature's value on a text is its largest on the
text's tokens. Beside the best feature, all chosen on the same half and measured on the other: the best of a dictionary
of random unit rows of the same size and firing rates (the mean of five draws); a ridge probe on the activations; one on
bags of words.
"""

import re
from typing import Any

import torch
from common import Studied, answer, command, read_list, table
from torch import Tensor

from monoscope.atlas.contrast import auroc, contrast, strongest
from monoscope.dictionary.base import Dictionary
from monoscope.explore import residuals
from monoscope.model.chat import render_plain
from monoscope.model.transformer import load_model
from monoscope.stages import HARVEST_DTYPE

PRESENT, ABOVE, RIDGE, DRAWS = 0.8, 0.1, 1.0, 5
HALVES = ("choose", "prove")
KEYS = ("auroc_heldout", "random_dictionary", "dense_probe", "bag_of_words")


def main() -> None:
    """Read the command line, measure, and print the table."""
    asked = command(__doc__).parse_args()
    studied = Studied.open(asked.run, asked.name, asked.cache)
    x = next(studied.shards.blocks("held")).x.float()[:4_000]
    controls = [studied.at_random(draw).dictionary for draw in range(DRAWS)]
    model = load_model(studied.run.provenance(studied.name)["model"], dtype=HARVEST_DTYPE)
    found = [measured(studied, controls, model, concept) for concept in read_list("paper_concepts")["concepts"]]
    values = {
        "present_from": PRESENT,
        "and_above_random": ABOVE,
        "reached": sum(one["reached"] for one in found),
        "present": sum(one["present"] for one in found),
        "of": len(found),
        "l0": studied.dictionary.encode(x).l0,
        "l0_random_dictionary": sum(one.encode(x).l0 for one in controls) / DRAWS,
        "concepts": found,
    }
    answer(values, page(values), asked.out)


def page(values: dict[str, Any]) -> str:
    """The table, misses included."""
    heads = ("concept", "feature", "label", "fires on", "AUROC held out", "random dictionary", "probe", "bag of words")
    rows = [
        (one["name"], one["feature"], one["label"], ", ".join(one["words"]), *(one[key] for key in KEYS))
        for one in values["concepts"]
    ]
    reached, present, of = (values[key] for key in ("reached", "present", "of"))
    return (
        f"{table(heads, rows)}\n\nAUROC held out of at least {PRESENT}: {reached} of {of}; and {ABOVE} above the "
        f"random dictionaries: {present} of {of}. Mean L0 {values['l0']:.1f}, of the random dictionaries "
        f"{values['l0_random_dictionary']:.1f}."
    )


def measured(studied: Studied, controls: list[Dictionary], model: Any, concept: dict[str, Any]) -> dict[str, Any]:
    """One concept: all vectors of its texts, and what each kind reaches on the half that proves."""
    texts = {half: (concept[half]["positive"], concept[half]["negative"]) for half in HALVES}
    read = {half: [[_read(studied, model, text) for text in side] for side in sides] for half, sides in texts.items()}
    best, drawn = _best(studied.dictionary, read), [_best(one, read) for one in controls]
    by_chance = [0.5 if hit is None else hit.auroc_heldout for hit in drawn]
    mean = sum(by_chance) / len(by_chance)
    bags = _bags(texts)
    probes = {
        name: _probe({half: [[pool(x) for x in side] for side in sides] for half, sides in read.items()})
        for name, pool in (("mean", lambda x: x.mean(0)), ("max", lambda x: x.amax(0)))
    }
    return {
        "name": concept["name"],
        "texts": {half: [len(side) for side in sides] for half, sides in texts.items()},
        "feature": -1 if best is None else best.feature,
        "label": "" if best is None else studied.label(best.feature),
        "words": [] if best is None else [word for word, _ in studied.words_of(best.feature)],
        "reached": best is not None and best.auroc_heldout >= PRESENT,
        "present": best is not None and best.auroc_heldout >= max(PRESENT, mean + ABOVE),
        "rate_pos": 0.0 if best is None else best.rate_pos,
        "rate_neg": 0.0 if best is None else best.rate_neg,
        "auroc_heldout": 0.5 if best is None else best.auroc_heldout,
        "random_dictionary": mean,
        "random_dictionary_by_draw": by_chance,
        "dense_probe": max(probes.values()),
        "dense_probe_by_pool": probes,
        "bag_of_words": _probe(bags),
    }


def _read(studied: Studied, model: Any, text: str) -> Tensor:
    x, keep = residuals(model, studied.dictionary, render_plain(model, text))
    return x[keep]


def _best(dictionary: Dictionary, read: dict[str, list[list[Tensor]]]) -> Any:
    """The feature of rank 1: chosen on one half, its AUROC of the other."""
    sides = []
    for side in (0, 1):
        choose, prove = ([strongest(dictionary.encode(x)) for x in read[half][side]] for half in HALVES)
        # `contrast` lets every second text choose.
        sides.append([row for pair in zip(choose, prove, strict=True) for row in pair])
    hits = contrast(*sides, limit=1)
    return hits[0] if hits else None


def _bags(texts: dict[str, tuple[list[str], list[str]]]) -> dict[str, list[list[Tensor]]]:
    """Counts of the words and marks that the choosing half has, as logarithms."""
    cut = {half: [[re.findall(r"\w+|[^\w\s]", text) for text in side] for side in two] for half, two in texts.items()}
    known: dict[str, int] = {}
    for side in cut["choose"]:
        for text in side:
            for word in text:
                known.setdefault(word.lower(), len(known))
    return {half: [[_counted(text, known) for text in side] for side in sides] for half, sides in cut.items()}


def _counted(text: list[str], known: dict[str, int]) -> Tensor:
    places = [known[word.lower()] for word in text if word.lower() in known]
    return torch.bincount(torch.tensor(places, dtype=torch.long), minlength=len(known)).float().log1p()


def _probe(vectors: dict[str, list[list[Tensor]]]) -> float:
    """AUROC on the proving half of a ridge regression on the choosing half, its columns standardised."""
    (inside, outside), proof = ([torch.stack(side) for side in vectors[half]] for half in HALVES)
    x = torch.cat([inside, outside])
    mean, spread = x.mean(0), x.std(0)
    scale = torch.where(spread > 1e-6, 1 / spread.clamp(min=1e-6), 0.0) / x.shape[1] ** 0.5
    y = torch.cat([torch.ones(len(inside)), -torch.ones(len(outside))])
    x = (x - mean) * scale
    weights = x.T @ torch.linalg.solve(x @ x.T + RIDGE * torch.eye(len(x)), y)
    scores = [((side - mean) * scale @ weights)[:, None] for side in proof]
    return float(auroc(*scores)[0])


if __name__ == "__main__":
    main()
