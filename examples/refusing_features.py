"""The refusal features of a model that refuses: found, turned up, taken away, beside dull ways to do the same.

    python examples/refusing_features.py [--base runs/demo] [--run runs/refusing] [--seed 0]

RUN/model is the checkpoint that `refusing_model.py` made, BASE the run of the model it was made from. The dictionary of
BASE is continued on talks with the new model, template included, as a refusal is decided at the template's last token.
Candidates are twenty features by a contrast of training prompts at the token that decides, and twelve whose directions
lie nearest to the difference of means there. To be taken away, so that fewer harmless requests are refused, are ten on
which the margins of wrongly refused look-alikes hang most, and twenty on which they hang more than those of scam
requests. Which of them is turned up, which are taken away, and how strongly is decided on the prompts of the split
`choose`; all figures are of the splits `test` and `rare`, whose tasks nobody has seen. Tables go to stdout as Markdown,
everything with every answer as it came to RUN/features.json. RUN/scams.jsonl and lookalikes.jsonl have the requests of
training as talks that end where the answer would begin, for

    monoscope contrast RUN --name refusing --positive RUN/scams.jsonl --negative RUN/lookalikes.jsonl
    monoscope diff RUN --name refusing --model-b smollm2-135m --text RUN/scams.jsonl --no-template
"""

# ruff: noqa: E402  what comes first must come before torch is imported

from monoscope.core.waiting import wait_briefly

wait_briefly()

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from refusing_margin import ends_of, handful, leanings, margins
from refusing_model import JUDGED, TEST_FRAMES, answers, judging, prompts_in_turn, rows, say
from torch import Tensor

from monoscope.console import Board
from monoscope.core.artifact import replacing, write_json
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.effect.battery import refused
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.pairing import labels_for
from monoscope.safety.examples import Example
from monoscope.safety.pooling import columns_of
from monoscope.safety.reading import Reading, read_examples
from monoscope.safety.statistics import area, binomial_interval
from monoscope.stages import HARVEST_DTYPE, TextRequest, harvest
from monoscope.steer.edits import Edit
from monoscope.steer.resolve import Move, push_at, resolve
from monoscope.train.recipes import Recipe
from monoscope.training import Source, train_dictionaries

NAME, CHAT = "refusing", "talks"
SCOPE = "everywhere"
HANDFUL, TWENTY, NEAR, CONTEXTS = 5, 20, 12, 10
HANGING, SPARING, COUNTS = 10, 20, (1, 3, HANDFUL)
SCREEN_TOKENS, SCREEN_PUSH, KEPT = 14, 0.4, 0.9
UP, DOWN = (0.15, 0.3, 0.4, 0.5), (0.15, 0.3)
KEEP, CONTINUE_TOKENS = 0.6, 600_000
TALK_TOKENS = 90_000


@dataclass(frozen=True)
class Way:
    """A way to change the model: what it is called in tables, and its edits."""

    name: str
    moves: tuple[Move, ...]


def prepare(base: Run, run: Run, source: str, board: Board) -> tuple[LanguageModel, Dictionary, str]:
    """The model, and the base's dictionary continued on talks with it."""
    first = base.choose_dictionary(None)
    for part in ("text", "activations", "dictionaries"):
        for folder in (base.path / part).glob("[!.]*"):
            target = run.path / part / folder.name
            if not target.exists():
                shutil.copytree(folder, target, copy_function=_linked)
    model = load_model(source, dtype=HARVEST_DTYPE)
    for name, file in (("scam_tasks", "scams"), ("lookalike_tasks", "lookalikes")):
        asked = [{"messages": [_said("user", prompt)]} for prompt in prompts_in_turn(name, "train")]
        _write_lines(run.path / f"{file}.jsonl", asked)
    talks = run.path / "talks.jsonl"
    if not talks.is_file():
        heard = [*prompts_in_turn("scam_tasks", "train"), *prompts_in_turn("lookalike_tasks", "train")][::2]
        heard += [row["question"] for row in rows("general_questions")]
        lines = [
            {"messages": [_said("user", prompt), _said("assistant", answer)]}
            for prompt, answer in zip(heard, answers(model, heard, tokens=40), strict=True)
            if answer.strip()
        ]
        _write_lines(talks, lines)
    old = load_dictionary(base.dictionary(first))
    wanted = TextRequest(str(talks), TALK_TOKENS, own_share=0.0, template_share=0.5)
    found = harvest(run, source, str(old.site), wanted, name=CHAT, progress=board)
    if NAME not in run.names("dictionaries", "monoscope.json"):
        recipe = Recipe(latents=old.n_latents, k=int(old.settings.get("k", 32)), tokens=CONTINUE_TOKENS)
        train_dictionaries(
            run, [recipe], Source(found["activations"], start=first, keep=KEEP), name=NAME, progress=board
        )
    return model, load_dictionary(run.dictionary(NAME)), first


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    with replacing(path) as aside:
        aside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def at_the_decision(model: LanguageModel, dictionary: Dictionary, asked: Sequence[str]) -> Reading:
    """What stands at the last token before the answer."""
    examples = [Example(str(number), False, prompt) for number, prompt in enumerate(asked)]
    return read_examples(model, dictionary, examples, part="last")


