"""Which dictionaries are to be compared, over which text, and what was already read of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from monoscope.atlas.query import Atlas
from monoscope.atlas.words import Words
from monoscope.core.artifact import read_json
from monoscope.core.errors import BadRequest
from monoscope.core.progress import Progress
from monoscope.core.run import Run, name_from
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.evaluate.codes import Codes, read_codes
from monoscope.evaluate.completeness import Units, make_units
from monoscope.evaluate.mentions import find_mentions, titles
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore

ROWS = 262_144


@dataclass(frozen=True)
class Chosen:
    """One dictionary that was asked for; `label` is its name, with its run's in front when that is not the first."""

    run: Run
    name: str
    label: str

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.run.dictionary(self.name)

    @property
    def activations(self) -> Path:
        """Where the activations it was trained on lie, if they were kept."""
        return self.run.activations(self.run.provenance(self.name)["activations"])

    @cached_property
    def dictionary(self) -> Dictionary:
        """Read from its folder when first asked for."""
        return load_dictionary(self.folder)

    @cached_property
    def digest(self) -> str:
        """Depends on every byte of it."""
        return dictionary_digest(self.folder)

    @cached_property
    def labels(self) -> list[str] | None:
        """The labels of its atlas, where there is one of this very dictionary."""
        folder = self.run.atlas(self.name)
        if not (folder / "manifest.json").is_file():
            return None
        asked = read_json(folder / "manifest.json").get("request", {})
        if asked.get("dictionary_digest") != self.digest:
            return None
        atlas = Atlas.open(folder)
        try:
            return atlas.column("label").tolist()
        finally:
            atlas.close()

    def label_of(self, feature: int) -> str:
        """The label of a feature; empty where nothing is known of it."""
        return self.labels[feature] if self.labels is not None and feature >= 0 else ""


class Lineup:
    """The dictionaries from narrow to wide over the text of one of them, with whatever was already read of it.

    The text is that of the first dictionary whose activations were kept.
    """

    def __init__(self, chosen: Sequence[Chosen], progress: Progress) -> None:
        self.run = chosen[0].run
        self.chosen = sorted(chosen, key=lambda one: one.dictionary.n_latents)
        self.progress = progress
        reader = next((one for one in chosen if (one.activations / "manifest.json").is_file()), chosen[0])
        self.shards = ShardStore.load(reader.activations)
        self.text = reader.run.provenance(reader.name)["text"]
        self.store = TokenStore.load(reader.run.text(self.text))
        self._codes: dict[str, Codes] = {}

    def codes(self, one: Chosen) -> Codes:
        """Its codes of the held-out rows, or of the first 262,144 of them."""
        if one.label not in self._codes:
            self._codes[one.label] = read_codes(one.dictionary, self.shards, most=ROWS, progress=self.progress)
        return self._codes[one.label]

    def codes_of(self, one: Chosen, latents: Sequence[int]) -> Codes:
        """The same of some latents only, unless all were read already."""
        if one.label in self._codes:
            return self._codes[one.label]
        return read_codes(one.dictionary, self.shards, most=ROWS, only=latents, progress=self.progress)

    @cached_property
    def words(self) -> Words:
        """The words of the text."""
        return Words.of_store(self.store)

    @cached_property
    def units(self) -> Units:
        """Where the text mentions its titles, and tokens from elsewhere."""
        return make_units(self.store, find_mentions(self.store, titles(self.store)))

    def folder(self, *names: str) -> Path:
        """Where a comparison is kept."""
        return self.run.comparison(*names)


def choose(wanted: Sequence[str]) -> list[Chosen]:
    """The dictionaries written as RUN:NAME, or RUN where a run holds one only.

    Raises
        BadRequest  fewer than two are named, one twice, or they are not of one model and site.
    """
    if len(wanted) < 2:
        raise BadRequest("Name at least two dictionaries, as RUN:NAME RUN:OTHER.")
    chosen: list[Chosen] = []
    for text in wanted:
        path, found, name = text.rpartition(":")
        run = Run(Path(path if found else text))
        name = run.choose_dictionary(name if found else None)
        same = not chosen or run.path.resolve() == chosen[0].run.path.resolve()
        chosen.append(Chosen(run, name, name if same else f"{name_from(run.path.resolve().name)}.{name}"))
    _check_fit(chosen)
    return chosen


def _check_fit(chosen: list[Chosen]) -> None:
    if len({one.label for one in chosen}) < len(chosen):
        raise BadRequest("A dictionary is named twice; compare different ones.")
    first = chosen[0]
    for one in chosen[1:]:
        if _where(one) != _where(first):
            where = f"{first.label} {_where(first)} and {one.label} {_where(one)}"
            raise BadRequest(f"{where}; only dictionaries of one site can be compared.")
        mine, other = (each.run.provenance(each.name).get("model_digest") for each in (first, one))
        if mine != other or one.dictionary.d_in != first.dictionary.d_in:
            raise BadRequest(f"{first.label} and {one.label} are of different models; they cannot be compared.")


def _where(one: Chosen) -> str:
    read = f"reads {one.dictionary.site}"
    return f"{read} and writes {one.dictionary.target}" if one.dictionary.transcodes else read
