"""Two answers to one prompt, with and without edits, as a stream of small records for the page.

Both are generated in one batch with the same random draws, so they agree until the edits make a difference. At the end
comes the proof of what was edited, and both answers again with the steered feature shaded, read by the plain model.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from monoscope.core.errors import BadRequest
from monoscope.dictionary.base import Dictionary
from monoscope.model.transformer import LanguageModel
from monoscope.render.tokens import display_units, text_parts, units_json
from monoscope.serve.queue import Seat
from monoscope.serve.reading import read_ids
from monoscope.steer.compare import prompt_ids, proof_to_json
from monoscope.steer.edits import parse_edit
from monoscope.steer.engine import stream
from monoscope.steer.request import Event, Generation, Request, bind_request

PANES = ("baseline", "steered")
MOST_ANSWER_TOKENS = 400
Record = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Ask:
    """What the page asks for. `edits` are lines of the edit grammar; `shade` is the feature to shade, or None."""

    prompt: str
    edits: tuple[str, ...]
    chat: bool = True
    seed: int = 0
    temperature: float = 0.7
    max_tokens: int = 80
    shade: int | None = None

    def requests(self, model: LanguageModel) -> list[Request]:
        """The plain request and the steered one."""
        asked = [{"role": "user", "content": self.prompt}] if self.chat else self.prompt
        ids = prompt_ids(model, asked)
        common = {"seed": self.seed, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return [Request(ids, (), **common), Request(ids, self.edits, **common)]


def check_ask(ask: Ask, model: LanguageModel, dictionary: Dictionary) -> None:
    """Refuse what makes no sense before anything runs.

    Raises
        BadRequest, BadEdit, FeatureNotFound  with one sentence.
    """
    if not ask.prompt.strip():
        raise BadRequest("The message is empty; write something to answer.")
    if not 1 <= ask.max_tokens <= MOST_ANSWER_TOKENS:
        raise BadRequest(f"max_tokens is {ask.max_tokens}; ask for 1 to {MOST_ANSWER_TOKENS}.")
    for request in ask.requests(model):
        bind_request(model, dictionary, request)
    if ask.shade is not None:
        dictionary.check_feature(ask.shade)


def steer_events(model: LanguageModel, dictionary: Dictionary, ask: Ask, seat: Seat) -> Iterator[Record]:
    """Records for the page: `queue`, `baseline` and `steered` pieces, and `done`. Stop iterating to cancel.

    Raises
        BadRequest, BadEdit, FeatureNotFound  as `check_ask` and the engine say, before the first record.
    """
    try:
        while not seat.try_turn():
            yield "queue", {"ahead": seat.ahead}
        yield from _answers(model, dictionary, ask)
    finally:
        seat.leave()


def _answers(model: LanguageModel, dictionary: Dictionary, ask: Ask) -> Iterator[Record]:
    requests = ask.requests(model)
    began = time.monotonic()
    ids: tuple[list[int], list[int]] = ([], [])
    done: dict[int, Generation] = {}
    differs_at: int | None = None
    for event in stream(model, dictionary, requests):
        if event.done is not None:
            done[event.request] = event.done
        elif event.token is not None:
            ids[event.request].append(event.token)
        first = differs_at is None and event.request == 1 and _differs(ids)
        if first:
            differs_at = len(ids[1]) - 1
        yield PANES[event.request], _piece(event, len(ids[event.request]), first)
    seconds = time.monotonic() - began
    yield "done", _summary(model, dictionary, ask, requests[0].prompt_ids, (done[0], done[1]), seconds, differs_at)


def _differs(ids: tuple[list[int], list[int]]) -> bool:
    plain, steered = ids
    return bool(steered) and (len(plain) < len(steered) or plain[len(steered) - 1] != steered[-1])


def _piece(event: Event, count: int, first: bool) -> dict[str, Any]:
    parts = [[part.kind, part.text] for part in text_parts(event.text)]
    return {"n": count, "parts": parts, "text": event.text, "first": first, "finished": event.done is not None}


def _summary(  # noqa: PLR0913
    model: LanguageModel,
    dictionary: Dictionary,
    ask: Ask,
    prompt: tuple[int, ...],
    pair: tuple[Generation, Generation],
    seconds: float,
    differs_at: int | None,
) -> dict[str, Any]:
    plain, steered = pair
    shade = ask.shade if ask.shade is not None else _first_feature(ask)
    return {
        "baseline": plain.text,
        "steered": steered.text,
        "edits": [proof_to_json(proof) for proof in steered.proof],
        "finish_reason": {"baseline": plain.finish_reason, "steered": steered.finish_reason},
        "tokens": {"baseline": len(plain.ids), "steered": len(steered.ids)},
        "seconds": round(seconds, 3),
        "first_difference": _first_difference(differs_at, pair),
        "mean_residual_norm": dictionary.stats.mean_norm,
        "shaded": shade,
        "units": None
        if shade is None
        else [shaded(model, dictionary, prompt, each, shade) for each in (plain, steered)],
    }


def shaded(
    model: LanguageModel, dictionary: Dictionary, prompt: tuple[int, ...], answer: Generation, feature: int
) -> list[dict[str, object]]:
    """An answer's units with one feature's activation, as the plain model reads it after the prompt."""
    if not answer.ids:
        return []
    read = read_ids(model, dictionary, (*prompt, *answer.ids), skip=len(prompt))
    units = display_units(read.tokens, read.activations(dictionary, feature), special=read.special)
    return units_json(units, float(dictionary.stats.max[feature]))


def _first_difference(seen: int | None, pair: tuple[Generation, Generation]) -> int | None:
    """Where the answers part; one that only stops earlier parts there."""
    lengths = [len(each.ids) for each in pair]
    return min(lengths) if seen is None and lengths[0] != lengths[1] else seen


def _first_feature(ask: Ask) -> int | None:
    return parse_edit(ask.edits[0]).feature if ask.edits else None
