"""Rows that are fed to the model together, each with its own edits, sampling and length.

Edits of the prompt act while the prompt is read, so that the cache already holds their effect; a drawn token is edited
when it is fed back; the last one is only where a watcher wants to have read it. Hooks live only inside a step.
"""

import contextlib
import inspect
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.site import Site
from monoscope.model.transformer import LanguageModel
from monoscope.steer.apply import SitePlan, apply_edits, plan_site
from monoscope.steer.cache import SeatCache
from monoscope.steer.likelihood import logprobs_of
from monoscope.steer.proof import EditProof, ProofBook, edit_proof
from monoscope.steer.request import BoundRequest, Logprob, Reported
from monoscope.steer.sampling import Sampler
from monoscope.steer.watching import Watching

# So many tokens of prompts are read between two steps of the others; fewer where all their logits are wanted.
_CHUNK_TOKENS, _SCORED_TOKENS = 1024, 256


@dataclass(frozen=True)
class Draw:
    """A token drawn for a row, and whether its logits were sound numbers."""

    number: int
    token: int
    sound: bool
    logprob: Logprob | None


@dataclass
class Row:
    """One request at work. Mutable: what its edits did, and what was read and scored for it."""

    number: int
    request: BoundRequest
    sums: Float[Tensor, "edits 4"] = field(init=False)
    read: list[Float[Tensor, "tokens reported"]] = field(default_factory=list)
    prompt_logprobs: list[Logprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(len(self.request.moves), 4, dtype=torch.float64)

    def at(self, site: Site) -> list[int]:
        """Which of its edits act at a site."""
        return [place for place, move in enumerate(self.request.moves) if move.site == site]

    def proof(self) -> tuple[EditProof, ...]:
        """What its edits did."""
        return tuple(edit_proof(move, sums) for move, sums in zip(self.request.moves, self.sums, strict=True))

    def report(self) -> tuple[Reported, ...]:
        """The features it asked for, token by token."""
        values = torch.cat(self.read).T.tolist() if self.read else [[] for _ in self.request.report]
        said = len(self.request.prompt_ids)
        names = (name for name, _ in self.request.report)
        return tuple(
            Reported(name, tuple(row[:said]), tuple(row[said:])) for name, row in zip(names, values, strict=True)
        )


class Group:
    """Some rows with one cache. Mutable: it reads its prompts by chunks, then draws a token a step for all rows."""

    def __init__(self, model: LanguageModel, entries: Sequence[tuple[int, BoundRequest]], watching: Watching) -> None:
        self._model, self._watching, self._device = model, watching, model.device
        self.rows = [Row(number, request) for number, request in entries]
        prompts = [request.prompt_ids for _, request in entries]
        self._sampler = Sampler([request.sampling for _, request in entries], prompts, model.vocab_size, self._device)
        longest = max(map(len, prompts), default=0)
        self._cache = SeatCache(model)
        self._cache.open([len(prompt) for prompt in prompts] or [0])
        self._ids = self._tensor([[prompt[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        marks = [[False] * (longest - len(row.request.template)) + list(row.request.template) for row in self.rows]
        self._template = torch.tensor(marks, dtype=torch.bool, device=self._device)
        # Padding has negative positions, and is not edited.
        missing = self._tensor([longest - len(prompt) for prompt in prompts])
        self._positions = torch.arange(longest, device=self._device)[None] - missing[:, None]
        self._left = longest
        self._last_only = _last_only(model)
        self._books: dict[Site, ProofBook] = {}
        self._plans: dict[Site, SitePlan] = {}
        self._plan()

    @property
    def reading(self) -> bool:
        """Whether some of the prompts are still unread."""
        return self._left > 0

    @torch.inference_mode()
    def read_chunk(self) -> list[Draw]:
        """Read the next part of the prompts; once they are read, the first token of each row."""
        scoring = any(row.request.score_prompt for row in self.rows)
        columns = max(1, (_SCORED_TOKENS if scoring else _CHUNK_TOKENS) // len(self.rows))
        first = self._ids.shape[1] - self._left
        part = slice(first, min(first + columns, self._ids.shape[1]))
        self._left = self._ids.shape[1] - part.stop
        template = self._template[:, part]
        logits = self._forward(
            self._ids[:, part], self._positions[:, part], template if template.any() else None, whole=scoring
        )
        if scoring:
            self._score(logits, part)
        if self._left:
            return []
        self._template = self._template[:, :0]
        return self._draw(logits[:, -1], self._positions[:, -1:])

    @torch.inference_mode()
    def step(self) -> list[Draw]:
        """Feed the newest token of each row, and draw the next."""
        return self._draw(self._forward(self._ids, self._positions)[:, -1], self._positions)

    @torch.inference_mode()
    def take_in(self, other: "Group") -> None:
        """Go on with the rows of another group too, whose prompts are read."""
        self._settle()
        other._settle()
        self._cache.take_in(other._cache)
        self._sampler.join(other._sampler)
        self.rows += other.rows
        for name in ("_ids", "_positions", "_template"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self._plan()

    @torch.inference_mode()
    def leave(self, numbers: Set[int], *, wipe: bool = False) -> dict[int, Row]:
        """The rows of these numbers go, as far as they are here, and what was gathered of them with them."""
        places = {place for place, row in enumerate(self.rows) if row.number in numbers}
        if not places:
            return {}
        self._settle()
        gone = {self.rows[place].number: self.rows[place] for place in places}
        order = _seating(len(self.rows), places)
        self._cache.arrange(order, wipe=wipe)
        self._sampler.arrange(order)
        self.rows = [self.rows[row] for row in order]
        kept = self._tensor(order)
        self._ids, self._positions, self._template = self._ids[kept], self._positions[kept], self._template[kept]
        self._plan()
        return gone

    def _draw(self, logits: Float[Tensor, "rows vocab"], newest: Int[Tensor, "rows 1"]) -> list[Draw]:
        tokens, sound = self._sampler.draw(logits)
        self._ids, self._positions = tokens[:, None], newest + 1
        drawn = zip(self.rows, tokens.tolist(), sound.tolist(), strict=True)
        return [
            Draw(row.number, token, fine, self._logprob(row, logits[place], token, fine))
            for place, (row, token, fine) in enumerate(drawn)
        ]

    def _logprob(self, row: Row, logits: Float[Tensor, "vocab"], token: int, sound: bool) -> Logprob | None:
        top = row.request.top_logprobs
        return logprobs_of(logits[None], [token], top)[0] if top is not None and sound else None

    def _score(self, logits: Float[Tensor, "rows length vocab"], part: slice) -> None:
        """The log-probabilities of prompt tokens that this part of the prompts predicts."""
        for place, row in enumerate(self.rows):
            own = self._positions[place, part] >= 0
            following = self._ids[place, part.start + 1 : part.stop + 1]
            chosen = torch.nonzero(own[: len(following)]).flatten()
            if row.request.score_prompt and len(chosen):
                top = row.request.top_logprobs or 0
                row.prompt_logprobs += logprobs_of(logits[place, chosen], following[chosen].tolist(), top)

    def _forward(
        self,
        ids: Int[Tensor, "rows length"],
        positions: Int[Tensor, "rows length"],
        template: Tensor | None = None,
        *,
        whole: bool = False,
    ) -> Float[Tensor, "rows length_or_1 vocab"]:
        length = ids.shape[1]
        with self._model.lock, contextlib.ExitStack() as hooks:
            self._watching.hook(hooks, self._numbers, ids, positions)
            self._hook(hooks, positions, template)
            self._cache.reserve(length)
            out = self._model.module(
                input_ids=ids,
                attention_mask=self._cache.seen(length).to(self._device),
                position_ids=positions.clamp(min=0),
                past_key_values=self._cache,
                use_cache=True,
                **({} if whole else self._last_only),
            )
            self._cache.advance(length)
            return out.logits

    def _hook(self, hooks: contextlib.ExitStack, positions: Tensor, template: Tensor | None) -> None:
        """Hooks run in the order in which they are entered: who watches sees the residual before any edit, and a report
        after all."""
        running = positions[positions >= 0]
        first, last = (int(running.min()), int(running.max())) if len(running) else (0, -1)
        for site, plan in self._plans.items():
            if plan.touches(first, last):
                hooks.enter_context(self._model.changing(site, self._changer(site, plan, positions, template)))
        sites = {reading.dictionary.site for row in self.rows for _, reading in row.request.report}
        if sites:
            found: dict[Site, Tensor] = {}
            for site in sites:
                hooks.enter_context(self._model.changing(site, lambda x, site=site: found.setdefault(site, x)))
            hooks.callback(lambda: self._report(found, positions))

    def _changer(
        self, site: Site, plan: SitePlan, positions: Tensor, template: Tensor | None
    ) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            applied = apply_edits(x, positions, plan, template)
            self._books[site].add(applied)
            return applied.after.to(x.dtype)

        return change

    def _report(self, found: dict[Site, Tensor], positions: Tensor) -> None:
        for place, row in enumerate(self.rows):
            own = positions[place] >= 0
            columns = [
                reading.dictionary.activations_of(
                    found[reading.dictionary.site][place][own].float(), torch.tensor([reading.feature])
                )
                for _, reading in row.request.report
                if reading.dictionary.site in found
            ]
            row.read += [torch.cat(columns, dim=1).cpu()] if columns else []

    def _plan(self) -> None:
        """One plan and one book for each site that some row edits; the numbers of the rows as they sit."""
        self._numbers = tuple(row.number for row in self.rows)
        sites = sorted({move.site for row in self.rows for move in row.request.moves})
        lengths = [len(row.request.prompt_ids) for row in self.rows]
        for site in sites:
            moves = [[row.request.moves[place] for place in row.at(site)] for row in self.rows]
            self._plans[site] = plan_site(site, moves, lengths, self._device)
            self._books[site] = ProofBook(self._plans[site], moves)

    def _settle(self) -> None:
        """Close the books: what they know goes to the rows."""
        for site, book in self._books.items():
            for place, row in enumerate(self.rows):
                own = row.at(site)
                if own:
                    row.sums[own] += book.sums(place)
        self._books, self._plans = {}, {}

    def _tensor(self, values: Sequence[int] | Sequence[Sequence[int]]) -> Int[Tensor, "..."]:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def _seating(count: int, gone: Set[int]) -> list[int]:
    """Which row sits where once some have left: rows from the end take the free seats, the others stay."""
    left = count - len(gone)
    tail = [row for row in range(left, count) if row not in gone]
    return [tail.pop() if seat in gone else seat for seat in range(left)]


def _last_only(model: LanguageModel) -> dict[str, Tensor]:
    """A tensor and not 1: a slice of several rows has gaps, for which torch copies the unembedding once a row."""
    accepted = inspect.signature(model.module.forward).parameters
    return {"logits_to_keep": torch.tensor([-1], device=model.device)} if "logits_to_keep" in accepted else {}
