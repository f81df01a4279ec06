"""What the measured pages share: a run with its codes, the words a feature fires on, lists, tables, answers to disk."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from monoscope.atlas.query import Atlas
from monoscope.atlas.words import Words
from monoscope.console import Board
from monoscope.core.artifact import read_tensors, replacing, write_tensors
from monoscope.core.errors import MonoscopeError
from monoscope.core.run import Run
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary, Weights
from monoscope.dictionary.jumprelu import JumpReluDictionary
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.evaluate.codes import Codes, read_codes
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore

LISTS = Path(__file__).parent
_SEED, _PIECE, _SAMPLE, _COLUMNS = 20261125, 1 << 16, 20_000, 1024


@dataclass(frozen=True)
class Studied:
    """A dictionary of a run with its text, its stored activations and, where it was built, its atlas."""

    run: Run
    name: str
    dictionary: Dictionary
    store: TokenStore
    shards: ShardStore
    cache: Path | None = None

    @classmethod
    def open(cls, path: Path, name: str | None = None, cache: Path | None = None) -> "Studied":
        """Open what the run holds; its codes are read when first asked for."""
        run = Run(path)
        name = run.choose_dictionary(name)
        origin = run.provenance(name)
        return cls(
            run,
            name,
            load_dictionary(run.dictionary(name)),
            TokenStore.load(run.text(origin["text"])),
            ShardStore.load(run.activations(origin["activations"])),
            cache,
        )

    @cached_property
    def codes(self) -> Codes:
        """The codes of the whole text; kept in `cache`, where one was named, for the next page."""
        if self.cache is None:
            return read_codes(self.dictionary, self.shards, "all", progress=Board())
        path = self.cache / f"codes-{dictionary_digest(self.run.dictionary(self.name))[:16]}.safetensors"
        if not path.is_file():
            found = read_codes(self.dictionary, self.shards, "all", progress=Board())
            code = found.code
            self.cache.mkdir(parents=True, exist_ok=True)
            tensors = {"indices": code.indices.int(), "values": code.values, "starts": code.starts}
            write_tensors(path, {**tensors, "token": found.token})
        kept = read_tensors(path)
        code = SparseCode(kept["indices"], kept["values"], kept["starts"], self.dictionary.n_latents)
        return Codes(code, kept["token"])

    def at_random(self, draw: int = 0) -> "Studied":
        """The same with a dictionary of as many random unit rows, each firing as often as the trained one's latent."""
        x = next(self.shards.blocks("held")).x.float()[:_SAMPLE]
        return replace(self, dictionary=random_rows(self.dictionary, x, draw), cache=None)

    @cached_property
    def documents(self) -> list[dict[str, Any]]:
        """Title, source, language, split, group and topic of each document."""
        return self.store.documents.to_pylist()

    @cached_property
    def texts(self) -> list[str]:
        """The text of each document."""
        bounds = self.store.offsets.tolist()
        return [self.store.text_of(first, last) for first, last in zip(bounds[:-1], bounds[1:], strict=True)]

    @cached_property
    def words(self) -> Words:
        """The words of the whole text."""
        return Words.of_store(self.store)

    @cached_property
    def atlas(self) -> Atlas | None:
        """The atlas, or None where there is none that this version reads."""
        try:
            return Atlas.open(self.run.atlas(self.name))
        except MonoscopeError:
            return None

    @cached_property
    def live(self) -> np.ndarray:
        """The features that fire on at least ten tokens."""
        return np.flatnonzero((self.codes.fires >= 10).numpy())

    def label(self, feature: int) -> str:
        """The label that the atlas shows, or nothing."""
        return "" if self.atlas is None else self.atlas.feature(feature).label

    def words_of(self, feature: int, most: int = 5) -> list[tuple[str, float]]:
        """The words that carry most of a feature's activation over the whole text, each with its share."""
        rows, values = self.codes.columns.of_latent(feature)
        word = self.words.of_token[self.codes.token[rows].numpy()]
        mass: dict[str, float] = {}
        for surface, value in zip(self.words.surface[word].tolist(), values.tolist(), strict=True):
            text = self.words.surfaces[surface].lower()
            mass[text] = mass.get(text, 0.0) + value
        total = sum(mass.values())
        return [(text, part / total) for text, part in sorted(mass.items(), key=lambda pair: -pair[1])[:most]]

    def contexts_of(self, feature: int, most: int = 12, reach: int = 12) -> list[str]:
        """The text around its strongest firings, one for each document."""
        rows, values = self.codes.columns.of_latent(feature)
        token = self.codes.token[rows[torch.argsort(values, descending=True, stable=True)]]
        found: dict[int, str] = {}
        for at, document in zip(token.tolist(), self.store.document_of(token).tolist(), strict=True):
            if document in found:
                continue
            first, last = self.store.offsets[document : document + 2].tolist()
            found[document] = self.store.text_of(max(first, at - reach), min(last, at + reach + 1))
            if len(found) == most:
                break
        return list(found.values())

    def largest(self, documents: Sequence[int]) -> Tensor:
        """The largest activation of each latent in each of some documents [documents, n_latents]."""
        place = torch.full((self.store.n_documents,), -1)
        place[list(documents)] = torch.arange(len(documents))
        found = torch.zeros(len(documents), self.dictionary.n_latents)
        for rows, latents, values in self.entries():
            row = place[self.document_of_row[rows]]
            mine = row >= 0
            flat = row[mine] * self.dictionary.n_latents + latents[mine]
            found.view(-1).scatter_reduce_(0, flat, values[mine], "amax")
        return found

    @cached_property
    def document_of_row(self) -> Tensor:
        """The document of each row of the codes."""
        return self.store.document_of(self.codes.token)

    def entries(self) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """Rows, latents and values of the codes, a piece of the rows at a time."""
        code = self.codes.code
        for first in range(0, code.n_rows, _PIECE):
            piece = code.row_slice(first, min(first + _PIECE, code.n_rows))
            yield piece.rows + first, piece.indices.long(), piece.values.float()


