"""The same article found in another language by its codes: English to French and to Spanish, rank 1.

python examples/atlas/retrieval.py RUN [--cache FOLDER] [--out F.json]

Each article is one vector; the nearest by cosine among the articles of the other language should be its translation.
How codes are pooled is chosen on pairs of training documents, and proved on held-out pairs, which neither chose the
pooling nor trained the dictionary. Beside it: the mean of the raw activations, bags of words, and three
dictionaries of random unit rows with the same firing rates.

`language` takes the mean of each language's training articles out of a vector; `spread` also divides by their standard
deviation, so that a feature counts by how unusual it is in its language. Both know nothing of the pairs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

import torch
from common import Studied, answer, command, table
from torch import Tensor

from monoscope.core.errors import EmptyText

SEED, GALLERY, CHOOSING, WIDE = 20261125, 200, 2, 200
ENGLISH, OTHERS = "wiki-en", ("wiki-fr", "wiki-es")
PLAIN = ("max", "value", "none", "all", "none")
POOLS = ("max", "sum", "mean")
SHAPES = ("value", "root", "log", "binary")
WEIGHTS = ("none", "idf", "idf2", "max", "idf/max", "idf2/max")
KEPT = ("all", "30 %", "10 %")
CENTRES = ("none", "language", "spread")
CROWD, DRAWS, FEWEST = 10, 3, 8
Way = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Pairs:
    """Places in the table of documents: pair `i` is of `english[i]` and `other[i]`."""

    english: Tensor
    other: Tensor


def main() -> None:
    """Read the command line, choose, prove, and print the tables."""
    asked = command(__doc__).parse_args()
    studied = Studied.open(asked.run, asked.name, asked.cache)
    found = measured(studied)
    answer(found, page(found), asked.out)


def page(found: dict[str, Any]) -> str:
    """The proof, and the best of the choice."""
    proofs = []
    for key, about in (
        ("held", "Held-out pairs, rank 1"),
        ("held_less_crowding", "The same, cosines less crowding"),
        ("wide", "With training pairs that chose nothing added"),
    ):
        counts = found["pairs"]["wide" if key == "wide" else "held"]
        heads = ("vector", *(f"en→{name[-2:]}, {count} pairs" for name, count in counts.items()))
        proofs.append(f"{about}:\n\n" + table(heads, [(one["name"], *one[key].values()) for one in found["proof"]]))
    chosen = [(one["way"], *one["rank1"].values(), one["mean"]) for one in found["choice"][:10]]
    best = "Best on the pairs that choose:\n\n" + table(("pooling", "en→fr", "en→es", "mean"), chosen)
    return "\n\n".join((*proofs, best))


def measured(studied: Studied) -> dict[str, Any]:
    """Choose a pooling on training pairs, prove it and the baselines on held-out ones."""
    documents, choosing, held, wide = paired(studied)
    if any(min(len(choosing[other].english), len(held[other].english)) < FEWEST for other in OTHERS):
        raise EmptyText(f"{studied.run.path} has too few articles in English and in {' and '.join(OTHERS)}.")
    tables = Tables(studied, documents)
    choice = []
    for way in product(POOLS, SHAPES, WEIGHTS, KEPT, CENTRES):
        if way[-1] == "spread" and way[2] != "none":  # dividing by the spread undoes any weight
            continue
        vectors = tables.vectors(way)
        rank1 = {name: blocks_rank1(vectors, pairs) for name, pairs in choosing.items()}
        choice.append({"way": " · ".join(way), "rank1": rank1, "mean": sum(rank1.values()) / len(rank1), "_": way})
    choice.sort(key=lambda one: -one["mean"])
    best, raw = choice[0]["_"], tables.raw()
    shown = {
        "codes, plain max": tables.vectors(PLAIN),
        "codes, max with idf, under 30 % of articles": tables.vectors(("max", "value", "idf", "30 %", "none")),
        f"codes, chosen: {' · '.join(best)}": tables.vectors(best),
        "mean of raw activations, plain": raw["none"],
        "mean of raw activations, language": raw["language"],
        "mean of raw activations, spread": raw["spread"],
        "bag of words, idf": tables.bag(),
        "bag of words, idf, title line left out": tables.bag(titles=False),
        "bag of words, spread": tables.bag(centre="spread"),
    }
    for draw in range(DRAWS):
        at_random = Tables(studied.at_random(draw), documents)
        shown[f"random dictionary {draw + 1}, plain max"] = at_random.vectors(PLAIN)
        shown[f"random dictionary {draw + 1}: {' · '.join(best)}"] = at_random.vectors(best)
    proof = [
        {
            "name": name,
            **{key: _each(rank1_of, vectors, sets) for key, sets in (("held", held), ("wide", wide))},
            "held_less_crowding": _each(rank1_less_crowding, vectors, held),
        }
        for name, vectors in shown.items()
    ]
    for one in choice:
        one.pop("_", None)
    counts = (("choosing", choosing), ("held", held), ("wide", wide))
    return {
        "pairs": {key: {name: len(pairs.english) for name, pairs in sets.items()} for key, sets in counts},
        "chosen": " · ".join(best),
        "proof": proof,
        "choice": choice,
    }


def _each(measure: Callable[[Tensor, Pairs], float], vectors: Tensor, sets: dict[str, Pairs]) -> dict[str, float]:
    return {name: measure(vectors, pairs) for name, pairs in sets.items()}


def paired(studied: Studied) -> tuple[list[int], dict[str, Pairs], dict[str, Pairs], dict[str, Pairs]]:
    """Documents that have a partner, and the pairs that choose, that are held out, and the latter with more added."""
    by_group: dict[str, dict[str, int]] = {}
    for number, about in enumerate(studied.documents):
        by_group.setdefault(about["group"], {}).setdefault(about["source"], number)
    documents: dict[int, int] = {}
    choosing, held, wide = {}, {}, {}
    for other in OTHERS:
        both = [group for group in by_group.values() if ENGLISH in group and other in group]
        train = [group for group in both if studied.documents[group[ENGLISH]]["split"] == "train"]
        Random(f"{SEED}:{other}").shuffle(train)
        half = len(train) // 2
        kept = [group for group in both if studied.documents[group[ENGLISH]]["split"] == "held"]
        more = kept + train[half : half + max(0, WIDE - len(kept))]
        sets = ((choosing, train[: min(half, GALLERY * CHOOSING)]), (held, kept), (wide, more))
        for into, groups in sets:
            places = [
                [documents.setdefault(group[source], len(documents)) for group in groups] for source in (ENGLISH, other)
            ]
            into[other] = Pairs(torch.tensor(places[0]), torch.tensor(places[1]))
    return list(documents), choosing, held, wide


def rank1_of(vectors: Tensor, pairs: Pairs) -> float:
    """The share of English articles whose nearest in the other language is their own; a tie with another is a miss."""
    return _rank1(vectors[pairs.english] @ vectors[pairs.other].T)


def rank1_less_crowding(vectors: Tensor, pairs: Pairs) -> float:
    """The same by twice the cosine less the mean of each side's ten nearest: what is near everything is no answer."""
    likeness = vectors[pairs.english] @ vectors[pairs.other].T
    crowd = [likeness.topk(min(CROWD, len(likeness)), side).values.mean(side, keepdim=True) for side in (0, 1)]
    return _rank1(2 * likeness - crowd[0] - crowd[1])


