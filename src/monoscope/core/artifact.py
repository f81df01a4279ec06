"""Files that appear whole or not at all, and say so when they are damaged.

Everything is written aside, flushed to the disk, and renamed. Digests are SHA-256 of the file's bytes.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from monoscope.core.errors import ArtifactNotFound, Busy, Damaged, DiskFull, RequestDiffers

if TYPE_CHECKING:
    from torch import Tensor  # not at run time: the command line answers before torch is loaded

_CHUNK = 1 << 20
# Of renameat2 (Linux) and renamex_np (macOS); -100 is the working directory.
_RENAME_EXCHANGE, _RENAME_SWAP, _HERE = 2, 2, -100


def plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)


def digest_of(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            state.update(piece)
    return state.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path that is handed out; on leaving without an error it takes the place of `path`, flushed.

    Raises
        DiskFull  the disk had no room; nothing is left behind.
    """
    with saying_disk_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        with saying_disk_full(path):
            yield aside
            aside.chmod(0o644)
            _flush(aside)
            aside.replace(path)
            _flush(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def staging(
    folder: Path, placing: Callable[[Path], contextlib.AbstractContextManager[None]] | None = None
) -> Iterator[Path]:
    """Fill the folder that is handed out; on leaving without an error it takes the place of `folder`.

    The two change places in one step where the system can, so that there is always a whole folder in place; elsewhere
    the old one is moved away first, and moved back on an error or after a kill. `placing` is entered with the folder
    handed out just before that step and left after it.

    Raises
        DiskFull  the disk had no room; nothing is left behind.
    """
    old = folder.with_name(f".{folder.name}.old")
    _move_back(old, folder)
    with saying_disk_full(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    aside.chmod(0o755)
    try:
        with saying_disk_full(folder):
            yield aside
            with placing(aside) if placing else contextlib.nullcontext():
                for path in aside.rglob("*"):
                    _flush(path)
                _flush(aside)
                if folder.exists() and not exchanged(aside, folder):
                    folder.rename(old)
                if old.exists() or not folder.exists():
                    aside.rename(folder)
                _flush(folder.parent)
    finally:
        _move_back(old, folder)
        shutil.rmtree(aside, ignore_errors=True)


def _move_back(old: Path, folder: Path) -> None:
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; false where the system or the file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            return library.renamex_np(*paths, _RENAME_SWAP) == 0
        return library.renameat2(_HERE, paths[0], _HERE, paths[1], _RENAME_EXCHANGE) == 0
    except AttributeError:
        return False


def sweep(folder: Path, name: str = "") -> None:
    """Remove what a killed writer left aside in `folder`, of the file or folder `name` or of all.

    Only for the folder's one writer: another's unfinished file would go too.
    """
    for path in folder.glob(f".{name}*.part"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def saying_disk_full(path: Path) -> Iterator[None]:
    """Turn "no space left" of any library into one clear refusal."""
    try:
        yield
    except Exception as error:
        if not _is_disk_full(error):
            raise
        raise DiskFull(_disk_full_sentence(path)) from error


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error).lower()
    return "no space left" in text or "os error 28" in text


def _disk_full_sentence(path: Path) -> str:
    try:
        free = f"{shutil.disk_usage(path.parent).free:,} bytes are free"
    except OSError:
        free = "its free space is unknown"
    return f"The disk is full while writing {path} ({free}); make room and run the command again, it continues."


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
        ArtifactNotFound  there is no such file.
        Damaged           it is not a JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"There is no file {path}.") from error
    except (ValueError, OSError, RecursionError) as error:
        raise Damaged(f"{path} is not readable JSON ({error}); restore it or make it again.") from error
    if not isinstance(value, dict):
        raise Damaged(f"{path} holds no JSON object; restore it or make it again.")
    return value


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    with replacing(path) as aside:
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, str(aside), metadata=dict(metadata or {}))


def read_tensors(path: Path, digest: str | None = None) -> dict[str, "Tensor"]:
    """Read a safetensors file, memory-mapped.

    Raises
        ArtifactNotFound  there is no such file.
        Damaged           it is not safetensors, or not the bytes that `digest` says.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise ArtifactNotFound(f"There is no file {path}.")
    if digest is not None and digest_file(path) != digest:
        raise Damaged(
            f"{path} is damaged: its bytes differ from the digest in its manifest; delete it and run the command again."
        )
    try:
        return load_file(str(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise Damaged(f"{path} is not a whole safetensors file ({error}); delete it and make it again.") from error


def check_request(what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Agree that an artefact was made from this very request.

    Raises
        RequestDiffers  naming each setting that differs.
    """
    found, wanted = plain(found), plain(wanted)
    names = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if names:
        told = ", ".join(f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}" for name in names)
        raise RequestDiffers(
            f"{what} was made with other settings: {told}. Use another --name, or --replace to make it again."
        )


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Be the only writer of a run folder. The lock goes with the process, so a killed holder leaves none.

    Raises
        Busy  another process holds it; the sentence names its host and process number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "an unknown process"
            raise Busy(f"{folder} is being written by {holder}; wait for it or stop it.") from error
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        try:
            yield
        finally:
            _remove_if_only_locked(folder)


def _remove_if_only_locked(folder: Path) -> None:
    """A run that was refused before it wrote anything leaves no folder behind."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [".lock"]:
            (folder / ".lock").unlink()
            folder.rmdir()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
