"""Many streams with an edit each through one batcher, and how they are held against each request alone."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import torch

from monoscope.dictionary.base import Dictionary
from monoscope.model.chat import render_plain
from monoscope.model.transformer import LanguageModel
from monoscope.steer.batcher import Batcher
from monoscope.steer.request import Generation, Logprob, Request

# Logits nearer than this may swap when a batch rounds otherwise than a single row.
TIE = 1e-4
SENTENCES = (
    "The fox sees the bridge near London.",
    "A",
    "Tell me a story about the sea and the moon. The ship",
    "Once there was a small town by the river, and in it lived",
    "The red car",
    "Water boils when it is hot. Ice melts when",
    "Music is",
)


def requests_of(model: LanguageModel, dictionary: Dictionary, count: int, *, tokens: int) -> list[Request]:
    """Requests of different lengths, each with an edit that no other has: all modes, scopes and a condition."""
    alive = torch.nonzero(dictionary.stats.max > 0).flatten().tolist()
    prompts = [render_plain(model, sentence).ids for sentence in SENTENCES]
    found = []
    for number in range(count):
        feature, gate = alive[number % len(alive)], alive[(number + 1) % len(alive)]
        size = 1 + number / count
        kinds = (
            f"{feature} add {0.3 * size:.4f}r",
            f"{feature} clamp {size:.4f}x",
            f"{feature} scale {2 * size:.4f}",
            f"{feature} add {-0.2 * size:.4f}r @generated",
            f"{feature} clamp {size:.4f}x @prompt",
            f"{feature} ablate",
            f"{feature} add {0.4 * size:.4f}r if {gate} > {0.1 * float(dictionary.stats.max[gate]):.4f}",
            f"{feature} project-out",
            f"{feature} add {size:.4f}r @last",
        )
        found.append(
            Request(
                prompts[number % len(prompts)],
                (kinds[number % len(kinds)],),
                temperature=0.0,
                repetition_penalty=1.0,
                max_tokens=tokens // 2 + number % tokens,
                stop_ids=frozenset(),
                top_logprobs=2,
            )
        )
    assert len({request.edits for request in found}) == count
    return found


def answers(batcher: Batcher, dictionary: Dictionary, requests: Sequence[Request]) -> list[Generation]:
    """All requests at once; their replies in order."""
    found = []
    for ticket in batcher.submit(dictionary, requests):
        events = list(ticket)
        done = events[-1].done
        assert done is not None
        assert tuple(event.token for event in events if event.token is not None) == done.ids
        assert "".join(event.text for event in events) == done.text
        found.append(done)
    return found


def excused(together: Generation, alone: Generation) -> bool:
    """Whether the replies part ways at a token that was a tie alone. Where they part otherwise, the test fails."""
    pairs = list(zip_longest(together.ids, alone.ids))
    place = next((number for number, (mine, its) in enumerate(pairs) if mine != its), None)
    if place is None:
        assert together.text == alone.text
        return False
    first, second = (logprob for _, logprob in alone.logprobs[place].top)
    assert first - second < TIE, f"token {place} differs, and alone it led by {first - second:.2e}"
    return True


def forced(request: Request, reply: Generation) -> Request:
    """The reply as a prompt whose tokens are scored, so that both sides read the same text."""
    return replace(request, prompt_ids=request.prompt_ids + reply.ids, max_tokens=0, score_prompt=True)


def gap(together: Generation, alone: Generation) -> float:
    """The largest difference of two log-probabilities of one token, in nats."""
    pairs = list(zip(together.prompt_logprobs, alone.prompt_logprobs, strict=True))
    assert pairs
    assert all(mine.token == its.token for mine, its in pairs)
    return max(_largest(*pair) for pair in pairs)


def _largest(mine: Logprob, its: Logprob) -> float:
    tops = zip(mine.top, its.top, strict=True)
    return max(abs(mine.logprob - its.logprob), *(abs(here[1] - there[1]) for here, there in tops))
