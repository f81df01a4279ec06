import json
import shutil

import pytest

from monoscope.cli import run_command
from monoscope.core.errors import ArtifactNotFound, BadEdit, BadRequest, Damaged, RequestDiffers
from monoscope.dictionary.shelf import dictionary_digest
from monoscope.steer.presets import Preset, delete_preset, list_presets, load_preset, read_preset, save_preset

GATE = Preset("golden-gate", "main", "d1", ("8011 add 0.4r", "7449  ablate @ last"), "a bridge")


def test_saved_presets_come_back(tmp_path):
    assert list_presets(tmp_path) == []
    save_preset(tmp_path, GATE)
    save_preset(tmp_path, Preset("a.b_c", "main", "d1", ("1 ablate",)))
    assert list_presets(tmp_path) == ["a.b_c", "golden-gate"]
    assert load_preset(tmp_path, "golden-gate") == GATE
    assert load_preset(tmp_path, "golden-gate", dictionary_digest="d1").edits == ("8011 add 0.4r", "7449 ablate @last")
    with pytest.raises(RequestDiffers, match="main"):
        load_preset(tmp_path, "golden-gate", dictionary_digest="d2")
    delete_preset(tmp_path, "golden-gate")
    assert list_presets(tmp_path) == ["a.b_c"]


def test_the_bytes_of_version_one(tmp_path):
    path = save_preset(tmp_path, GATE)
    assert path == tmp_path / "presets" / "golden-gate.json"
    assert json.loads(path.read_text()) == {
        "version": 1,
        "name": "golden-gate",
        "dictionary": "main",
        "dictionary_digest": "d1",
        "edits": ["8011 add 0.4r", "7449 ablate @last"],
        "note": "a bridge",
    }


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\n", "x" * 65, "a\\b", "é", "a\0"]
)
def test_names_that_are_no_plain_file_names_are_refused(tmp_path, name):
    with pytest.raises(BadRequest):
        Preset(name, "main", "d", ("1 ablate",))
    for action in (load_preset, delete_preset):
        with pytest.raises(BadRequest):
            action(tmp_path, name)


def test_missing_and_senseless_presets(tmp_path):
    for action in (load_preset, delete_preset):
        with pytest.raises(ArtifactNotFound, match="none"):
            action(tmp_path, "nothing")
    with pytest.raises(BadRequest):
        Preset("a", "main", "d", ())
    with pytest.raises(BadRequest):
        Preset("a", "main", "d", ("1 ablate",) * 65)
    with pytest.raises(BadRequest):
        Preset("a", "main", "d", ("1 ablate",), "n" * 2001)
    with pytest.raises(BadEdit):
        Preset("a", "main", "d", ("1 explode",))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"edits": "1 ablate"},
        {"edits": [5]},
        {"edits": ["1 explode"]},
        {"edits": []},
        {"note": None},
        {"name": "other"},
    ],
)
def test_altered_files_are_damaged(tmp_path, change):
    path = save_preset(tmp_path, GATE)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(Damaged, match=r"golden-gate\.json"):
        load_preset(tmp_path, "golden-gate")


def test_truncated_files_are_damaged(tmp_path):
    path = save_preset(tmp_path, GATE)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(Damaged):
        load_preset(tmp_path, "golden-gate")


def test_edits_do_not_name_their_dictionary(tmp_path):
    kept = Preset("a", "main", "d1", ("main/5 add 1", "5 clamp 2x if main/7 > 1", "main/5 ablate if 7 > 0"))
    assert kept.edits == ("5 add 1", "5 clamp 2x if 7 > 1", "5 ablate if 7 > 0")
    for edit in ("fine/5 add 1", "5 add 1 if fine/7 > 1", "main/5 add 1 if fine/7 > 1"):
        with pytest.raises(BadEdit, match="fine"):
            Preset("a", "main", "d1", (edit,))


