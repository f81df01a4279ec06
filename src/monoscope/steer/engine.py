"""Batched generation in which each row has its own edits, sampling and length.

Rows are padded on the left and share one key-value cache. Edits of the prompt act while the prompt is read, so that the
cache already holds their effect; a generated token is edited when it is fed back, so the last one never is. Hooks live
only inside a step: a reader that stops listening leaves the model as it was. One model runs one step at a time.
"""

import contextlib
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from monoscope.core.site import Site
from monoscope.model.transformer import LanguageModel
from monoscope.steer.apply import SitePlan, apply_edits, plan_site
from monoscope.steer.pieces import TextPieces
from monoscope.steer.proof import EditProof, ProofBook
from monoscope.steer.request import BoundRequest, Dictionaries, Event, Generation, Request, Watch, bind_request
from monoscope.steer.sampling import Sampler

_LOCKS: "weakref.WeakKeyDictionary[LanguageModel, threading.RLock]" = weakref.WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()


def generate(
    model: LanguageModel,
    dictionary: Dictionaries,
    requests: Sequence[Request],
    *,
    on_token: Callable[[int, int], None] | None = None,
    should_stop: Callable[[int], bool] | None = None,
    watch: Watch | None = None,
) -> list[Generation]:
    """Generate all requests in one batch. `on_token(request, token)` hears each token as it comes.

    Cost    one forward pass for each token of the longest reply; edits add a few vector operations to it.

    Raises
        BadRequest, BadEdit, FeatureNotFound  as `bind_request` says, before anything runs.
    """
    done: dict[int, Generation] = {}
    for event in stream(model, dictionary, requests, should_stop=should_stop, watch=watch):
        if event.done is not None:
            done[event.request] = event.done
        elif on_token is not None and event.token is not None:
            on_token(event.request, event.token)
    return [done[number] for number in range(len(requests))]


def stream(
    model: LanguageModel,
    dictionary: Dictionaries,
    requests: Sequence[Request],
    *,
    should_stop: Callable[[int], bool] | None = None,
    watch: Watch | None = None,
) -> Iterator[Event]:
    """The same, token by token. Stop iterating to cancel everything; `should_stop(request)` cancels one.

    Refusals are raised by the call itself. The last event of a request has no token, what text was left, and the
    generation.
    """
    bound = [bind_request(model, dictionary, request) for request in requests]
    return _stream(model, bound, should_stop, watch)


def _stream(
    model: LanguageModel,
    requests: Sequence[BoundRequest],
    should_stop: Callable[[int], bool] | None,
    watch: Watch | None,
) -> Iterator[Event]:
    if not requests:
        return
    loop = _Loop(model, requests, watch)
    writers = [_Writer(model, request) for request in requests]
    while loop.alive:
        for number, token, sound in loop.step():
            writer = writers[number]
            reason = writer.reason_before(token, sound)
            if reason is None:
                yield Event(number, token, writer.push(token))
                reason = writer.reason_after()
            if reason is None and should_stop is not None and should_stop(number):
                reason = "cancelled"
            if reason is not None:
                rest, done = writer.finish(reason, loop.finish(number))
                yield Event(number, None, rest, done)


class _Writer:
    """The growing reply of one request. Mutable."""

    def __init__(self, model: LanguageModel, request: BoundRequest) -> None:
        self._request = request
        self._pieces = TextPieces(model.vocabulary, model.special_ids)
        self._ids: list[int] = []
        self._texts: list[str] = []

    def reason_before(self, token: int, sound: bool) -> str | None:
        """Why the token just drawn ends the reply without being part of it, or None."""
        if not sound:
            return "numbers"
        return "stop" if token in self._request.stop_ids else None

    def push(self, token: int) -> str:
        """Take the token in; the text that became whole."""
        self._ids.append(token)
        self._texts.append(self._pieces.push(token))
        return self._texts[-1]

    def reason_after(self) -> str | None:
        """Why the reply is over with this token, or None."""
        return "length" if len(self._ids) >= self._request.max_tokens else None

    def finish(self, reason: str, proof: tuple[EditProof, ...]) -> tuple[str, Generation]:
        """The text that was still waiting, and the whole."""
        rest = self._pieces.finish()
        return rest, Generation(tuple(self._ids), "".join(self._texts) + rest, reason, proof)


