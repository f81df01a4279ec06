import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import Ambiguous, ArtifactNotFound, BadRequest
from monoscope.core.run import Run, checked_name, name_from


def _add(run: Run, part: str, name: str, whole: str) -> None:
    folder = run.path / part / name
    folder.mkdir(parents=True)
    (folder / whole).write_text("{}")


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "a..b", "x" * 101, "a b", "a\n"])
def test_a_name_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(BadRequest):
        checked_name(name)


@given(st.text())
def test_a_name_made_from_any_source_is_sound(text: str) -> None:
    assert checked_name(name_from(text)) == name_from(text)


def test_names_made_from_sources() -> None:
    assert name_from("wiki-en=0.6,python-stdlib=0.4") == "wiki-en-0-6-python-stdlib-0-4"
    assert name_from("///") == "text"


def test_where_parts_lie() -> None:
    run = Run(Path("r"))
    assert run.text("toy") == Path("r/text/toy")
    assert run.activations("resid_post.2@toy") == Path("r/activations/resid_post.2@toy")
    assert run.dictionary("d") == Path("r/dictionaries/d")
    with pytest.raises(BadRequest):
        run.activations("resid_post.2@../toy")


def test_a_missing_run_and_a_missing_part_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="no run folder"):
        Run(tmp_path / "none").choose_dictionary(None)
    with pytest.raises(ArtifactNotFound, match="monoscope train"):
        Run(tmp_path).choose_dictionary(None)
    _add(Run(tmp_path), "dictionaries", "a", "monoscope.json")
    with pytest.raises(ArtifactNotFound, match="there are a"):
        Run(tmp_path).choose_dictionary("b")


def test_one_is_chosen_and_several_are_never_guessed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    _add(run, "dictionaries", "a", "monoscope.json")
    (tmp_path / "dictionaries" / "unfinished").mkdir()
    _add(run, "dictionaries", ".b.part", "monoscope.json")
    assert run.choose_dictionary(None) == "a"
    _add(run, "dictionaries", "c", "monoscope.json")
    with pytest.raises(Ambiguous, match="a, c.*--name"):
        run.choose_dictionary(None)
    assert run.choose_dictionary("c") == "c"


def test_the_index_lists_what_is_whole(tmp_path: Path) -> None:
    run = Run(tmp_path)
    _add(run, "text", "toy", "manifest.json")
    _add(run, "activations", "resid_post.2@toy", "manifest.json")
    run.presets.mkdir()
    (run.presets / "calm.json").write_text("{}")
    run.write_index()
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["text"] == ["toy"] and found["activations"] == ["resid_post.2@toy"]
    assert found["dictionaries"] == [] and found["presets"] == ["calm"]


def test_forgetting_removes_a_part_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("a", "b"):
        _add(run, "dictionaries", name, "monoscope.json")
    run.forget(run.dictionary("a"))
    assert run.names("dictionaries", "monoscope.json") == ["b"]
