"""A model repository from the Hugging Face cache, or else from the hub: quickly, or with one sentence."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from monoscope.core.artifact import read_json
from monoscope.core.errors import BadSource, Damaged, MonoscopeError, SourceNotFound

_DEADLINE = 15.0
_WANTED = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
# Sub-folders hold other formats, and `consolidated` the same weights a second time.
_UNWANTED = ["*/*", "consolidated*"]


def fetch_from_hub(repo: str, revision: str | None) -> Path:
    """The folder of a repository's snapshot.

    Cost    nothing but a look at the disk where it is cached; where the hub does not answer, at most 15 s.

    Raises
        SourceNotFound  unknown, private, or the hub cannot be reached.
        BadSource       its weights come only as pickles.
    """
    cached = _cached(repo, revision)
    if cached is not None:
        return cached
    with _as_sentence(repo, revision):
        info = _within(_DEADLINE, lambda: HfApi().model_info(repo, revision=revision, timeout=_DEADLINE / 2))
        names = [file.rfilename for file in info.siblings or ()]
        if not any(name.endswith(".safetensors") and "/" not in name for name in names):
            raise BadSource(f"{repo} has no safetensors weights on the hub; pickles are never opened.")
        return Path(_snapshot(repo, info.sha, local_files_only=False))


def _cached(repo: str, revision: str | None) -> Path | None:
    try:
        folder = Path(_snapshot(repo, revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None
    return folder if _whole(folder) else None


def _whole(folder: Path) -> bool:
    """A stopped download leaves some files out."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    try:
        shards = set(read_json(index).get("weight_map", {}).values())
    except Damaged:
        return False
    return all((folder / shard).is_file() for shard in shards)


def _snapshot(repo: str, revision: str | None, *, local_files_only: bool) -> str:
    quiet = are_progress_bars_disabled()
    if not quiet and local_files_only:
        disable_progress_bars()
    try:
        return snapshot_download(
            repo,
            revision=revision,
            local_files_only=local_files_only,
            allow_patterns=_WANTED,
            ignore_patterns=_UNWANTED,
        )
    finally:
        if not quiet:
            enable_progress_bars()


@contextlib.contextmanager
def _as_sentence(repo: str, revision: str | None) -> Iterator[None]:
    named = f"{repo}@{revision}" if revision else repo
    elsewhere = "Give a folder on disk, a .gguf file, smollm2-135m or toy instead."
    try:
        yield
    except MonoscopeError:
        raise
    except GatedRepoError as error:
        raise SourceNotFound(f"Model {named} is gated: accept its terms on the hub and log in first.") from error
    except RevisionNotFoundError as error:
        raise SourceNotFound(f"Model {repo} has no revision {revision!r} on the hub.") from error
    except RepositoryNotFoundError as error:
        raise SourceNotFound(f"There is no model {named} on disk or on the hub, or it is private.") from error
    except HFValidationError as error:
        raise BadSource(f"{repo!r} is not a name that the hub can have.") from error
    except Exception as error:  # the hub's library lets its HTTP client's errors through
        why = _why(error)
        raise SourceNotFound(
            f"Model {named} is not on this disk and the hub cannot be reached ({why}). {elsewhere}"
        ) from error


def _why(error: Exception) -> str:
    if constants.HF_HUB_OFFLINE:
        return "offline mode is on"
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """The result of `work`, or TimeoutError: name look-ups and retries do not obey time limits of their own."""
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:  # handed to the caller's thread
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = results.get(timeout=seconds)
    except queue.Empty as nothing:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from nothing
    if error is not None:
        raise error
    return value
