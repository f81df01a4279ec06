"""From codes to feature rows: what is gathered, labelled and compared once all tokens are encoded.

Tables are made for a few thousand features at a time, so that memory does not grow with the rows of the atlas.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from monoscope.atlas.candidates import Corpus
from monoscope.atlas.cofiring import fire_together
from monoscope.atlas.concept import Concepts
from monoscope.atlas.examples import Counts, Examples, Gathering, percentile
from monoscope.atlas.families import absorbed_into, duplicates, misses
from monoscope.atlas.label import Labelled, Labeller, label_features
from monoscope.atlas.neighbours import find_nearest, pointed_tokens
from monoscope.atlas.sample import Sample
from monoscope.atlas.schema import Block, features_table
from monoscope.atlas.second_look import look_again
from monoscope.atlas.spool import Spool
from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.token_store import TokenStore

_LISTED = 10
_BLOCK = 4096


def gather(spool: Spool, store: TokenStore, maximum: np.ndarray, progress: Progress = SILENT) -> Gathering:
    """Counts and contexts of all features. `maximum` is the activation that intervals are fifths of, a feature each."""
    gathering = Gathering(store, maximum)
    progress.start("gather", store.n_tokens, "tokens")
    for piece in spool.read():
        gathering.add(piece.token, piece.indices, piece.values, piece.counts)
        progress.advance(len(piece.token))
    progress.finish()
    return gathering


class Closing:
    """All that follows the encoding of one text. Built once; tables come out once."""

    def __init__(
        self,
        dictionary: Dictionary,
        store: TokenStore,
        spool: Spool,
        unembedding: Tensor | None,
        progress: Progress = SILENT,
    ) -> None:
        self._dictionary, self._store, self._spool, self._progress = dictionary, store, spool, progress
        self._unembedding = unembedding
        gathering = gather(spool, store, dictionary.stats.max.float().numpy(), progress)
        self.counts: Counts = gathering.counts()
        self.edges = gathering.edges()
        self._examples: Examples = gathering.examples()
        del gathering
        activations = spool.scratch("activations", int((self._examples.stop - self._examples.start).sum()))
        self._sample: Sample = look_again(
            spool.read(), store, self._examples, activations, dictionary.n_latents, progress
        )
        self._activations = activations
        self._scores: list[np.ndarray] = []

    @cached_property
    def corpus(self) -> Corpus:
        """The words of the text."""
        return Corpus(self._store)

    @cached_property
    def labeller(self) -> Labeller:
        """What makes labels from this text."""
        return Labeller(self.corpus, self._sample, self._store.held_documents.numpy())

    def tables(self) -> Iterator[pa.Table]:
        """The rows of all features, some thousands at a time."""
        n = self._dictionary.n_latents
        rows = self._dictionary.W_dec.float()
        alive = torch.from_numpy(self.counts.firings > 0)
        neighbours, cosines = find_nearest(rows, _LISTED, alive, progress=self._progress)
        raised, lowered = self._pointed()
        together = fire_together(self._sample, neighbours, _LISTED)
        repeats = duplicates(neighbours, cosines, together.of_neighbours, self.counts.firings)
        unit = torch.nn.functional.normalize(rows, dim=1).numpy()
        concepts = Concepts(self.corpus)
        p999 = percentile(self.counts, self.edges, 0.999)
        self._progress.start("labels", n, "features")
        for first in range(0, n, _BLOCK):
            here = slice(first, min(n, first + _BLOCK))
            features = np.arange(here.start, here.stop)
            labelled = label_features(self.labeller, self._examples, self.counts, features)
            self._scores.append(scores_of(labelled))
            yield features_table(
                Block(
                    features=features,
                    counts=self.counts,
                    p999=p999[here],
                    examples=self._examples,
                    activations=self._activations,
                    labelled=labelled,
                    concepts=self._concepts(concepts, features, labelled),
                    promoted=(raised[0][here], raised[1][here]),
                    suppressed=(lowered[0][here], lowered[1][here]),
                    neighbours=neighbours[here],
                    cosines=cosines[here],
                    correlations=together.of_neighbours[here],
                    cofiring=together.feature[here],
                    lift=together.lift[here],
                    cofiring_correlations=together.correlation[here],
                    cofiring_cosines=_cosines(unit, features, together.feature[here]),
                    duplicate_of=repeats[here],
                    **self._silent(features, labelled, unit),
                ),
                self._store,
                self._sample,
            )
            self._progress.advance(len(features))
        self._progress.finish()

    def dark(self) -> np.ndarray:
        """For each token of the text the unexplained share of its variance, float16; NaN where it was not encoded."""
        columns = self._spool.columns()
        found = np.full(self._store.n_tokens, np.nan, np.float16)
        found[columns["token"]] = columns["dark"]
        return found

    def quality(self) -> dict[str, Any]:
        """What the labels are worth, and how much the codes leave unexplained; after all tables came out."""
        scores = np.concatenate(self._scores) if self._scores else np.zeros((0, 2))
        dark, columns = self._spool.columns()["dark"].astype(np.float32), self._spool.columns()
        documents = self._store.document_of(torch.from_numpy(np.array(columns["token"]))).numpy()
        source = self.counts.sources.of_document[documents] if len(documents) else np.zeros(0, np.int64)
        by_source = {name: _mean(dark[source == number]) for number, name in enumerate(self.counts.sources.names)}
        return {"labels": summary_of(scores), "dark": {"mean": _mean(dark), "by_source": by_source}}

    def _pointed(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Promoted and suppressed tokens among those that the text has; special ones are left out."""
        if self._unembedding is None:
            n = self._dictionary.n_latents
            nothing = np.zeros((n, 0), np.int32), np.zeros((n, 0), np.float32)
            return nothing, nothing
        seen = torch.bincount(self._store.ids.long(), minlength=len(self._unembedding)) > 0
        seen[sorted(self._store.special_ids)] = False
        allowed = torch.nonzero(seen).flatten()
        raised, lowered = pointed_tokens(self._dictionary.W_dec, self._unembedding, allowed, _LISTED)
        return (raised[0].numpy(), raised[1].numpy()), (lowered[0].numpy(), lowered[1].numpy())

    def _concepts(self, concepts: Concepts, features: np.ndarray, labelled: Labelled) -> np.ndarray:
        found = []
        for feature, label in zip(features.tolist(), labelled.labels, strict=True):
            here = slice(self._examples.offsets[feature], self._examples.offsets[feature + 1])
            found.append(concepts.score(self._examples.token[here], self._examples.value[here], label))
        return np.array(found, np.float32)

    def _silent(self, features: np.ndarray, labelled: Labelled, unit: np.ndarray) -> dict[str, Any]:
        """Where each feature might have fired and did not, and which other fires there instead."""
        tokens, absorbed = [], []
        for feature, known in zip(features.tolist(), labelled.known, strict=True):
            rows = misses(self.labeller.maker, known)
            tokens.append(self._sample.token[rows])
            absorbed.append(absorbed_into(self._sample, rows, feature, unit))
        return {"misses": tokens, "absorbed_into": np.array(absorbed, np.int32)}


