"""The small world that the toy model and the toy text share: a few concepts, and sentences about them.

Every word of a concept is about that concept and about no other, so that what a feature should fire on is known
without asking any model.
"""

import hashlib
from dataclasses import dataclass

CONCEPTS: dict[str, tuple[str, ...]] = {
    "bridge": ("bridge", "cable", "tower", "river", "span", "arch"),
    "music": ("music", "song", "violin", "choir", "melody", "drum"),
    "ocean": ("ocean", "wave", "tide", "coral", "whale", "sail"),
    "kitchen": ("kitchen", "bread", "oven", "soup", "spoon", "salt"),
    "law": ("law", "judge", "court", "trial", "verdict", "witness"),
    "space": ("space", "star", "planet", "comet", "orbit", "rocket"),
    "garden": ("garden", "seed", "flower", "soil", "leaf", "rain"),
    "secret": ("secret", "hidden", "whisper", "code", "mask", "spy"),
}
FILLERS: tuple[str, ...] = (
    "the", "a", "old", "new", "big", "small", "near", "far", "one", "two", "we", "they", "saw", "made", "found", "had",
    "and", "then", "but", "with", "under", "over", "every", "some", "day", "night", "people", "friend", "house",
)  # fmt: skip


@dataclass(frozen=True)
class ToyText:
    """Sentences of which about every third word belongs to `concept`."""

    concept: str
    text: str


def toy_text(number: int, seed: int = 0) -> ToyText:
    """The text of this number: always the same words for the same number and seed."""
    die = _Die(f"{seed}/{number}")
    names = list(CONCEPTS)
    concept = names[number % len(names)]
    sentences = []
    for _ in range(3 + die.below(6)):
        words = [_word(die, concept) for _ in range(5 + die.below(8))]
        sentences.append(" ".join(words) + " .")
    return ToyText(concept, " ".join(sentences))


def _word(die: "_Die", concept: str) -> str:
    words = CONCEPTS[concept] if die.below(3) == 0 else FILLERS
    return words[die.below(len(words))]


class _Die:
    """Whole numbers from a hash, the same in every Python."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def below(self, bound: int) -> int:
        self.count += 1
        digest = hashlib.blake2b(f"{self.name}/{self.count}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % bound
