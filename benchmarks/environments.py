"""Other people's tools, each in a virtual environment of its own: what they depend on does not agree."""

import hashlib
import importlib.metadata
import subprocess
import sys
import venv
from pathlib import Path

from common import HERE, bench_cache, say

from monoscope.core.artifact import holding
from monoscope.core.errors import Busy

_PIP_SECONDS = 1800


class PeerMissing(Exception):
    """A tool that cannot be installed or does not start here; the message is the reason."""


def environment(name: str, module: str) -> Path:
    """The Python of the environment that `peers/NAME.txt` describes, made where it is not there yet.

    torch comes first, alone, from whatever index the user's pip has; the rest without dependencies, so that exactly
    the listed versions are there.

    Raises
        PeerMissing  with pip's last words, or why `module` cannot be imported.
    """
    wanted = (HERE / "peers" / f"{name}.txt").read_text()
    digest = hashlib.sha256((wanted + sys.version).encode()).hexdigest()[:12]
    folder = bench_cache() / f"{name}-{digest}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.is_file():
        return python
    say(f"making an environment for {name} (some minutes, once)")
    try:
        with holding(folder):
            _make(folder, wanted, module)
    except Busy as error:
        raise PeerMissing(str(error)) from error
    return python


def _make(folder: Path, wanted: str, module: str) -> None:
    python = folder / "bin" / "python"
    try:
        if not python.is_file():
            venv.create(folder, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerMissing(f"no virtual environment: {error}") from error
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    torch = [line for line in lines if line.startswith("torch==")]
    rest = folder / "requirements.txt"
    rest.write_text("".join(f"{line}\n" for line in lines if line not in torch))
    _run([python, "-m", "pip", "install", "-q", *torch])
    _run([python, "-m", "pip", "install", "-q", "--no-deps", "-r", rest])
    _run([python, "-c", f"import {module}"])
    (folder / ".ready").touch()


def _run(command: list[str | Path]) -> None:
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=_PIP_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissing(str(error)) from error
    if done.returncode:
        raise PeerMissing(last_line(done.stderr) or f"exit {done.returncode}")


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def pinned(name: str, package: str) -> str:
    """The version of a package that `peers/NAME.txt` asks for."""
    for line in (HERE / "peers" / f"{name}.txt").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.partition("==")[2]
    return importlib.metadata.version(package)
