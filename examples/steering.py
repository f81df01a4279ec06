"""Steer one question towards several concepts, each beside its controls, and write the answers down as they come.

    python examples/steering.py RUN CONCEPT=FEATURE[,FEATURE...] ... [--strength 0.4] [--seed 0] [--out PAGE.md]

For each concept: the features' push, a push of the same length along a random direction, and the difference of means
of English articles that name the concept and articles that do not. All answers to one concept come from one batch with
one seed, so they share their random draws.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from monoscope.atlas.query import Atlas
from monoscope.core.run import Run
from monoscope.core.runtime import numpy_stream
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.showpiece import shared_push
from monoscope.steer.compare import difference_of_means, perplexity_under, random_push, repetition
from monoscope.steer.engine import generate
from monoscope.steer.prompt import request_for
from monoscope.steer.resolve import push_at

QUESTION = "What is your physical form?"
ARTICLES, TOKENS = 48, 60


def articles(store: TokenStore, word: str, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of English articles that hold the word, and of as many that do not."""
    sources = store.documents["source"].to_pylist()
    order = numpy_stream(seed, "articles", word).permutation(store.n_documents)
    holding, others = [], []
    for number in order.tolist():
        if sources[number] != "wiki-en":
            continue
        first, last = int(store.offsets[number]), int(store.offsets[number + 1])
        ids = [store.prefix_id, *store.ids[first:last].tolist()[: store.context]]
        side = holding if word.lower() in store.text_of(first, last).lower() else others
        if len(side) < ARTICLES:
            side.append(ids)
        if len(holding) == len(others) == ARTICLES:
            break
    return holding, others


def one_concept(
    model: LanguageModel,
    dictionary: Dictionary,
    store: TokenStore,
    atlas: Atlas,
    concept: str,
    features: list[int],
    strength: float,
    seed: int,
) -> str:
    """A section of the page."""
    plain = request_for(model, [{"role": "user", "content": QUESTION}], seed=seed, max_tokens=TOKENS)
    edits = shared_push(dictionary, features, strength)
    random = random_push(dictionary, edits, seed)
    holding, others = articles(store, concept, seed)
    ways = [("plain", ()), ("features", edits), ("random direction", (random,))]
    if len(holding) >= 8:
        means = difference_of_means(model, dictionary.site, holding, others)
        ways.append((f"difference of means ({len(holding)} articles)", (push_at(dictionary, means, random.value),)))
    answers = generate(model, dictionary, [replace(plain, edits=tuple(chosen)) for _, chosen in ways])
    lines = [f"## {concept}", "", f"Edits: {', '.join(f'`{edit}`' for edit in edits)}"]
    lines += [f"- feature {number}: {atlas.feature(number).label}" for number in features]
    lines += ["", "| | answer | NLL | repeats |", "|---|---|--:|--:|"]
    for (way, _), answer in zip(ways, answers, strict=True):
        text = " ".join(answer.text.split()).replace("|", "\\|")
        nll = perplexity_under(model, plain.prompt_ids, answer.ids)
        lines.append(f"| {way} | {text} | {nll:.2f} | {repetition(answer.ids):.2f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("concepts", nargs="+")
    parser.add_argument("--name")
    parser.add_argument("--strength", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    run = Run(asked.run)
    name = run.choose_dictionary(asked.name)
    model, dictionary = load_model(run.provenance(name)["model"]), load_dictionary(run.dictionary(name))
    store, atlas = TokenStore.load(run.text(run.provenance(name)["text"])), Atlas.open(run.atlas(name))
    sections = []
    for item in asked.concepts:
        concept, _, numbers = item.partition("=")
        features = [int(number) for number in numbers.split(",")]
        sections.append(one_concept(model, dictionary, store, atlas, concept, features, asked.strength, asked.seed))
    command = f"python examples/steering.py {asked.run} " + " ".join(f"'{item}'" for item in asked.concepts)
    head = (
        f"“{QUESTION}”, strength {asked.strength} mean residual norms, seed {asked.seed}, temperature 0.7, top-p 0.9, "
        f"repetition penalty 1.1. NLL is the answer's mean negative log-likelihood under the plain model, "
        f"in nats a token.\n\n"
        f"    {command} --strength {asked.strength} --seed {asked.seed}\n"
    )
    page = "\n".join([head, *sections])
    if asked.out is not None:
        asked.out.write_text("# Steered answers, as they came\n\n" + page)
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
