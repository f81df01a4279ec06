"""The command: what it prints, where it writes, and what it refuses."""

import json
import shutil

import pytest

from monoscope.cli import run_command
from monoscope.core.errors import Damaged
from monoscope.core.run import Run
from monoscope.exporting import export
from monoscope.porch import export as exports
from monoscope.porch.export import FORMATS, export_atlas


def told(capsys) -> tuple[str, str]:
    found = capsys.readouterr()
    return found.out, " ".join(found.err.split())


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_written_and_read_back(planted, tmp_path, capsys, form):
    words = [
        "export",
        str(planted.run.path),
        "--format",
        form,
        "--out",
        str(tmp_path / "out"),
        "--limit",
        "2",
        "--json",
    ]
    assert run_command(words) == 0
    found = json.loads(told(capsys)[0])
    assert {"format", "out", "features", "files", "bytes", "checked", "max_error"} <= set(found)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert (found["format"], found["features"], found["checked"]) == (form, 2, True)
    assert found["files"] == len(written)
    assert found["bytes"] == sum(path.stat().st_size for path in written)
    assert 0 <= found["max_error"] < 0.001
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (about["format"], about["version"], about["as"], about["features"]) == ("monoscope.export", 1, form, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_features_are_those_named_in_their_order(planted, tmp_path, capsys):
    words = ["export", str(planted.run.path), "--format", "parquet", "--out", str(tmp_path / "out")]
    assert run_command([*words, "--features", "5,2,5"]) == 0
    assert "2 features as parquet" in told(capsys)[0]


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (
            ["--format", "csv"],
            2,
            "--format 'csv' is not known; choose neuronpedia, neuronpedia-batch, parquet, static.",
        ),
        (["--format", "static", "--features", "99999"], 1, "has no feature 99999"),
        (["--format", "static", "--features", "1,x"], 2, "--features '1,x' is not understood"),
        (["--format", "static", "--features", ","], 2, "--features names no feature"),
        (["--format", "static", "--limit", "0"], 2, "--limit 0 must be at least 1."),
        (["--format", "static", "--name", "other"], 1, "no atlas named 'other'"),
    ],
)
def test_what_makes_no_sense_is_refused_and_writes_nothing(planted, tmp_path, capsys, words, status, sentence):
    assert run_command(["export", str(planted.run.path), "--out", str(tmp_path / "out"), *words]) == status
    out, err = told(capsys)
    assert sentence in err and not out
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_kept_unless_told(planted, tmp_path, capsys):
    place = tmp_path / "out"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    words = ["export", str(planted.run.path), "--format", "parquet", "--out", str(place), "--limit", "1"]
    assert run_command(words) == 2
    assert f"{place} is not empty" in told(capsys)[1]
    assert (place / "mine.txt").read_text() == "mine"
    assert run_command([*words, "--replace"]) == 0
    assert not (place / "mine.txt").exists() and (place / "features.parquet").exists()


def test_an_empty_folder_is_filled(planted, tmp_path):
    (tmp_path / "out").mkdir()
    assert export(planted.run, format="parquet", out=tmp_path / "out", limit=1)["features"] == 1


def test_nothing_dear_is_replaced(planted, tmp_path, monkeypatch, capsys):
    (tmp_path / "work" / "site" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    run = shutil.copytree(planted.run.path, tmp_path / "work" / "run")
    for place in (tmp_path, tmp_path / "work", tmp_path / "work" / "site", run, run / "atlas", tmp_path / "work/run/x"):
        words = ["export", str(run), "--format", "parquet", "--out", str(place), "--limit", "1", "--replace"]
        assert run_command(words) == 2, place
        assert "choose " in told(capsys)[1]
    assert (run / "atlas" / "planted" / "manifest.json").is_file()
    assert export(Run(run), format="parquet", out=run / "exports" / "tables", limit=1)["features"] == 1


def test_a_file_in_the_way_is_refused(planted, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    words = ["export", str(planted.run.path), "--format", "parquet", "--out", str(tmp_path / "out"), "--replace"]
    assert run_command(words) == 2
    assert "is a file" in told(capsys)[1]


def test_an_export_that_fails_leaves_the_old_one(origin, tmp_path, monkeypatch):
    export_atlas(origin, "parquet", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fails(folder, origin, progress):
        (folder / "half").write_text("half")
        raise Damaged("half")

    monkeypatch.setitem(exports.FORMATS, "parquet", fails)
    with pytest.raises(Damaged):
        export_atlas(origin, "parquet", tmp_path / "out", replace=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_dictionary_under_the_name_is_refused(planted, tmp_path, capsys):
    run = shutil.copytree(planted.run.path, tmp_path / "run")
    about = run / "dictionaries" / "planted" / "monoscope.json"
    about.write_text(about.read_text().replace('"cfg.json": "', '"cfg.json": "0'))
    words = ["export", str(run), "--out", str(tmp_path / "out"), "--limit", "1", "--format"]
    assert run_command([*words, "neuronpedia"]) == 1
    assert "is not the one its atlas was built from" in told(capsys)[1]
    assert run_command([*words, "static"]) == 0
    shutil.rmtree(run / "dictionaries")
    assert run_command([*words, "neuronpedia", "--replace"]) == 0
