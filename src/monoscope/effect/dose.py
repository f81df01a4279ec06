"""The dose of a feature: which strengths bring its concept up and keep the text fluent, beside three other methods.

Every method answers the same questions with the same random draws at the same strengths; all that differs is the
direction of the push, or for prompting the question.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from monoscope.atlas.query import Atlas
from monoscope.atlas.records import FeatureRecord
from monoscope.core.artifact import digest_of
from monoscope.core.errors import BadRequest, EmptyText
from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.effect.asking import asked, naming
from monoscope.effect.baselines import NAMED_WORDS, PROMPTING, mean_of_contexts, strongest, ways
from monoscope.effect.choice import Point, Reply
from monoscope.effect.lexicon import Background, Lexicon, concept_words
from monoscope.effect.passes import reply_losses, shifts
from monoscope.effect.record import Told, found_values, sample_values
from monoscope.effect.shipped import neutral_texts, questions
from monoscope.model.chat import Rendered, render_plain
from monoscope.model.transformer import LanguageModel
from monoscope.steer.compare import repetition
from monoscope.steer.edits import Edit
from monoscope.steer.engine import generate
from monoscope.steer.prompt import Prompt
from monoscope.steer.request import Generation, Request
from monoscope.steer.resolve import Move

MODES = ("add", "clamp")
SCOPES = ("all", "everywhere", "generated")
# In mean residual norms: below the first little is seen, above the last small models break.
STRENGTHS = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65)
REPLY_TOKENS = 32
# Rises when anything changes that a record depends on, words and limits among it: kept records are then measured anew.
VERSION = 1
_ROWS = 64


@dataclass(frozen=True)
class Settings:
    """What a dose is measured with.

    `strengths` rise and are in mean residual norms; `tokens` is the most tokens of a reply. Each question has random
    draws of its own, which follow from `seed`.

    Raises
        BadRequest  a setting makes no sense.
    """

    mode: str = "add"
    seed: int = 0
    prompts: tuple[Prompt, ...] = questions()
    strengths: tuple[float, ...] = STRENGTHS
    tokens: int = REPLY_TOKENS
    scope: str = "all"

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise BadRequest(f"A dose is measured in one of the scopes {', '.join(SCOPES)}, not in {self.scope!r}.")
        if self.mode not in MODES:
            raise BadRequest(f"A dose is measured for add or clamp, not for {self.mode!r}.")
        if not self.prompts:
            raise BadRequest("A dose needs at least one prompt; give a file with some lines.")
        if not self.strengths or self.strengths[0] <= 0 or list(self.strengths) != sorted(set(self.strengths)):
            raise BadRequest("The strengths of a dose are numbers above 0 that rise.")

    def to_json(self) -> dict[str, Any]:
        """As a kept record holds them; prompts by their digest, the scope where it is not the usual one."""
        return {
            "version": VERSION,
            "mode": self.mode,
            "seed": self.seed,
            "prompts": digest_of(self.prompts)[:16],
            "strengths": list(self.strengths),
            "tokens": self.tokens,
            **({} if self.scope == "all" else {"scope": self.scope}),
        }

    def edit(self, feature: int) -> Edit:
        """What is tried on a feature, at strength 1."""
        return Edit(feature, self.mode, 1.0, "r", self.scope)


@dataclass(frozen=True)
class _Ask:
    """One reply that is wanted: to which question, as the model is to read it, under which edits."""

    question: int
    prompt: Rendered
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, eq=False)
class Bench:
    """What doses are measured on. What all features share is computed once."""

    model: LanguageModel
    dictionary: Dictionary
    atlas: Atlas
    settings: Settings = Settings()

    @cached_property
    def prompts(self) -> list[Rendered]:
        """The questions as the model reads them."""
        return [asked(self.model, prompt) for prompt in self.settings.prompts]

    @cached_property
    def background(self) -> Background:
        """Random places of the atlas's text."""
        return Background.of(self.atlas.store, seed=self.settings.seed)

    @cached_property
    def random_mean(self) -> Float[Tensor, "d_model"]:
        """The mean residual of random contexts."""
        return mean_of_contexts(self.model, self.dictionary, self.atlas.store, self.background.contexts)

    @cached_property
    def plain(self) -> list[tuple[Generation, float]]:
        """The replies without any edit, and the loss of each."""
        return self._answer([_Ask(number, prompt) for number, prompt in enumerate(self.prompts)], SILENT)

    @cached_property
    def _neutral(self) -> list[tuple[int, ...]]:
        return [render_plain(self.model, text).ids for text in neutral_texts()]

    def lexicon(self, record: FeatureRecord) -> Lexicon:
        """The words of a feature's concept."""
        return concept_words(record.contexts, self.background).without([one.text for one, _ in self.plain])

    def dose(self, feature: int, progress: Progress = SILENT) -> dict[str, Any]:
        """The record of a feature's dose: its grid, what is recommended, and the other methods.

        Cost    three methods × strengths × questions replies, and one more a question; a pass of clean text each.

        Raises
            FeatureNotFound  there is no such feature.
            EmptyText        its contexts share no word to listen for, or the plain model says nothing.
            BadEdit          the dictionary is a transcoder.
        """
        began = time.monotonic()
        record = self.atlas.feature(feature)
        lexicon = self.lexicon(record)
        if not lexicon.words:
            raise EmptyText(
                f"The contexts of feature {feature} ({record.label}) share no word that the text elsewhere lacks, so "
                "there is nothing to listen for in replies; try it by hand with monoscope steer."
            )
        if not any(one.ids for one, _ in self.plain):
            raise EmptyText("The model says nothing to these prompts, so there is nothing to listen to; give others.")
        told, plain = self._methods(record, lexicon, progress)
        return {
            "feature": feature,
            "label": record.label,
            "mode": self.settings.mode,
            "scope": self.settings.scope,
            "words": list(lexicon.forms),
            "questions": len(self.prompts),
            **found_values(told, plain, self.settings.edit(feature)),
            "samples": {"plain": self.plain[0][0].text, **sample_values(told, plain)},
            "settings": request_of(self.settings, self.atlas),
            "seconds": round(time.monotonic() - began, 1),
        }

    def _methods(self, record: FeatureRecord, lexicon: Lexicon, progress: Progress) -> tuple[dict[str, Told], Point]:
        """What each method did over the grid, and what the plain model does."""
        settings, means = self.settings, self._means(record)
        moves = ways(self.dictionary, settings.edit(record.feature), means, settings.seed)
        pushes = [(way(strength),) for way in moves.values() for strength in settings.strengths]
        asks = [_Ask(number, prompt, edits) for edits in pushes for number, prompt in enumerate(self.prompts)]
        words = lexicon.forms[:NAMED_WORDS]
        asks += [
            _Ask(number, asked(self.model, naming(prompt, words))) for number, prompt in enumerate(settings.prompts)
        ]
        answers = self._answer(asks, progress)
        count, steps = len(self.prompts), len(settings.strengths)
        rows = [answers[first : first + count] for first in range(0, len(answers), count)]
        wanted = whole_tokens(self.model, lexicon)
        neutral, *moved = shifts(self.model, self._neutral, [(), *pushes], wanted)
        points = [
            Point(self._replies(row, lexicon), strength, shift.kl, shift.wanted if wanted else None)
            for row, strength, shift in zip(rows[:-1], settings.strengths * len(moves), moved, strict=True)
        ]
        samples = [row[0][0].text for row in rows]
        found = {
            name: Told(tuple(points[at : at + steps]), tuple(samples[at : at + steps]))
            for at, name in zip(range(0, len(points), steps), moves, strict=True)
        }
        found[PROMPTING] = Told((Point(self._replies(rows[-1], lexicon)),), (samples[-1],))
        probability = neutral.wanted if wanted else None
        return found, Point(self._replies(self.plain, lexicon), word_probability=probability)

    def _means(self, record: FeatureRecord) -> Float[Tensor, "d_model"]:
        store = self.atlas.store
        held = strongest(store, record.contexts)
        return mean_of_contexts(self.model, self.dictionary, store, held) - self.random_mean

    def _answer(self, asks: Sequence[_Ask], progress: Progress) -> list[tuple[Generation, float]]:
        """The replies, and what each costs the plain model after the plain question."""
        settings = self.settings
        requests = [
            Request(
                ask.prompt.ids,
                ask.moves,
                settings.seed + ask.question,
                max_tokens=settings.tokens,
                template=ask.prompt.template,
            )
            for ask in asks
        ]
        progress.start("dose", len(requests) * settings.tokens, "tokens")
        found: list[Generation] = []
        for first in range(0, len(requests), _ROWS):
            part = requests[first : first + _ROWS]
            found += generate(self.model, None, part, on_token=lambda *_: progress.advance(1))
        progress.finish()
        losses = [0.0] * len(asks)
        for number, prompt in enumerate(self.prompts):
            own = [place for place, ask in enumerate(asks) if ask.question == number]
            costs = reply_losses(self.model, prompt.ids, [found[place].ids for place in own])
            for place, cost in zip(own, costs, strict=True):
                losses[place] = cost
        return list(zip(found, losses, strict=True))

    @staticmethod
    def _replies(row: Sequence[tuple[Generation, float]], lexicon: Lexicon) -> tuple[Reply, ...]:
        return tuple(
            Reply(lexicon.heard_in(one.text), loss, len(one.ids), repetition(one.ids), one.finish_reason != "numbers")
            for one, loss in row
        )


def whole_tokens(model: LanguageModel, lexicon: Lexicon) -> list[int]:
    """The tokens that are one of the words, after a space, small or capitalised; words of several tokens have none."""
    forms = {written for form in lexicon.forms for written in (form, form.lower(), form.capitalize())}
    tokens = [model.encode_text(f" {form}") for form in sorted(forms)]
    return sorted({ids[0] for ids in tokens if len(ids) == 1})


def request_of(settings: Settings, atlas: Atlas) -> dict[str, Any]:
    """All that a dose depends on besides the dictionary: a kept record of the same request needs no new measurement."""
    return {**settings.to_json(), "text": atlas.store.digest[:16]}
