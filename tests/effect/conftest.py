"""The dictionary whose features are the planted concepts."""

import pytest

from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from planted import opened, planted, run

__all__ = ["opened", "planted", "run"]


@pytest.fixture(scope="session")
def dictionary(planted) -> Dictionary:
    return load_dictionary(planted.folder / "dictionaries" / "planted")