def _rank1(likeness: Tensor) -> float:
    own = likeness.diagonal().clone()
    likeness.fill_diagonal_(-torch.inf)
    return float((own > likeness.max(1).values).double().mean())


def blocks_rank1(vectors: Tensor, pairs: Pairs) -> float:
    """The same over galleries of about the size of the proof's."""
    count = max(1, round(len(pairs.english) / GALLERY))
    blocks = zip(pairs.english.chunk(count), pairs.other.chunk(count), strict=True)
    found = [rank1_of(vectors, Pairs(*block)) for block in blocks]
    return sum(found) / len(found)


class Tables:
    """What is known of each document: its codes in several poolings, its mean activation, its words."""

    def __init__(self, studied: Studied, documents: list[int]) -> None:
        self.studied, self.documents = studied, documents
        about = [studied.documents[number] for number in documents]
        self.language = [one["source"] for one in about]
        self.train = torch.tensor([one["split"] == "train" for one in about])
        self.place = torch.full((studied.store.n_documents,), -1)
        self.place[documents] = torch.arange(len(documents))
        self.pooled = self._pool()
        fires = (self.pooled["max", "value"] > 0)[self.train]
        self.share = fires.double().mean(0).float()
        self.idf = torch.log(len(fires) / fires.sum(0).clamp(min=1).float())

    def _pool(self) -> dict[tuple[str, str], Tensor]:
        shape = (len(self.documents), self.studied.dictionary.n_latents)
        sums = {name: torch.zeros(shape) for name in ("value", "root", "log", "binary")}
        largest = torch.zeros(shape)
        for rows, latents, values in self.studied.entries():
            row = self.place[self.studied.document_of_row[rows]]
            mine = row >= 0
            flat, value = row[mine] * shape[1] + latents[mine], values[mine]
            largest.view(-1).scatter_reduce_(0, flat, value, "amax")
            for name, total in sums.items():
                total.view(-1).scatter_add_(0, flat, shaped(value, name))
        lengths = torch.bincount(self.place[self.studied.document_of_row].clamp(min=-1) + 1, minlength=shape[0] + 1)[1:]
        found = {("sum", name): total for name, total in sums.items()}
        found |= {("mean", name): total / lengths.clamp(min=1)[:, None] for name, total in sums.items()}
        return found | {("max", name): shaped(largest, name) for name in sums}

    def vectors(self, way: Way) -> Tensor:
        """Unit vectors of the documents by one way of pooling, weighing, dropping and centring."""
        pool, shape, weight, kept, centre = way
        table = self.pooled[pool, shape]
        factor = torch.ones(table.shape[1])
        if "idf2" in weight:
            factor = self.idf**2
        elif "idf" in weight:
            factor = self.idf
        if "max" in weight:
            factor = factor / shaped(self.studied.dictionary.stats.max.float().clamp(min=1e-3), shape)
        limit = {"all": 1.1, "30 %": 0.3, "10 %": 0.1}[kept]
        return self._unit(table * (factor * (self.share < limit)), centre)

    def raw(self) -> dict[str, Tensor]:
        """Unit vectors along the mean activations, by how they are centred."""
        sums, counts = torch.zeros(len(self.documents), self.studied.shards.d_model), torch.zeros(len(self.documents))
        for block in self.studied.shards.blocks("all"):
            row = self.place[self.studied.store.document_of(block.token)]
            mine = row >= 0
            sums.index_add_(0, row[mine], block.x[mine].float())
            counts.index_add_(0, row[mine], torch.ones(int(mine.sum())))
        return {centre: self._unit(sums / counts.clamp(min=1)[:, None], centre) for centre in CENTRES}

    def bag(self, *, titles: bool = True, centre: str = "none") -> Tensor:
        """Unit vectors of word counts: root and idf, or counted and centred like the codes."""
        numbers: dict[str, int] = {}
        rows = []
        for document in self.documents:
            text = self.studied.texts[document]
            rows.append([numbers.setdefault(word, len(numbers)) for word in words(text, titles)])
        table = torch.zeros(len(rows), len(numbers))
        for place, row in enumerate(rows):
            table[place].index_add_(0, torch.tensor(row, dtype=torch.long), torch.ones(len(row)))
        if centre != "none":
            return self._unit(table / table.sum(1, keepdim=True), centre)
        known = (table > 0)[self.train].sum(0).clamp(min=1)
        return self._unit(table.sqrt() * torch.log(int(self.train.sum()) / known.float()), "none")

    def _unit(self, table: Tensor, centre: str) -> Tensor:
        if centre != "none":
            table = table.clone()
            for language in set(self.language):
                mine = torch.tensor([one == language for one in self.language])
                known = table[mine & self.train]
                table[mine] -= known.mean(0)
                if centre == "spread":
                    spread = known.std(0)
                    # A tenth of a usual spread keeps features that hardly ever fire from counting most.
                    table[mine] /= spread + 0.1 * spread[spread > 0].median()
        return table / table.norm(dim=1, keepdim=True).clamp(min=1e-9)


def shaped(values: Tensor, name: str) -> Tensor:
    """A value's weight as it enters the pool."""
    if name == "root":
        return values.sqrt()
    if name == "log":
        return values.log1p()
    return (values > 0).float() if name == "binary" else values


def words(text: str, titles: bool) -> Iterator[str]:
    """Words in lower case."""
    body = text if titles else text.split("\n", 1)[-1]
    yield from (word.strip(".,;:()[]«»\"'’“”") for word in body.lower().split())


if __name__ == "__main__":
    main()
