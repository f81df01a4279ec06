"""Words of like meaning: a table of vectors for the words that features speak for, so that search finds more than
spellings.

The vectors come from a small embedding model (`model.embedder`), computed once for each word of the index and kept
beside the atlas; a query whose words the table has needs no model. Without a table search is by spelling alone.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from monoscope.atlas.concept import coherence
from monoscope.atlas.evidence import Evidence
from monoscope.atlas.matching import ALSO, ALSO_WEIGHT
from monoscope.atlas.query import Atlas
from monoscope.atlas.schema import MEANING
from monoscope.atlas.words import stem
from monoscope.core.artifact import replacing
from monoscope.core.errors import Damaged, SourceNotFound, Unavailable
from monoscope.model.embedder import Embedder, load_embedder

_MOST_WORDS = 16_000
_SHORTEST = 3
# Below this cosine words are strangers; at 1 a word of like meaning counts this much of the word itself.
_STRANGERS, _KIN_WEIGHT, _MOST_KIN = 0.5, 0.7, 10


@dataclass(frozen=True)
class Meaning:
    """`words` are stems; `vectors` [words, 384] are of norm 1, float16; `coherence` is one number a feature."""

    words: dict[str, int]
    vectors: np.ndarray
    coherence: np.ndarray

    @classmethod
    def make(cls, evidence: list[Evidence], n_features: int, embedder: Embedder) -> "Meaning":
        """Vectors for the weightiest stems of the index, and from them how coherent each feature's words are."""
        spoken = spoken_words(evidence)
        kept = [one for one in spoken if len(one) >= _SHORTEST and spoken[one][0].isalpha()]
        kept.sort(key=lambda one: (-spoken[one][1], one))
        kept = kept[:_MOST_WORDS]
        vectors = embedder.embed([spoken[one][0] for one in kept]).numpy().astype(np.float16)
        words = {one: number for number, one in enumerate(kept)}
        return cls(words, vectors, _coherences(evidence, n_features, words, vectors))

    def kin(self, vector: np.ndarray, without: str = "") -> dict[str, float]:
        """The words nearest in meaning to a unit vector, with the weight they count for."""
        cosines = self.vectors.astype(np.float32) @ vector.astype(np.float32)
        best = np.argsort(-cosines)[: _MOST_KIN + 1].tolist()
        names = list(self.words)
        return {
            names[number]: round(_KIN_WEIGHT * float(cosines[number] - _STRANGERS) / (1 - _STRANGERS), 3)
            for number in best
            if cosines[number] > _STRANGERS and names[number] != without
        }

    def save(self, folder: Path, digest: str) -> None:
        """Keep it beside an atlas."""
        with replacing(folder / MEANING) as aside, aside.open("wb") as stream:
            words, origin = np.array(list(self.words)), np.array(digest)
            np.savez(stream, words=words, vectors=self.vectors, coherence=self.coherence, digest=origin)

    @classmethod
    def open(cls, folder: Path, digest: str) -> "Meaning | None":
        """The table of an atlas; None where there is none of this very atlas."""
        try:
            with np.load(folder / MEANING, allow_pickle=False) as found:
                if str(found["digest"]) != digest:
                    return None
                words = {word: number for number, word in enumerate(found["words"].tolist())}
                return cls(words, found["vectors"], found["coherence"])
        except (OSError, ValueError, KeyError):
            return None


def _coherences(
    evidence: list[Evidence], n_features: int, words: dict[str, int], vectors: np.ndarray
) -> Float[np.ndarray, "n_features"]:
    """For each feature how near in meaning the words are that it peaks on, about the mean of all words."""
    table = vectors.astype(np.float32)
    table = table - table.mean(0) if len(table) else table
    table /= np.maximum(1e-6, np.linalg.norm(table, axis=1, keepdims=True))
    found = np.zeros(n_features, np.float16)
    for one in evidence:
        known = {word: table[words[word]] for word in one.peak if word in words}
        found[one.feature] = coherence(one.peak, known)
    return found


def spoken_words(evidence: list[Evidence]) -> dict[str, tuple[str, float]]:
    """Every stem that features peak on or are about, how it is written, and the summed share."""
    found: dict[str, tuple[str, float]] = {}
    for one in evidence:
        for shares in (one.peak, one.about):
            for word, share in shares.items():
                form, weight = found.get(word, (one.forms.get(word, word), 0.0))
                found[word] = (form, weight + share)
    return found


@lru_cache(maxsize=4)
def _table(folder: Path, digest: str) -> Meaning | None:
    return Meaning.open(folder, digest)


def kin_of(atlas: Atlas, term: str) -> dict[str, float]:
    """Other words that answer a word of a query, with weights: how it is written, and what means nearly the same."""
    kin = {stem(other): ALSO_WEIGHT for other in ALSO.get(term, ())}
    table = _table(atlas.folder, atlas.digest)
    if table is None:
        return kin
    number = table.words.get(term)
    vector = table.vectors[number] if number is not None else _embedded(term)
    if vector is None:
        return kin
    return {**table.kin(vector, without=term), **kin}


@lru_cache(maxsize=256)
def _embedded(term: str) -> np.ndarray | None:
    """The vector of a word that the table has not; None where the model is out of reach."""
    try:
        return load_embedder().embed([term])[0].numpy()
    except (SourceNotFound, Damaged, Unavailable):
        return None
