"""A thin convenience for notebooks: one folder, and the steps as methods."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monoscope import explore, stages
from monoscope.atlas.query import Atlas
from monoscope.console import Board
from monoscope.core.progress import Progress
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.model.transformer import LanguageModel, load_model
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
        found = stages.train_dictionary(self.run, recipe, name=name, activations=activations, progress=self._progress)
        return self.dictionary(found["name"])

    def evaluate(self, name: str | None = None) -> dict[str, Any]:
        """The figures of a dictionary on held-out text."""
        return stages.evaluate(self.run, name=name, progress=self._progress)

    def build_atlas(self, name: str | None = None) -> Atlas:
        """The atlas of a dictionary, built if need be."""
        found = explore.build(self.run, name=name, progress=self._progress)
        return self.atlas(found["name"])

    def atlas(self, name: str | None = None) -> Atlas:
        """A finished atlas."""
        return explore.open_atlas(self.run, name)

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
