"""Two answers to one prompt, with and without edits, as a stream of small records for the page.

Both are generated in one batch with the same random draws, so they agree until the edits make a difference. At the end
comes the proof of what was edited, and both answers again with the steered feature shaded, read by the plain model.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from monoscope.core.errors import BadRequest
from monoscope.core.runtime import passing_computation
from monoscope.dictionary.base import Dictionary
from monoscope.model.transformer import LanguageModel
from monoscope.render.tokens import display_units, text_parts, units_json
from monoscope.safety.patrol import told_alerts
from monoscope.serve.reading import read_ids
from monoscope.steer.batcher import Batcher, Ticket
from monoscope.steer.compare import proof_to_json
from monoscope.steer.edits import parse_edit
from monoscope.steer.prompt import request_for
from monoscope.steer.request import Event, Generation, Request, bind_request

PANES = ("baseline", "steered")
MOST_ANSWER_TOKENS = 400
_LOOK_SECONDS = 0.2
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
        common = {"seed": self.seed, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return [request_for(model, asked, edits, **common) for edits in ((), self.edits)]


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


class Answers(Iterator[Record]):
    """Records for the page. Whoever does not read to the end must close it, also before the first record. Mutable."""

    def __init__(self, records: Iterator[Record], tickets: Sequence[Ticket]) -> None:
        self._records, self._tickets = records, tickets

    def __next__(self) -> Record:
        return next(self._records)

    def close(self) -> None:
        """Leave: both answers end."""
        for ticket in self._tickets:
            ticket.cancel()


def steer_events(batcher: Batcher, model: LanguageModel, dictionary: Dictionary, ask: Ask) -> Answers:
    """Records for the page: `queue`, `baseline` and `steered` pieces, and `done`.

    Raises
        Busy  the queue is full; by the call itself, as the refusals of `check_ask`.
    """
    requests = ask.requests(model)
    tickets = batcher.submit(dictionary, requests)
    return Answers(_answers(batcher, model, dictionary, ask, requests[0].prompt_ids, tickets), tickets)


def _answers(  # noqa: PLR0913
    batcher: Batcher,
    model: LanguageModel,
    dictionary: Dictionary,
    ask: Ask,
    prompt: tuple[int, ...],
    tickets: Sequence[Ticket],
) -> Iterator[Record]:
    began = time.monotonic()
    ids: tuple[list[int], list[int]] = ([], [])
    done: dict[int, Generation] = {}
    differs_at: int | None = None
    for pane, event in _events(batcher, tickets):
        if event is None:
            yield "queue", {"ahead": pane}
            continue
        if event.done is not None:
            done[pane] = event.done
        elif event.token is not None:
            ids[pane].append(event.token)
        first = differs_at is None and pane == 1 and _differs(ids)
        if first:
            differs_at = len(ids[1]) - 1
        yield PANES[pane], _piece(event, len(ids[pane]), first)
    seconds = time.monotonic() - began
    yield "done", _summary(model, dictionary, ask, prompt, (done[0], done[1]), seconds, differs_at)


def _events(batcher: Batcher, tickets: Sequence[Ticket]) -> Iterator[tuple[int, Event | None]]:
    """News of all tickets with the number of the ticket, in turns; without an event, how many wait before them."""
    running = set(range(len(tickets)))
    while running:
        for pane in sorted(running):
            event = tickets[pane].get(_LOOK_SECONDS)
            if event is None:
                ahead = batcher.ahead(tickets[pane])
                if ahead is not None:
                    yield ahead, None
                continue
            yield pane, event
            if event.done is not None:
                running.discard(pane)


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
        "alerts": {"baseline": told_alerts(plain.alerts), "steered": told_alerts(steered.alerts)},
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
    with passing_computation():
        read = read_ids(model, dictionary, (*prompt, *answer.ids), skip=len(prompt))
        units = display_units(read.tokens, read.activations(dictionary, feature), special=read.special)
    return units_json(units, float(dictionary.stats.max[feature]))


def _first_difference(seen: int | None, pair: tuple[Generation, Generation]) -> int | None:
    """Where the answers part; one that only stops earlier parts there."""
    lengths = [len(each.ids) for each in pair]
    return min(lengths) if seen is None and lengths[0] != lengths[1] else seen


def _first_feature(ask: Ask) -> int | None:
    return parse_edit(ask.edits[0]).feature if ask.edits else None
