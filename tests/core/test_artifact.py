import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.artifact import (
    check_request,
    digest_file,
    digest_of,
    holding,
    plain,
    read_json,
    read_tensors,
    replacing,
    staging,
    sweep,
    write_json,
    write_tensors,
)
from monoscope.core.errors import ArtifactNotFound, Busy, Damaged, DiskFull, RequestDiffers

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), _JSON, max_size=5))
def test_json_comes_back_and_its_digest_ignores_the_order_of_keys(value: dict) -> None:
    text = json.dumps(value)
    shuffled = dict(reversed(json.loads(text).items()))
    assert digest_of(value) == digest_of(shuffled)
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "a.json", value)
        assert read_json(Path(folder) / "a.json") == json.loads(text)


def test_known_digests(tmp_path: Path) -> None:
    # SHA-256 of the three letters "abc" and of the text {"a":[1,2]}.
    (tmp_path / "abc").write_text("abc")
    assert digest_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of({"a": (1, 2)}) == "01530d164d479cf08e26d3b1ad9bdba927120d97e2d057a6d792db778780d720"


def test_plain_makes_json_of_what_travels_between_rooms() -> None:
    assert plain({"path": Path("a/b"), "pair": (1, 2.5), 3: None}) == {"path": "a/b", "pair": [1, 2.5], "3": None}


def _leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith((".part", ".old")))


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError, match="own"), replacing(path) as aside:
        aside.write_text("half of the n")
        raise RuntimeError("our own")
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_an_error_while_filling_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "part"
    with staging(folder) as aside:
        (aside / "old").write_text("old")
    with pytest.raises(RuntimeError), staging(folder) as aside:
        (aside / "new").write_text("new")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["part"] and os.listdir(folder) == ["old"]
    with staging(folder) as aside:
        (aside / "new").write_text("new")
    assert os.listdir(tmp_path) == ["part"] and os.listdir(folder) == ["new"]


def test_a_folder_moved_away_by_a_killed_writer_is_put_back(tmp_path: Path) -> None:
    folder, old = tmp_path / "part", tmp_path / ".part.old"
    old.mkdir()
    (old / "kept").write_text("kept")
    with pytest.raises(RuntimeError), staging(folder):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["part"] and os.listdir(folder) == ["kept"]


def test_sweeping_takes_what_was_left_aside_only(tmp_path: Path) -> None:
    for name in (".a.json.x1.part", "a.json", ".lock", "b.part"):
        (tmp_path / name).write_text("")
    (tmp_path / ".text.x2.part").mkdir()
    sweep(tmp_path, "text.")
    assert (tmp_path / ".a.json.x1.part").exists() and not (tmp_path / ".text.x2.part").exists()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".lock", "a.json", "b.part"]


# --- damage


@pytest.fixture
def tensors(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    kept = {"x": torch.arange(300).view(20, 15).bfloat16(), "token": torch.arange(20, dtype=torch.int32)}
    write_tensors(tmp_path / "t.safetensors", kept)
    return tmp_path / "t.safetensors", kept


def test_tensors_come_back_to_the_bit(tensors: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, kept = tensors
    found = read_tensors(path, digest_file(path))
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) and found[name].dtype == kept[name].dtype for name in kept)


def test_the_same_tensors_make_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    # With one metadata key; the order of several is safetensors' own and differs from process to process.
    digests = set()
    for number in range(8):
        write_tensors(tmp_path / f"{number}", {"b": torch.ones(3), "a": torch.zeros(2)}, {"counts": "{}"})
        digests.add(digest_file(tmp_path / f"{number}"))
    assert len(digests) == 1