def control_labels(control: Dictionary | None, store: TokenStore, spool: Spool, labeller: Labeller) -> dict[str, Any]:
    """What labels made in the same way are worth for a dictionary of random directions."""
    if control is None:
        return {"random_dictionary": summary_of(np.zeros((0, 2)))}
    gathering = gather(spool, store, control.stats.max.float().numpy())
    counts, examples = gathering.counts(), gathering.examples()
    activations = spool.scratch("activations", int((examples.stop - examples.start).sum()))
    sample = look_again(spool.read(), store, examples, activations, control.n_latents)
    its = Labeller(labeller.corpus, sample, store.held_documents.numpy())
    labelled = label_features(its, examples, counts, np.arange(control.n_latents))
    return {"random_dictionary": summary_of(scores_of(labelled))}


def scores_of(labelled: Labelled) -> np.ndarray:
    """Score and control of each label that could be tried, [labels, 2]."""
    pairs = [(label.score, label.control) for label in labelled.labels if label.tried]
    return np.array(pairs, np.float64).reshape(-1, 2)


def summary_of(scores: np.ndarray) -> dict[str, Any]:
    """Medians of held-out balanced accuracy and of its shuffled control."""
    if not len(scores):
        return {"scored": 0, "score_median": None, "shuffled_median": None, "shuffled_mean": None}
    return {
        "scored": len(scores),
        "score_median": round(float(np.median(scores[:, 0])), 4),
        "score_mean": round(float(scores[:, 0].mean()), 4),
        "shuffled_median": round(float(np.median(scores[:, 1])), 4),
        "shuffled_mean": round(float(scores[:, 1].mean()), 4),
    }


def _cosines(unit: np.ndarray, features: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.einsum("fd,fld->fl", unit[features], unit[np.maximum(others, 0)]).astype(np.float32)


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return round(float(values.mean()), 5) if len(values) else None