def choose(
    refusing: Reading, answering: Reading, living: Float[Tensor, "n_latents"]
) -> tuple[list[int], dict[int, dict[str, float]], Float[Tensor, "d_model"]]:
    """Features by (2 AUROC - 1) times the difference of means, the best first, and the difference of residuals."""
    features = torch.nonzero(living > 0).flatten()
    mine, others = columns_of(refusing.code, features), columns_of(answering.code, features)
    some = torch.nonzero((mine > 0).double().mean(0) >= 0.2).flatten()
    table = torch.cat([mine, others])[:, some]
    label = torch.arange(len(table)) < len(mine)
    areas = torch.tensor([area(table[:, column], label) for column in range(len(some))])
    score = (2 * areas - 1) * (mine[:, some].mean(0) - others[:, some].mean(0))
    order = torch.argsort(-score, stable=True)[:TWENTY].tolist()
    means = refusing.x.float().mean(0) - answering.x.float().mean(0)
    told = {
        int(features[some[place]]): {
            "auroc": float(areas[place]),
            "fires_refused": float((mine[:, some[place]] > 0).double().mean()),
            "fires_answered": float((others[:, some[place]] > 0).double().mean()),
            "difference": float(mine[:, some[place]].mean() - others[:, some[place]].mean()),
        }
        for place in order
    }
    return list(told), told, means


def contexts(model: LanguageModel, dictionary: Dictionary, features: Sequence[int]) -> dict[int, list[str]]:
    """Where each feature fires most in the messages of training: the text up to that token, the most first."""
    asked = [*prompts_in_turn("scam_tasks", "train"), *prompts_in_turn("lookalike_tasks", "train")]
    examples = [Example(str(n), False, messages=(("user", prompt),)) for n, prompt in enumerate(asked)]
    reading = read_examples(model, dictionary, examples)
    first = reading.starts[reading.text_of_token]
    columns = columns_of(reading.code, torch.tensor(features)).T
    return {
        feature: [
            str(model.tokenizer.decode(reading.ids[max(int(first[token]), token - 9) : token + 1].tolist()))
            for token in column.topk(CONTEXTS).indices.tolist()
        ]
        for feature, column in zip(features, columns, strict=True)
    }


def along(dictionary: Dictionary, means: Float[Tensor, "d_model"]) -> list[int]:
    """The living features whose directions lie nearest to the difference of means."""
    near = dictionary.W_dec.float() @ (means / means.norm())
    near[dictionary.stats.max <= 0] = -1
    return near.argsort(descending=True)[:NEAR].tolist()


def pushes(dictionary: Dictionary, features: Sequence[int], means: Tensor, lot: int, strength: float) -> list[Way]:
    """Four pushes of one length: above 0 to make it refuse, below 0 to make it comply."""
    size = strength * dictionary.stats.mean_norm
    return [
        Way(f"one feature {strength:+}", (resolve(Edit(features[0], "add", strength, "r", SCOPE), dictionary),)),
        Way(f"sum of {HANDFUL} {strength:+}", (push_at(dictionary, _sum(dictionary, features), size, scope=SCOPE),)),
        Way(f"random feature {strength:+}", (resolve(Edit(lot, "add", strength, "r", SCOPE), dictionary),)),
        Way(f"difference of means {strength:+}", (push_at(dictionary, means, size, scope=SCOPE),)),
    ]


def screen(model: LanguageModel, dictionary: Dictionary, features: Sequence[int]) -> dict[int, float]:
    """The share of every second look-alike of the split `choose` that is refused with each candidate turned up."""
    alike = judging("lookalike_tasks", "choose")[::2]
    found = {}
    for feature in features:
        up = resolve(Edit(feature, "add", SCREEN_PUSH, "r", SCOPE), dictionary)
        found[feature] = sum(map(refused, answers(model, alike, (up,), SCREEN_TOKENS))) / len(alike)
        say(f"feature {feature} {SCREEN_PUSH:+}: {found[feature]:.3f}")
    return found


