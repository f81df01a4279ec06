"""What was written, read back and held against what was meant."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from monoscope.core.errors import Damaged


class Rounding:
    """Rounds numbers, and remembers the largest error. Mutable."""

    def __init__(self) -> None:
        self.error = 0.0

    def __call__(self, value: float, digits: int = 3) -> float:
        """The number with at most so many decimals."""
        kept = round(float(value), digits)
        self.error = max(self.error, abs(kept - value))
        return kept


def rounded(value: Any, digits: Mapping[str, int], key: str = "") -> Any:
    """A copy in which the numbers under a key named in `digits` have at most so many decimals.

    Edges  lists of numbers are taken whole; integers and numbers under other keys stay as they are.
    """
    if isinstance(value, dict):
        return {name: rounded(item, digits, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        if key in digits and value and all(type(item) is float for item in value):
            return np.round(np.asarray(value, np.float64), digits[key]).tolist()
        return [rounded(item, digits, key) for item in value]
    if isinstance(value, float) and key in digits:
        return round(value, digits[key])
    return value


def largest_difference(meant: Any, found: Any, where: str) -> float:
    """The largest difference between two numbers at the same place of two trees of plain values.

    Everything but floats must be equal; `where` names the file in the refusal.

    Raises
        Damaged  the trees differ in anything but floats, or a float is no number.
    """
    if isinstance(meant, dict):
        _agree(isinstance(found, dict) and meant.keys() == found.keys(), where)
        return max((largest_difference(item, found[key], where) for key, item in meant.items()), default=0.0)
    if isinstance(meant, (list, tuple)):
        _agree(isinstance(found, list) and len(meant) == len(found), where)
        if meant and all(type(item) is float for item in meant):
            return _of_floats(meant, found, where)
        return max((largest_difference(*pair, where) for pair in zip(meant, found, strict=True)), default=0.0)
    if isinstance(meant, (float, np.floating)):
        _agree(isinstance(found, (int, float)) and not isinstance(found, bool), where)
        difference = abs(float(meant) - found)
        _agree(math.isfinite(difference), where)
        return difference
    _agree(meant == found and type(meant) is type(found), where)
    return 0.0


def _of_floats(meant: list[float] | tuple[float, ...], found: list[float], where: str) -> float:
    _agree(all(type(item) in (float, int) for item in found), where)
    difference = float(np.abs(np.asarray(meant, np.float64) - np.asarray(found, np.float64)).max())
    _agree(math.isfinite(difference), where)
    return difference


def _agree(same: bool, where: str) -> None:
    if not same:
        raise Damaged(f"{where} does not read back as it was written; check the disk and export again.")