def test_every_truncation_is_refused(tensors: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, _ = tensors
    whole = path.read_bytes()
    digest = digest_file(path)
    for length in (0, 1, 7, 8, 9, 40, len(whole) // 2, len(whole) - 16, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            read_tensors(path)
        with pytest.raises(Damaged, match="digest"):
            read_tensors(path, digest)


def test_every_flipped_bit_is_refused_by_the_digest(tensors: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, _ = tensors
    whole, digest = path.read_bytes(), digest_file(path)
    for place in range(0, len(whole), 41):
        altered = bytearray(whole)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        with pytest.raises(Damaged):
            read_tensors(path, digest)


def test_json_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ArtifactNotFound):
        read_json(path)
    for text in (b"", b'{"a": 1', b"[1]", b"\xff\xfe", b"[" * 100_000, b"null"):
        path.write_bytes(text)
        with pytest.raises(Damaged, match="a.json"):
            read_json(path)


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="none.safetensors"):
        read_tensors(tmp_path / "none.safetensors")


def test_a_different_request_names_the_settings_that_differ() -> None:
    check_request("It", {"k": 4, "path": "a"}, {"k": 4, "path": Path("a")})
    with pytest.raises(RequestDiffers) as caught:
        check_request("It", {"k": 4, "seed": 0, "gone": 1}, {"k": 8, "seed": 0, "new": 2})
    told = str(caught.value)
    assert "k was 4 and is now 8" in told and "gone was 1" in told and "new was None and is now 2" in told
    assert "seed" not in told and "--replace" in told


# --- one writer


def test_a_second_process_is_told_who_writes(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from monoscope.core.artifact import holding\n"
        "with holding(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=rf"process {other.pid}\b"), holding(tmp_path):
            pass
        other.kill()
        other.wait()
    with holding(tmp_path):
        pass


# --- a full disk


_OPEN = os.open


class _FailingCalls:
    """Lets the nth call of any of the system's writing functions fail as a full disk does."""

    names = ((os, "fsync"), (os, "replace"), (os, "rename"), (os, "mkdir"), (os, "open"), (io, "open"))

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int) -> None:
        self.count, self._fail_at = 0, fail_at
        for module, name in self.names:
            monkeypatch.setattr(module, name, self._wrapped(getattr(module, name)))

    def _wrapped(self, function: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            reads = function is _OPEN and not args[1] & (os.O_WRONLY | os.O_RDWR)
            self.count += not reads
            if self.count == self._fail_at and not reads:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*args, **kwargs)

        return call


def _write_json(path: Path) -> None:
    write_json(path, {"new": list(range(100))})


def _write_tensors(path: Path) -> None:
    write_tensors(path, {"x": torch.ones(100)})


def _write_folder(path: Path) -> None:
    with staging(path) as aside:
        (aside / "a").write_text("new")
        write_json(aside / "b.json", {"new": 1})


def _content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("write", [_write_json, _write_tensors, _write_folder])
def test_wherever_the_disk_fills_up_the_old_or_the_new_stands_whole(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / "whole")
    new = _content(tmp_path / "whole")
    for fail_at in range(1, 100):
        place = tmp_path / f"at{fail_at}"
        place.mkdir()
        path = place / "it"
        if write is _write_folder:
            path.mkdir()
            (path / "old").write_text("old")
        else:
            path.write_text("old")
        old = _content(path)
        full = ""
        with pytest.MonkeyPatch.context() as patch:
            calls = _FailingCalls(patch, fail_at)
            try:
                write(path)
            except DiskFull as error:
                full = str(error)
        assert os.listdir(place) == ["it"]
        assert _content(path) in ((old, new) if full else (new,))  # to fail to make a folder that is there is no harm
        assert not full or (str(place) in full and "make room" in full)
        if calls.count < fail_at:
            break
    assert 3 < fail_at < 99
    assert _content(path) == new


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 256 KiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield place if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path | None, tmp_path: Path) -> None:
    if tiny_disk is None:
        # No right to mount: the device that is always full stands in for the disk.
        with pytest.raises(DiskFull), replacing(tmp_path / "a"), Path("/dev/full").open("wb") as stream:
            stream.write(b"x" * 100_000)
        return
    write_tensors(tiny_disk / "a.safetensors", {"x": torch.ones(10)})
    for size in (100_000, 1_000_000):
        with pytest.raises(DiskFull, match="bytes are free"):
            write_tensors(tiny_disk / "a.safetensors", {"x": torch.ones(size)})
    with pytest.raises(DiskFull):
        write_json(tiny_disk / "b.json", ["long"] * 100_000)
    with pytest.raises(DiskFull), staging(tiny_disk / "folder") as aside:
        (aside / "a").write_bytes(b"x" * 1_000_000)
    assert os.listdir(tiny_disk) == ["a.safetensors"]
    assert torch.equal(read_tensors(tiny_disk / "a.safetensors")["x"], torch.ones(10))
    write_json(tiny_disk / "b.json", {"room": "again"})
