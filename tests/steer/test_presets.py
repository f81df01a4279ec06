import json

import pytest

from monoscope.core.errors import ArtifactNotFound, BadEdit, BadRequest, Damaged, RequestDiffers
from monoscope.steer.presets import Preset, delete_preset, list_presets, load_preset, save_preset

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