def overcautious(
    model: LanguageModel, dictionary: Dictionary
) -> tuple[dict[int, list[int]], dict[int, dict[str, float]]]:
    """One, three and five features to take away so that fewer look-alikes of the split `choose` are refused and most
    scam requests still are; and what each candidate's absence does to the mean margins, in nats. Each task is asked in
    a frame of the training and in one that was never trained on."""
    scam, alike = (
        [frame.format(row["task"]) for row in rows(name, "choose") for frame in (TEST_FRAMES[0], TEST_FRAMES[2])]
        for name in ("scam_tasks", "lookalike_tasks")
    )
    ends = ends_of(model)
    plain = margins(model, ends, [*scam, *alike])
    wrong = [prompt for prompt, margin in zip(alike, plain[len(scam) :].tolist(), strict=True) if margin > 0] or alike
    hanging, spared = (leanings(model, dictionary, ends, asked).mean(0) for asked in (wrong, scam))
    candidates = [*hanging.topk(HANGING).indices.tolist(), *(hanging - spared).topk(SPARING).indices.tolist()]
    shifts = {}
    for feature in dict.fromkeys(candidates):
        shifts[feature] = margins(model, ends, [*scam, *alike], _ablate(dictionary, [feature])) - plain
        say(f"without {feature}: {_means(shifts[feature], len(scam))}")
    picked = {count: handful(plain, shifts, len(scam), count, KEPT) for count in COUNTS}
    return picked, {feature: _means(shift, len(scam)) for feature, shift in shifts.items()}


def _means(shift: Tensor, scams: int) -> dict[str, float]:
    return {"scam": float(shift[:scams].mean()), "lookalike": float(shift[scams:].mean())}


def ablations(
    dictionary: Dictionary, features: Sequence[int], picked: Mapping[int, Sequence[int]], lots: Sequence[int]
) -> list[Way]:
    """Features taken away: those on which over-refusal hangs, and the leading ones of the contrast; beside as many
    drawn by lot from those that fire at the decision."""
    ways = [Way(f"ablate {count} picked", _ablate(dictionary, some)) for count, some in picked.items()]
    ways += [Way(f"ablate {count} leading", _ablate(dictionary, features[:count])) for count in (HANDFUL, 10)]
    return [*ways, *(Way(f"ablate {count} random", _ablate(dictionary, lots[:count])) for count in (HANDFUL, 10))]


def _ablate(dictionary: Dictionary, features: Sequence[int]) -> tuple[Move, ...]:
    return tuple(resolve(Edit(feature, "ablate", scope=SCOPE), dictionary) for feature in features)


def _sum(dictionary: Dictionary, features: Sequence[int]) -> Float[Tensor, "d_model"]:
    return dictionary.W_dec[list(features[:HANDFUL])].float().sum(0)


def measured(model: LanguageModel, way: Way, splits: Sequence[str]) -> dict[str, Any]:
    """Refusal rates of scam requests and look-alikes of each split, with every answer."""
    row: dict[str, Any] = {"way": way.name, "edits": [str(move) for move in way.moves]}
    for split in splits:
        row[split] = {}
        for key, name in (("scam", "scam_tasks"), ("lookalike", "lookalike_tasks")):
            asked = judging(name, split)
            said = answers(model, asked, way.moves)
            found = [refused(answer) for answer in said]
            row[split][key] = {
                "refused": sum(found) / len(found),
                "interval": [round(end, 3) for end in binomial_interval(sum(found), len(found))],
                "answers": list(zip(asked, said, found, strict=True)),
            }
    return row


def _told(row: dict[str, Any]) -> dict[str, Any]:
    say(told(row))
    return row


def told(row: dict[str, Any]) -> str:
    """One line of a table."""
    splits = [row[split] for split in ("choose", *JUDGED) if split in row]
    shares = [split[key] for split in splits for key in ("scam", "lookalike")]
    cells = [f"{each['refused']:.3f} ({each['interval'][0]:.2f} to {each['interval'][1]:.2f})" for each in shares]
    return "| " + " | ".join([row["way"], *cells]) + " |"