def random_rows(dictionary: Dictionary, x: Tensor, draw: int = 0) -> Dictionary:
    """Unit rows drawn at random about the mean; thresholds are set on `x` so that latent for latent densities agree."""
    stats, mean = dictionary.stats, dictionary.stats.mean_vector.float()
    stream = torch.Generator().manual_seed(_SEED + draw)
    rows = normalize(torch.randn(dictionary.n_latents, dictionary.d_in, generator=stream), dim=1)
    threshold, largest = torch.empty(len(rows)), torch.empty(len(rows))
    for piece in torch.arange(len(rows)).split(_COLUMNS):
        pre = ((x - mean) @ rows[piece].T).sort(dim=0).values
        place = ((1 - stats.density[piece].float()) * len(x)).long().clamp(0, len(x) - 1)
        threshold[piece] = pre[place, torch.arange(len(piece))].clamp(min=1e-4)
        largest[piece] = pre[-1].clamp(min=1e-3)
    weights = Weights(rows.T.contiguous(), -(rows @ mean), rows, mean, threshold)
    known = replace(stats, max=largest, p999=largest)
    return JumpReluDictionary(weights, site=dictionary.site, name="random", stats=known, settings={})


def command(purpose: str | None, *more: Callable[[argparse.ArgumentParser], Any]) -> argparse.ArgumentParser:
    """The command line of a page: a run, the dictionary meant, where to keep codes and where to put the answer."""
    parser = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", help="the dictionary, where the run has several")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the codes for the next page")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    for add in more:
        add(parser)
    return parser


def read_list(name: str) -> Any:
    """A list that was written down before the first run."""
    return json.loads((LISTS / f"{name}.json").read_text())


def answer(values: dict[str, Any], page: str, out: Path | None) -> None:
    """The figures to disk, the table to the screen."""
    if out is not None:
        with replacing(out) as aside:
            aside.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n")
    sys.stdout.write(page + "\n")


def pattern(words: Sequence[str]) -> re.Pattern[str]:
    """Whole words in any case; a star stands for any ending."""
    inner = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in words)
    return re.compile(rf"(?<!\w)(?:{inner})(?!\w)", re.IGNORECASE)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as a Markdown table, numbers to three places."""
    lines = [[_cell(head) for head in heads], ["---"] * len(heads), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
