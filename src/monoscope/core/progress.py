"""How long work tells somebody how far it is, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """A listener. `advance` may be called many times a second; the listener decides what to show."""

    def start(self, stage: str, total: int | None, unit: str, already: int = 0) -> None:
        """A stage of `total` units begins; `already` of them were done in an earlier run."""
        ...

    def advance(self, amount: int, **facts: float) -> None:
        """`amount` more units are done; `facts` are figures worth showing."""
        ...

    def finish(self) -> None:
        """The stage is over."""
        ...


class Silent:
    """Nobody listens."""

    def start(self, stage: str, total: int | None, unit: str, already: int = 0) -> None:  # noqa: ARG002  the contract
        """Ignore."""

    def advance(self, amount: int, **facts: float) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""


SILENT = Silent()
