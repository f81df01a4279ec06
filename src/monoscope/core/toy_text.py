"""The small world that the toy model and the toy text share: a few concepts, and plain sentences about them.

Some words belong to two concepts (" salmon" is an animal and a food), so that a concept is not a token.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from monoscope.core.runtime import numpy_stream

_CONCEPTS = {
    "animals": "fox bear horse wolf rabbit otter salmon python bass crane turkey bat",
    "colours": "red blue green yellow purple orange rose gold silver olive",
    "cities": "paris london tokyo berlin madrid brooklyn venice sydney",
    "bridges": "bridge span arch viaduct cable tower brooklyn london venice",
    "numbers": "two three four seven nine dozen hundred quarter",
    "foods": "bread cheese rice soup salmon turkey olive pie honey",
    "fruit": "apple pear orange lemon cherry plum olive",
    "music": "song piano violin drum opera bass pipe keyboard record",
    "chemistry": "acid oxygen carbon sodium mercury solution silver compound",
    "space": "planet moon comet galaxy orbit mercury star probe",
    "weather": "rain snow storm wind cloud thunder front fog",
    "medicine": "doctor nurse fever vaccine surgery tablet vessel cell",
    "sport": "goal team match referee tennis bat court coach record",
    "law": "judge court lawyer trial verdict appeal sentence cell",
    "money": "bank coin loan market price gold mint quarter crown",
    "war": "army soldier battle siege cannon tank front",
    "family": "mother father sister brother uncle cousin queen",
    "clothes": "shirt coat hat glove boot scarf tie coach",
    "plants": "tree flower leaf root rose mint bark palm",
    "tools": "hammer saw drill wrench crane file vice lever",
    "computers": "code server compiler python tablet file keyboard apple root",
    "royalty": "king queen prince throne palace crown castle",
    "sea": "ship wave harbour sail anchor vessel wreck pirate",
    "secrets": "spy cipher secret mask whisper safe probe pirate",
}
# The words of each kind, and which kinds may come next with which weight.
KINDS: dict[str, tuple[tuple[str, ...], dict[str, float]]] = {
    "first": (("The", "A", "Every", "Some"), {"content": 1.0}),
    "again": ((" The", " A", " Every", " Some", " Then the"), {"content": 1.0}),
    "article": ((" the", " a", " every", " some", " this"), {"content": 1.0}),
    "content": ((), {"verb": 1.0, "joint": 0.95, "stop": 1.0}),
    "verb": ((" sees", " finds", " has", " likes", " needs", " meets", " is", " makes", " keeps"), {"article": 1.0}),
    "joint": ((" and", " near", " with", " under", " about", " of", " for"), {"article": 1.0}),
    "stop": ((".", "!"), {"again": 1.0, "end": 0.7}),
    "end": (("<|end|>", "\n"), {"first": 1.0}),
}


def toy_concepts() -> dict[str, tuple[str, ...]]:
    """The planted concepts, each with its words; a word may stand under two."""
    return {name: tuple(words.split()) for name, words in _CONCEPTS.items()}


def toy_texts(seed: int, documents: int) -> Iterator[tuple[str, str]]:
    """Titles and texts in the toy's own language, each about one or two concepts named by the title."""
    stream = numpy_stream(seed, "toy texts")
    concepts = toy_concepts()
    names = list(concepts)
    everything = sorted({word for words in concepts.values() for word in words})
    for _ in range(documents):
        about = [names[i] for i in stream.permutation(len(names))[: 1 + int(stream.random() < 0.6)]]
        words = [word for name in about for word in concepts[name]]
        sentences = [_sentence(stream, words, everything) for _ in range(int(stream.integers(3, 9)))]
        yield " and ".join(about), " ".join(sentences)


def _sentence(stream: np.random.Generator, words: list[str], everything: list[str]) -> str:
    def pick(choices: list[str] | tuple[str, ...]) -> str:
        return choices[int(stream.random() * len(choices))]

    def content() -> str:
        return pick(words if stream.random() < 0.9 else everything)

    parts = [pick(KINDS["first"][0]), content()]
    for kind in itertools.islice(itertools.cycle(("verb", "joint")), int(stream.integers(1, 4))):
        parts += [pick(KINDS[kind][0]).strip(), pick(KINDS["article"][0]).strip(), content()]
    return " ".join(parts) + pick(KINDS["stop"][0])
