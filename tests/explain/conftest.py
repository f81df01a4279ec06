"""Some features of the planted concepts, and an endpoint that answers as a script says."""

from collections.abc import Iterator

import pytest

from planted import opened, planted, run

from .scripted import Endpoint, serving

__all__ = ["opened", "planted", "run"]


@pytest.fixture
def some(planted) -> list[int]:
    return [planted.numbers[name] for name in ("animals", "music", "chemistry")]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as found:
        yield found
