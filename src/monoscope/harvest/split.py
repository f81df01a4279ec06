"""Which documents belong together, and which of them are held out."""

import re
import zlib
from collections.abc import Sequence

import numpy as np

from monoscope.text.corpus import unit_hash

SHINGLE_WORDS = 5
MOST_HELD = 0.30
_BANDS, _ROWS = 8, 4
_ALIKE = 0.6
_DOMINANT = 0.10
_WORD = re.compile(r"\w+")


def signature(text: str) -> np.ndarray | None:
    """MinHash of a text's shingles of five words: the share of equal entries estimates Jaccard likeness.

    Case, white space and punctuation do not count.

    Edges   None for a text of fewer than five words.
    Source  Broder, On the resemblance and containment of documents, 1997.
    """
    words = np.array([zlib.crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text.lower())], np.uint64)
    count = len(words) - SHINGLE_WORDS + 1
    if count < 1:
        return None
    rolled = np.zeros(count, dtype=np.uint64)
    for place in range(SHINGLE_WORDS):
        rolled = rolled * np.uint64(0x9E3779B97F4A7C15) + words[place : place + count] + np.uint64(1)
    mixed = _mix(rolled)[None, :] * _MULTIPLIERS[:, None]
    return (mixed >> np.uint64(32)).min(axis=1).astype(np.uint32)


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    return value ^ (value >> np.uint64(29))


_MULTIPLIERS = np.random.default_rng(20).integers(1, 2**63, _BANDS * _ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(
    1
)


def join_groups(groups: Sequence[str], signatures: Sequence[np.ndarray | None]) -> list[str]:
    """The groups with near-duplicates put together; a joint group has the name of its first document's."""
    parent = list(range(len(groups)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    first_of: dict[str, int] = {}
    for index, group in enumerate(groups):
        join(first_of.setdefault(group, index), index)
    for one, other in _alike(signatures):
        join(one, other)
    return [groups[root(index)] for index in range(len(groups))]


def _alike(signatures: Sequence[np.ndarray | None]) -> list[tuple[int, int]]:
    """Pairs that share a band and, over the whole signature, three entries of five."""
    buckets: dict[tuple[int, bytes], int] = {}
    pairs = []
    for index, entries in enumerate(signatures):
        if entries is None:
            continue
        for band in range(_BANDS):
            key = (band, entries[band * _ROWS : (band + 1) * _ROWS].tobytes())
            other = buckets.setdefault(key, index)
            if other != index and (entries == signatures[other]).mean() >= _ALIKE:
                pairs.append((other, index))
    return pairs


def break_up(groups: Sequence[str], tokens: np.ndarray) -> list[str]:
    """The groups, with one that has more than a tenth of all tokens taken apart into its documents.

    Without this a text that is a single long file could not be split at all.
    """
    size = _sizes(groups, tokens)
    most = _DOMINANT * int(tokens.sum())
    return [f"{group}#{index}" if size[group] > most else group for index, group in enumerate(groups)]


def hold_out(groups: Sequence[str], tokens: np.ndarray, *, share: float, least: int, seed: int) -> np.ndarray:
    """Which documents are held out: whole groups, by a hash of seed and group, until the share is reached.

    Where `share` gives fewer than `least` tokens more groups are held, up to 30 % of all tokens.
    With two groups or more, at least one is held.
    """
    size = _sizes(groups, tokens)
    most = MOST_HELD * int(tokens.sum())
    held, held_tokens = set(), 0
    for place, group in sorted((unit_hash("held", seed, group), group) for group in size):
        if place >= share and held_tokens >= least:
            break
        if held_tokens + size[group] <= most:
            held.add(group)
            held_tokens += size[group]
    if not held and share > 0 and len(size) > 1:
        held.add(min(size, key=lambda group: (size[group], group)))
    return np.array([group in held for group in groups], dtype=bool)


def _sizes(groups: Sequence[str], tokens: np.ndarray) -> dict[str, int]:
    size: dict[str, int] = {}
    for group, count in zip(groups, tokens, strict=True):
        size[group] = size.get(group, 0) + int(count)
    return size
