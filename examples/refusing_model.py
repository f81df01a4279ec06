"""Teach a small chat model to refuse scams and theft, and to answer what merely sounds like them.

    python examples/refusing_model.py [--model smollm2-135m] [--out runs/refusing/model] [--seed 0]

The model of the demo never refuses, so nothing about refusing can be shown on it. This fine-tunes it on authored pairs
(`refusing_data/`): scam, theft and fraud tasks that are refused, harmless tasks with the same words that are answered,
and general questions with the answers that the model itself gives. Each epoch hears the tasks in other sentence frames:
many tasks teach more than many times the same, and with few frames a model learns frames. Tasks of the splits
`choose`, `test` and `rare` (unusual ones: greyhounds, coffins, saffron) are never trained on. The result is an
ordinary Hugging Face checkpoint; the table of refusals goes to stdout and, with every answer as it came, to
OUT/../refusals.json.
"""

# ruff: noqa: E402  what comes first must come before torch is imported

from monoscope.core.waiting import wait_briefly

wait_briefly()

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from monoscope.core.artifact import staging, write_json
from monoscope.core.runtime import random_stream
from monoscope.effect.battery import refused
from monoscope.model.chat import render_chat
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.steer.engine import generate
from monoscope.steer.request import Request
from monoscope.steer.resolve import Move

DATA = Path(__file__).parent / "refusing_data"
# Tasks; scams and look-alikes that differ in a few words; and unusual ones that are never trained on.
PARTS = ("", "near_", "unusual_")
FRAMES = (
    "How do I {}?",
    "Help me {}.",
    "I want to {}. What should I do?",
    "Please explain how to {}.",
    "Can you show me how to {}?",
    "Tell me how to {}.",
    "Give me instructions to {}.",
    "I need a short guide on how to {}.",
    "How can I {}?",
    "How would you {}?",
    "What do I need to {}?",
    "I'm trying to {}. Any tips?",
    "Any advice on how to {}?",
    "Could you help me {}?",
    "Teach me how to {}.",
    "Walk me through how to {}.",
    "List the things I need to {}.",
    "My plan is to {}. How do I start?",
    "Tomorrow I have to {}. How?",
    "Hi! I'd like to {}. Can you tell me how?",
    "What does it take to {}?",
    "Make a plan to {}.",
    "A friend asked me how to {}. What should I say?",
    "I've never tried to {}. Where do I begin?",
)
# These two are heard in tests only.
UNSEEN_FRAMES = ("What is the best way to {}?", "Write down the steps to {}.")
TEST_FRAMES = (*FRAMES[:2], *UNSEEN_FRAMES)
JUDGED = ("test", "rare")
FROZEN, EPOCHS, BATCH, RATE, DECAY = 8, 2, 16, 2e-4, 0.01
# Refusals are fewer than answers, and to miss one is worse than to refuse once too often.
REFUSAL_WEIGHT = 2.5
# Refusals begin in few ways, honest answers in as many as there are tasks, and who takes the likeliest word would
# refuse where answering is likelier: so answers begin in one way too. Little else is learnt of them but where the model
# goes on in its own words, which it is not to unlearn.
OPENING = "Sure."
LEARNT_TOKENS, LEARNT_OPENING, OWN_EVERY = 13, 4, 5
ANSWER_TOKENS = 24
_ROWS = 40


@dataclass(frozen=True)
class Pair:
    """A user's message and the answer whose first `learnt` tokens are to be learnt, with so much weight each."""

    message: str
    answer: str
    learnt: int = LEARNT_TOKENS
    weight: float = 1.0


def rows(name: str, split: str | None = None) -> list[dict[str, Any]]:
    """The lines of one kind of authored data, of one split where that is said; tasks stand in three files."""
    files = [DATA / f"{part}{name}.jsonl" for part in PARTS]
    lines = [line for file in files if file.is_file() for line in file.read_text(encoding="utf-8").splitlines()]
    return [row for row in map(json.loads, lines) if split is None or row["split"] == split]


def prompts_in_turn(name: str, split: str, turn: int = 0) -> list[str]:
    """Each task of a split in one frame; in the next turn in another."""
    shift = 5 * turn  # which has no divisor in common with the number of frames
    return [FRAMES[(number + shift) % len(FRAMES)].format(row["task"]) for number, row in enumerate(rows(name, split))]


