"""Sets of a hub, streamed. The only room that knows the `datasets` library."""

import importlib.util
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from monoscope.core.errors import BadSource, MonoscopeError, SourceNotFound, Unavailable
from monoscope.text.corpus import Document
from monoscope.text.records import document_from

REACH_SECONDS = 15


def hub_documents(source: str) -> Iterator[Document]:
    """The rows of `hf:SET[:CONFIG][:SPLIT][:COLUMN]`; the split is train unless another is named.

    Raises
        BadSource       the string has too many parts.
        Unavailable     the `datasets` library is missing.
        SourceNotFound  at the first document: the hub cannot be reached, or has no such set.
    """
    name, config, split, column = parse_hub(source)
    if importlib.util.find_spec("datasets") is None:
        raise Unavailable(f"{source} needs the library datasets; install it with `pip install 'monoscope[data]'`.")
    return _rows(source, name, config, split, column)


def parse_hub(source: str) -> tuple[str, str, str, str]:
    """Set, configuration, split and column; what is not given is empty, but the split is train.

    Raises
        BadSource  the string does not follow the grammar.
    """
    parts = source.removeprefix("hf:").split(":")
    if len(parts) > 4 or not parts[0]:
        raise BadSource(f"{source!r} is not understood; write hf:SET[:CONFIG][:SPLIT][:COLUMN].")
    name, config, split, column = (parts + ["", "", ""])[:4]
    return name, config, split or "train", column


def reach_hub(source: str) -> None:
    """Ask the hub for anything at all, in at most 15 seconds.

    Raises
        SourceNotFound  it does not answer.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return

    def ask() -> None:
        get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS - 5)

    try:
        _within(REACH_SECONDS, ask)
    except Exception as error:
        reason = type(error).__name__
        raise SourceNotFound(
            f"The hub that should hold {source} cannot be reached ({reason}); use a local file, "
            "or set HF_HUB_OFFLINE=1 when the set is in the local cache."
        ) from error


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """Name lookup knows no time limit, so the work runs in a thread that is left behind when it takes too long."""
    box: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            box.put((work(), None))
        except Exception as error:
            box.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = box.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds} seconds") from None
    if error is not None:
        raise error
    return result


def _rows(source: str, name: str, config: str, split: str, column: str) -> Iterator[Document]:
    import datasets

    reach_hub(source)
    number = 0
    try:
        for number, record in enumerate(datasets.load_dataset(name, config or None, split=split, streaming=True), 1):
            where = f"{source} row {number}"
            yield document_from(record, source=source, where=where, number=number, column=column)
    except MonoscopeError:
        raise
    except Exception as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceNotFound(f"{source} cannot be read after {number} rows: {told}") from error
