"""What every safety command begins with: a run's dictionary with its model, its labels, and ordinary text."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from monoscope.atlas.query import Atlas
from monoscope.core.errors import BadRequest, MonoscopeError
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest
from monoscope.explore import open_pair
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel
from monoscope.safety.examples import Example
from monoscope.stages import HARVEST_DTYPE

ORDINARY_TEXTS, ORDINARY_TOKENS = 600, 48


@dataclass(frozen=True)
class Pair:
    """A run's dictionary with its model, ready to read texts."""

    model: LanguageModel
    dictionary: Dictionary
    name: str
    digest: str
    source: str


def open_reader(run: Run, name: str | None) -> Pair:
    """The dictionary that is meant, and its model in the dtype of the harvest.

    Raises
        BadRequest  the dictionary is a transcoder.
    """
    chosen = run.choose_dictionary(name)
    model, dictionary = open_pair(run, chosen, dtype=HARVEST_DTYPE)
    if dictionary.transcodes:
        raise BadRequest(
            f"{dictionary.name} is a transcoder, which reads {dictionary.site} and writes {dictionary.target}; "
            "contrasts and monitors need a dictionary of one site."
        )
    return Pair(model, dictionary, chosen, dictionary_digest(run.dictionary(chosen)), run.provenance(chosen)["model"])


def labels_for(run: Run, name: str, features: Sequence[int]) -> dict[int, str]:
    """What the features are called, where there is an atlas."""
    try:
        return Atlas.open(run.atlas(run.choose_atlas(name))).labels_of(features)
    except MonoscopeError:
        return {}


def ordinary_texts(run: Run, name: str) -> list[Example]:
    """Pieces of documents that no dictionary was trained on, evenly over all of them: what a monitor should be quiet
    about."""
    store = TokenStore.load(run.text(run.provenance(name)["text"]))
    held = torch.nonzero(store.windows.held).flatten()
    places = torch.linspace(0, len(held) - 1, min(len(held), ORDINARY_TEXTS)).round().long()
    found = []
    for window in held[places].tolist():
        first = int(store.windows.start[window])
        tokens = min(int(store.windows.length[window]), ORDINARY_TOKENS)
        text = store.text_of(first, first + tokens).strip()
        if len(text) > 20:
            found.append(Example(f"held-out {window}", False, text, group=f"held-out {window}"))
    return found