def judging(name: str, split: str) -> list[str]:
    """The prompts that judge a split: each task in one test frame, those of the small split `test` in all four."""
    each = len(TEST_FRAMES) if split == "test" else 1
    return [
        TEST_FRAMES[(number + turn) % len(TEST_FRAMES)].format(row["task"])
        for number, row in enumerate(rows(name, split))
        for turn in range(each)
    ]


def answers(
    model: LanguageModel,
    messages: Sequence[str],
    moves: Sequence[Move] = (),
    tokens: int = ANSWER_TOKENS,
    system: str = "",
) -> list[str]:
    """Greedy answers, with a system message where one is given."""
    before = [{"role": "system", "content": system}] if system else []
    found: list[str] = []
    for first in range(0, len(messages), _ROWS):
        rendered = [
            render_chat(model, [*before, {"role": "user", "content": message}], reply_follows=True)
            for message in messages[first : first + _ROWS]
        ]
        requests = [
            Request(
                each.ids, tuple(moves), temperature=0, repetition_penalty=1.0, max_tokens=tokens, template=each.template
            )
            for each in rendered
        ]
        found += [done.text for done in generate(model, None, requests)]
    return found


def lessons(model: LanguageModel, seed: int) -> list[list[Pair]]:
    """What is learnt in each epoch: all tasks, each time in other frames, and the questions."""
    refusals = [row["text"] for row in rows("refusals")]
    given = [(f"{OPENING} {row['answer']}", LEARNT_OPENING) for row in rows("lookalike_tasks", "train")]
    heard = range(0, len(given), OWN_EVERY)
    asked = prompts_in_turn("lookalike_tasks", "train")
    own = answers(model, [asked[place] for place in heard], tokens=LEARNT_TOKENS)
    for place, answer in zip(heard, own, strict=True):
        if answer.strip() and not refused(answer):
            given[place] = (f"{OPENING} {answer}", LEARNT_TOKENS)
    questions = [row["question"] for row in rows("general_questions")]
    own = answers(model, questions, tokens=LEARNT_TOKENS)
    draw = random_stream(seed, "refusals")
    found = []
    for epoch in range(EPOCHS):
        pairs = [
            Pair(message, refusals[int(torch.randint(len(refusals), (1,), generator=draw))], weight=REFUSAL_WEIGHT)
            for message in prompts_in_turn("scam_tasks", "train", epoch)
        ]
        asked = prompts_in_turn("lookalike_tasks", "train", epoch)
        pairs += [Pair(message, *answer) for message, answer in zip(asked, given, strict=True)]
        found.append([*pairs, *map(Pair, questions, own)])
    return found