class _Loop:
    """The decoding state of one batch. Mutable: cache, what is fed next, and which rows still run."""

    def __init__(self, model: LanguageModel, requests: Sequence[BoundRequest], watch: Watch | None) -> None:
        self._model, self._watch = model, watch
        device = model.device
        self._cache = DynamicCache(config=model.module.config)
        self.alive = set(range(len(requests)))
        self._rows = torch.arange(len(requests), device=device)
        prompts = [request.prompt_ids for request in requests]
        self._sampler = Sampler([request.sampling for request in requests], prompts, model.vocab_size, device)
        longest = max(map(len, prompts))
        padded = [[prompt[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self._ids = torch.tensor(padded, device=device)
        # Padding has negative positions; so have rows that are over. Neither is edited.
        self._positions = torch.arange(longest, device=device)[None] - (longest - lengths)[:, None]
        self._attention = (self._positions >= 0).long()
        self._plans, self._books, self._places = _plans(requests, device)
        accepted = inspect.signature(model.module.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def step(self) -> list[tuple[int, int, bool]]:
        """Feed what is next and draw: request, token, and whether its logits were sound, for each running row."""
        with _lock_of(self._model), torch.inference_mode():
            self._drop_ended()
            tokens, sound = self._sampler.draw(self._forward())
            self._ids = tokens[:, None]
            newest = self._positions[:, -1:]
            self._positions = torch.where(newest < 0, -1, newest + 1)
            self._attention = torch.nn.functional.pad(self._attention, (0, 1), value=1)
        drawn = zip(self._rows.tolist(), tokens.tolist(), sound.tolist(), strict=True)
        return [item for item in drawn if item[0] in self.alive]

    def finish(self, number: int) -> tuple[EditProof, ...]:
        """End a row, and tell what its edits did."""
        self.alive.discard(number)
        with torch.inference_mode():
            self._positions = torch.where((self._rows == number)[:, None], -1, self._positions)
            proofs = {site: book.proofs(number) for site, book in self._books.items()}
        return tuple(proofs[site][place] for site, place in self._places[number])

    def _forward(self) -> Float[Tensor, "rows vocab"]:
        with contextlib.ExitStack() as hooks:
            # Hooks run in the order in which they are entered: the watcher sees the residual before any edit.
            if self._watch is not None:
                hooks.enter_context(self._model.changing(self._watch.site, self._observe))
            running = self._positions[self._positions >= 0]
            first, last = int(running.min()), int(running.max())
            for site, plan in self._plans.items():
                if plan.touches(first, last):
                    hooks.enter_context(self._model.changing(site, self._changer(site, plan)))
            out = self._model.module(
                input_ids=self._ids,
                attention_mask=self._attention,
                position_ids=self._positions.clamp(min=0),
                past_key_values=self._cache,
                use_cache=True,
                **self._last_only,
            )
        return out.logits[:, -1]

    def _changer(self, site: Site, plan: SitePlan) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            applied = apply_edits(x, self._positions, plan)
            self._books[site].add(applied, self._rows)
            return applied.after.to(x.dtype)

        return change

    def _observe(self, x: Tensor) -> Tensor:
        if self._watch is not None:
            for row, number in enumerate(self._rows.tolist()):
                own = self._positions[row] >= 0
                if number in self.alive:
                    self._watch.observe(number, int(self._positions[row][own][0]), x[row][own].float())
        return x

    def _drop_ended(self) -> None:
        """Drop rows that are over once they are half of the batch; not at once, as copying the cache is dear."""
        if len(self.alive) * 2 > len(self._rows):
            return
        kept = [row for row, number in enumerate(self._rows.tolist()) if number in self.alive]
        keep = torch.tensor(kept, device=self._rows.device)
        self._cache.batch_select_indices(keep)
        self._sampler.select(keep)
        self._rows, self._ids = self._rows[keep], self._ids[keep]
        self._positions, self._attention = self._positions[keep], self._attention[keep]
        self._plans = {site: plan.select(keep) for site, plan in self._plans.items()}


def _plans(
    requests: Sequence[BoundRequest], device: torch.device
) -> tuple[dict[Site, SitePlan], dict[Site, ProofBook], list[list[tuple[Site, int]]]]:
    """For each site a plan and a book; for each request, where each of its edits stands in them."""
    sites = sorted({move.site for request in requests for move in request.moves})
    lengths = [len(request.prompt_ids) for request in requests]
    plans, books = {}, {}
    for site in sites:
        moves = [[move for move in request.moves if move.site == site] for request in requests]
        plans[site] = plan_site(site, moves, lengths, device)
        books[site] = ProofBook(plans[site], moves)
    places = []
    for request in requests:
        own = [move.site for move in request.moves]
        places.append([(site, own[:number].count(site)) for number, site in enumerate(own)])
    return plans, books, places


def _lock_of(model: LanguageModel) -> threading.RLock:
    with _LOCKS_GUARD:
        return _LOCKS.setdefault(model, threading.RLock())
