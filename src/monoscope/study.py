"""A thin convenience for notebooks: one folder, and the steps as methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monoscope import building, explore, measuring, stages, training
from monoscope.atlas.query import Atlas
from monoscope.atlas.records import FeatureRecord
from monoscope.atlas.search import SearchHit
from monoscope.console import Board
from monoscope.core.progress import Progress
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.render.card import Card, card_html, cards_html
from monoscope.render.tokens import display_units
from monoscope.sweep import sweep as measure_sweep
from monoscope.sweep_cells import SweepRequest
from monoscope.train.recipes import Recipe


class Study:
    """A run folder. Every step can be repeated: what is finished is left as it is."""

    def __init__(self, path: str | Path, *, progress: Progress | None = None) -> None:
        self.run = Run(Path(path))
        self._progress = progress or Board(file=self.run.path / "progress.json")
        self._model: LanguageModel | None = None

    def harvest(
        self, model: str, *, site: str, text: str, tokens: int, focus: Sequence[str] = (), **settings: Any
    ) -> dict[str, Any]:
        """Text through the model to activations; further settings are those of `stages.TextRequest`."""
        share = 0.03 * len(focus)
        wanted = stages.TextRequest(text, tokens, tuple(focus), own_share=settings.pop("own_share", share), **settings)
        return stages.harvest(self.run, model, site, wanted, progress=self._progress)

    def train(self, *, name: str | None = None, activations: str | None = None, **settings: Any) -> Dictionary:
        """Activations to a dictionary; the settings are those of `Recipe`."""
        recipe = Recipe(**settings)
        found = training.train_dictionary(self.run, recipe, name=name, activations=activations, progress=self._progress)
        return self.dictionary(found["name"])

    def sweep(self, *, name: str | None = None, activations: str | None = None, **settings: Any) -> dict[str, Any]:
        """Many small trainings and their scaling laws; the settings are those of `SweepRequest`."""
        wanted = SweepRequest(**settings)
        return measure_sweep(self.run, wanted, name=name, activations=activations, progress=self._progress)

    def plan(self, budget: str, *, name: str | None = None) -> dict[str, Any]:
        """The best dictionary for a budget: `30min`, `2h`, or FLOPs as `1e15`."""
        return planner.plan(self.run, budget, name=name)

    def evaluate(self, name: str | None = None) -> dict[str, Any]:
        """The figures of a dictionary on held-out text."""
        return measuring.evaluate(self.run, name=name, progress=self._progress)

    def build_atlas(self, name: str | None = None) -> "Explorer":
        """The atlas of a dictionary, built if need be, ready to be searched."""
        found = building.build(self.run, name=name, progress=self._progress)
        return self.atlas(found["name"])

    def atlas(self, name: str | None = None) -> "Explorer":
        """A finished atlas, ready to be searched."""
        return Explorer(self.run, explore.open_atlas(self.run, name))

    def dictionary(self, name: str | None = None) -> Dictionary:
        """A trained dictionary."""
        return load_dictionary(self.run.dictionary(self.run.choose_dictionary(name)))

    @property
    def model(self) -> LanguageModel:
        """The model that the run's dictionary was trained on, in float32."""
        if self._model is None:
            names = self.run.names("dictionaries", "monoscope.json")
            name = names[0] if names else self.run.choose_dictionary(None)
            self._model = load_model(self.run.provenance(name)["model"])
        return self._model


@dataclass(frozen=True)
class Explorer:
    """An atlas with its run, so that it can be searched by prompt as well; shows itself as cards in a notebook."""

    run: Run
    atlas: Atlas

    def search(self, query: str, *, by: str = "words", limit: int = 10) -> "Hits":
        """Features that answer a query, best first."""
        return Hits(query, self.atlas, tuple(explore.find(self.run, self.atlas, query, by=by, limit=limit)))

    def feature(self, number: int) -> "Shown":
        """One feature."""
        return Shown(self.atlas.feature(number))

    def _repr_html_(self) -> str:
        return cards_html([card_of(record) for record in self.atlas.highlights(12)], "Twelve features to begin with")


@dataclass(frozen=True)
class Hits(Sequence[SearchHit]):
    """The results of a search: a sequence of hits, shown as cards in a notebook."""

    query: str
    atlas: Atlas
    hits: tuple[SearchHit, ...]

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, index: Any) -> Any:
        return self.hits[index]

    def _repr_html_(self) -> str:
        records = self.atlas.features([hit.feature for hit in self.hits])
        cards = [card_of(record, hit.why) for record, hit in zip(records, self.hits, strict=True)]
        return cards_html(cards, self.query)


@dataclass(frozen=True)
class Shown:
    """A feature's record, shown as a card in a notebook."""

    record: FeatureRecord

    def _repr_html_(self) -> str:
        return card_html(card_of(self.record))


def card_of(record: FeatureRecord, why: str = "") -> Card:
    """A feature as the card that notebooks show."""
    examples = tuple(display_units(c.token_bytes, c.activations) for c in record.contexts[:3])
    return Card(
        feature=record.feature,
        label=record.label,
        density=record.density,
        max_activation=record.max_activation,
        counts=record.histogram.counts,
        examples=examples,
        raises=tuple(record.promoted[:6]),
        why=why,
    )