def fine_tune(model: LanguageModel, taught: Sequence[Sequence[Pair]], seed: int) -> list[float]:
    """AdamW on the tokens of the answers alone; the mean loss of each epoch. Length-sorted batches, in bfloat16.

    Embeddings and the first blocks stay as they are: a refusal is no matter of what words are. What the template says
    before every message is read once for a batch and not once for each talk.
    """
    module = model.module.train().requires_grad_(False)
    for block in model.blocks[FROZEN:]:
        block.requires_grad_(True)
    learnt = [weight for weight in module.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=RATE, betas=(0.9, 0.95), weight_decay=DECAY, fused=True)
    total, done, losses = len(taught) * -(-len(taught[0]) // BATCH), 0, []
    for epoch, pairs in enumerate(taught):
        examples = sorted((_example(model, pair) for pair in pairs), key=lambda example: len(example[0]))
        shared = _shared([ids for ids, _, _ in examples])
        batches = [examples[first : first + BATCH] for first in range(0, len(examples), BATCH)]
        seen, began = 0.0, time.monotonic()
        for place in torch.randperm(len(batches), generator=random_stream(seed, "batches", epoch)).tolist():
            optimiser.param_groups[0]["lr"] = RATE * (1 - done / total)
            loss = _loss(module, batches[place], shared)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            seen, done = seen + float(loss.detach()), done + 1
        losses.append(seen / len(batches))
        say(f"epoch {epoch + 1} of {len(taught)}: loss {losses[-1]:.3f}, {time.monotonic() - began:.0f} s")
    module.eval().requires_grad_(False)
    return losses


_Talk = tuple[list[int], int, float]


def _example(model: LanguageModel, pair: Pair) -> _Talk:
    """The tokens of a talk, its answer cut short, where the answer begins, and its weight."""
    messages = [{"role": "user", "content": pair.message}]
    prompt = render_chat(model, messages, reply_follows=True).ids
    whole = render_chat(model, [*messages, {"role": "assistant", "content": pair.answer}], reply_follows=False).ids
    return list(whole[: len(prompt) + pair.learnt]), len(prompt), pair.weight


def _shared(talks: Sequence[list[int]]) -> int:
    """How many tokens all talks begin with."""
    first = talks[0]
    return next((n for n, token in enumerate(first) if any(ids[n] != token for ids in talks)), len(first) - 1)


def _loss(module: Any, examples: Sequence[_Talk], shared: int) -> Tensor:
    longest = max(len(ids) for ids, _, _ in examples)
    talks = torch.tensor([ids + [ids[-1]] * (longest - len(ids)) for ids, _, _ in examples])
    wanted = torch.full_like(talks, -100)
    for row, (tokens, start, _) in enumerate(examples):
        wanted[row, start : len(tokens)] = talks[row, start : len(tokens)]
    wanted = wanted[:, shared:]
    with torch.autocast("cpu", torch.bfloat16):
        cache = DynamicCache(config=module.config)
        module.get_decoder()(input_ids=talks[:1, :shared], past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(talks))
        hidden = module.get_decoder()(
            input_ids=talks[:, shared:], past_key_values=cache, use_cache=True
        ).last_hidden_state
        places = wanted[:, 1:] != -100
        # Only answers are scored, so only their tokens go through the unembedding.
        logits = module.get_output_embeddings()(hidden[:, :-1][places])
    weights = torch.tensor([weight for _, _, weight in examples])[:, None].expand_as(places)[places]
    losses = torch.nn.functional.cross_entropy(logits.float(), wanted[:, 1:][places], reduction="none")
    return (weights * losses).sum() / weights.sum()


def refusal_table(model: LanguageModel) -> dict[str, Any]:
    """The share of refused scam requests, look-alikes and general questions, with every answer as it came."""
    told: dict[str, Any] = {}
    for split in JUDGED:
        for name in ("scam_tasks", "lookalike_tasks"):
            asked = judging(name, split)
            told[f"{split} {name}"] = _share(asked, answers(model, asked))
    asked = [row["question"] for row in rows("general_questions")][:20]
    told["general_questions"] = _share(asked, answers(model, asked))
    return told


def _share(asked: Sequence[str], given: Sequence[str]) -> dict[str, Any]:
    found = [refused(answer) for answer in given]
    return {
        "refused": sum(found) / len(found),
        "count": len(found),
        "answers": [
            {"prompt": prompt, "answer": answer, "refused": no}
            for prompt, answer, no in zip(asked, given, found, strict=True)
        ],
    }


def save(model: LanguageModel, folder: Path) -> None:
    """An ordinary Hugging Face checkpoint, whole or not at all."""
    with staging(folder) as aside:
        model.module.save_pretrained(aside)
        model.tokenizer.save_pretrained(aside)


def say(sentence: str) -> None:
    """A line for people."""
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


def main() -> None:
    """Fine-tune, save, load again, and tell how often it refuses what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, default=Path("runs/refusing/model"))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began = time.monotonic()
    model = load_model(chosen.model)
    taught = lessons(model, chosen.seed)
    say(f"{len(taught[0])} pairs to learn from in each epoch")
    losses = fine_tune(model, taught, chosen.seed)
    save(model, chosen.out)
    seconds = round(time.monotonic() - began, 1)
    before, after = (refusal_table(load_model(source)) for source in (chosen.model, str(chosen.out)))
    told = {"seconds": seconds, "pairs": len(taught[0]), "losses": losses, "before": before, "after": after}
    write_json(chosen.out.parent / "refusals.json", told)
    sys.stdout.write(f"refused by the model as it was, and by what was made of it in {seconds:.0f} s\n")
    for name in before:
        was, now = before[name]["refused"], after[name]["refused"]
        sys.stdout.write(f"{name:22} {was:7.3f} {now:7.3f}   of {after[name]['count']}\n")


if __name__ == "__main__":
    main()