def test_a_file_that_somebody_sent(tmp_path):
    path = save_preset(tmp_path, GATE).rename(tmp_path / "sent.txt")
    assert read_preset(path) == GATE
    path.write_text(json.dumps({**GATE.to_json(), "note": "n" * (1 << 20)}))
    with pytest.raises(Damaged, match="at most 1,048,576"):
        read_preset(path)
    for text in ("", "[]", "{}", '{"version": 1}', "\x00"):
        path.write_text(text)
        with pytest.raises(Damaged, match=r"sent\.txt"):
            read_preset(path)
    for nothing in (tmp_path / "none.json", tmp_path):
        with pytest.raises((ArtifactNotFound, Damaged), match=str(nothing)):
            read_preset(nothing)


@pytest.fixture
def there(toy_trained, tmp_path):
    """Another run, which has the dictionary under a name of its own."""
    shutil.copytree(toy_trained.folder, tmp_path / "there" / "dictionaries" / "mine")
    return tmp_path / "there"


def sent(folder, preset):
    path = folder / "sent.json"
    path.write_text(json.dumps(preset.to_json()))
    return path


def told(capsys, *words):
    """The exit status, what came as JSON, and the sentence."""
    status = run_command([*map(str, words), "--json"])
    found = capsys.readouterr()
    return status, json.loads(found.out or "null"), found.err


def test_a_preset_goes_from_run_to_run(toy_trained, there, tmp_path, capsys):
    here = tmp_path / "here"
    shutil.copytree(toy_trained.folder, here / "dictionaries" / "toy")
    words = ("--edit", "toy/3 add 0.4r", "--edit", "5 ablate if toy/3 > 1", "--note", "for you")
    assert told(capsys, "preset", here, "save", "calm", *words)[0] == 0
    status, shown, _ = told(capsys, "preset", here, "show", "calm")
    assert status == 0 and shown == json.loads((here / "presets" / "calm.json").read_text())
    path = tmp_path / "sent.json"
    path.write_text(json.dumps(shown))
    status, kept, _ = told(capsys, "preset", there, "save", "quiet", "--from", path)
    assert status == 0
    assert kept == {**shown, "name": "quiet", "dictionary": "mine"}
    assert told(capsys, "preset", there, "save", "calm", "--from", path, "--note", "mine")[1]["note"] == "mine"
    assert list_presets(there) == ["calm", "quiet"]
    assert json.loads((there / "run.json").read_text())["presets"] == ["calm", "quiet"]


def test_a_preset_of_another_dictionary_is_refused(there, tmp_path, capsys):
    path = sent(tmp_path, Preset("calm", "mine", "of another training", ("3 add 1",)))
    for flags in ((), ("--name", "mine")):
        status, _, sentence = told(capsys, "preset", there, "save", "calm", "--from", path, *flags)
        assert status == 1 and "feature numbers mean something else" in sentence
    assert list_presets(there) == []


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("save", "calm", "--from", "FILE"), 1, "0 to 95"),
        (("save", "calm", "--from", "none.json"), 1, "none.json"),
        (("save", "calm", "--from", "FILE", "--edit", "1 ablate"), 2, "without --edit"),
        (("show", "calm", "--from", "FILE"), 2, "goes with save"),
        (("save", "../calm", "--from", "FILE"), 2, "../calm"),
        (("save", "calm", "--from", "FILE", "--name", "toy"), 1, "'toy'"),
        (("save", "--from", "FILE"), 2, "Which preset"),
    ],
)
def test_presets_that_cannot_be_taken(words, status, says, there, tmp_path, capsys):
    digest = dictionary_digest(there / "dictionaries" / "mine")
    path = sent(tmp_path, Preset("calm", "main", digest, ("3 ablate", "999 ablate")))
    found = told(capsys, "preset", there, *[path if word == "FILE" else word for word in words])
    assert found[0] == status and says in found[2] and len(found[2].splitlines()) == 1
    assert list_presets(there) == []
