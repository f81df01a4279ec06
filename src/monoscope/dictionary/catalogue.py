"""Every architecture there is, found by looking through this folder: a new one is a new file and nothing else."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.rule import TrainingRule


@cache
def rules() -> dict[str, type[TrainingRule]]:
    """By name, the architectures that can be trained."""
    _look()
    return {kind.name: kind for kind in _children(TrainingRule)}


@cache
def kinds() -> dict[str, type[Dictionary]]:
    """By architecture, the dictionaries that can be read."""
    _look()
    return {kind.architecture: kind for kind in _children(Dictionary)}


def _look() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{package}.{module.name}")


def _children(parent: type) -> list[type]:
    found = [*parent.__subclasses__()]
    for child in parent.__subclasses__():
        found += _children(child)
    package = __name__.rpartition(".")[0]
    mine = {child for child in found if child.__module__.startswith(package) and not inspect.isabstract(child)}
    return sorted(mine, key=lambda child: child.__module__)
