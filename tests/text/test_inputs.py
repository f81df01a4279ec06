from pathlib import Path

from monoscope.text.inputs import inputs_of


def test_a_changed_file_has_another_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = inputs_of(str(path))
    path.write_text("two")
    assert inputs_of(str(path)) != before
    path.write_text("one")
    assert inputs_of(str(path)) == before


def test_the_same_files_elsewhere_have_the_same_mark(tmp_path: Path) -> None:
    marks = set()
    for folder in ("one", "two"):
        (tmp_path / folder / "texts").mkdir(parents=True)
        (tmp_path / folder / "texts" / "a.txt").write_text("words")
        marks |= set(inputs_of(str(tmp_path / folder / "texts")).values())
    assert len(marks) == 1


def test_the_end_of_a_large_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    marks = set()
    for end in "ab":
        path.write_text("x" * 3_000_000 + end)
        marks |= set(inputs_of(str(path)).values())
    assert len(marks) == 2


def test_known_sources() -> None:
    marks = inputs_of("demo")
    assert marks["wiki-en"].startswith("sha256:")
    assert marks["python-stdlib"].startswith("python 3.")
    assert inputs_of("toy") == {}