def best_up(rows_: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first row that makes at least 95 % of look-alikes refusals, or the one that makes most."""
    shares = [row["choose"]["lookalike"]["refused"] for row in rows_]
    return rows_[next((n for n, share in enumerate(shares) if share >= 0.95), shares.index(max(shares)))]


def best_ablation(rows_: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The ablation with the fewest refused look-alikes among those that keep 85 % of scam refusals."""
    scam, alike = ({row["way"]: row["choose"][key]["refused"] for row in rows_} for key in ("scam", "lookalike"))
    kept = [row for row in rows_ if scam[row["way"]] >= 0.85]
    return min(kept or rows_, key=lambda row: (alike[row["way"]], -scam[row["way"]]))


def experiment(
    model: LanguageModel, dictionary: Dictionary, refusing: Reading, answering: Reading, seed: int
) -> dict[str, Any]:
    """Candidates, what each does alone, what is chosen on other prompts, and all ways judged."""
    features, evidence, means = choose(refusing, answering, dictionary.stats.max)
    fires = torch.bincount(refusing.code.indices.long(), minlength=dictionary.n_latents)
    living = torch.nonzero(fires > 4).flatten()
    living = living[~torch.isin(living, torch.tensor(features))]
    lots = living[torch.randperm(len(living), generator=torch.Generator().manual_seed(seed))].tolist()
    alone = screen(model, dictionary, list(dict.fromkeys([*features, *along(dictionary, means)])))
    upward = sorted(alone, key=lambda feature: -alone[feature])
    picked, without = overcautious(model, dictionary)
    strengths = (*UP, *(-each for each in DOWN))
    by_strength = {each: pushes(dictionary, upward, means, lots[0], each) for each in strengths}
    away = ablations(dictionary, features, picked, lots)
    singles = [_told(measured(model, by_strength[each][0], ("choose",))) for each in UP]
    taken = [_told(measured(model, way, ("choose",))) for way in away]
    turned = [way for ways in by_strength.values() for way in ways]
    return {
        "features": [{"feature": each, **evidence[each]} for each in features],
        "alone": alone,
        "without": without,
        "upward": upward[:HANDFUL],
        "lots": lots[:10],
        "picked": picked,
        "chosen_up": best_up(singles)["way"],
        "chosen_ablation": best_ablation([row for row in taken if row["way"].endswith("picked")])["way"],
        "tried": [*singles, *taken],
        "judged": [_told(measured(model, way, JUDGED)) for way in [Way("nothing", ()), *away]],
        "turned": [_told(measured(model, way, ("test",))) for way in turned],
    }


def main() -> None:
    """Prepare, choose, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("runs/demo"))
    parser.add_argument("--run", type=Path, default=Path("runs/refusing"))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began = time.monotonic()
    base, run = Run(chosen.base), Run(chosen.run)
    model, dictionary, first = prepare(base, run, str(chosen.run / "model"), Board())
    refusing, answering = (
        at_the_decision(model, dictionary, prompts_in_turn(name, "train")) for name in ("scam_tasks", "lookalike_tasks")
    )
    asked = judging("scam_tasks", "test")
    fvu = {
        name: at_the_decision(model, each, asked).fvu
        for name, each in (("continued", dictionary), ("as it was", load_dictionary(run.dictionary(first))))
    }
    say(f"FVU at the decision {fvu}")
    found = experiment(model, dictionary, refusing, answering, chosen.seed)
    found["contexts"] = contexts(model, dictionary, found["upward"])
    told_of = list(
        dict.fromkeys([*found["upward"], *found["picked"][HANDFUL], *(each["feature"] for each in found["features"])])
    )
    result = {**found, "fvu_at_decision": fvu, "labels": labels_for(base, first, told_of)}
    write_json(chosen.run / "features.json", {**result, "seconds": round(time.monotonic() - began, 1)})
    sys.stdout.write(f"chosen on other prompts: {result['chosen_up']}; {result['chosen_ablation']}\n\n")
    one = result["upward"][0]
    sys.stdout.write(f"feature {one} fires most at the end of: {' | '.join(result['contexts'][one])}\n\n")
    for rows_, heads in ((result["judged"], ("", "rare ")), (result["turned"], ("",))):
        named = [f"{head}{kind}" for head in heads for kind in ("scam requests refused", "look-alikes refused")]
        sys.stdout.write(f"| {' | '.join(['change', *named])} |\n| --- |{' --: |' * len(named)}\n")
        sys.stdout.write("\n".join(map(told, rows_)) + "\n\n")


if __name__ == "__main__":
    main()
