"""The commands on a run: kept records, what other commands make of them, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from monoscope.atlas.query import Atlas
from monoscope.cli import run_command
from monoscope.effect.kept import DEFAULT_STRENGTH, default_edits, recommended_edit, with_doses
from monoscope.serve.controls import controls_of
from monoscope.serve.library import Library


@pytest.fixture
def prompts(tmp_path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"text": "Tell me a story."}\n{"messages": [{"role": "user", "content": "Describe a place."}]}\n')
    return path


@pytest.fixture
def asks(capsys):
    """Run a command; what it prints with --json, or with `refused` its exit status and sentence."""

    def ask(*words: object) -> dict[str, Any]:
        assert run_command([*map(str, words), "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return ask


@pytest.fixture
def refused(capsys):
    def ask(*words: object) -> tuple[int, str]:
        status = run_command([*map(str, words)])
        return status, " ".join(capsys.readouterr().err.split())

    return ask


def test_a_dose_is_kept_told_again_and_used(run, planted, prompts, asks, capsys):
    feature = planted.numbers["music"]
    words = ("dose", run.path, feature, "--prompts", prompts)
    first = asks(*words)
    assert {"grid", "recommended", "methods", "words", "baseline"} <= set(first)
    assert not first["skipped"] and first["recommended"] is not None
    again = asks(*words)
    assert again.pop("skipped") is True
    assert again == {key: value for key, value in first.items() if key != "skipped"}
    shown = asks("show", run.path, feature)
    assert shown["dose"] == first["recommended"] and shown["output_score"] is None
    rows = controls_of(Library(run.path), "planted", preset=None, add=[feature, feature + 1], edits=[])
    assert [row.strength for row in rows] == [first["recommended"]["strength"], DEFAULT_STRENGTH]
    steered = asks("steer", run.path, "--prompt", "The fox", "--edit", feature, "--max-tokens", 4)
    assert [one["edit"] for one in steered["edits"]] == [first["recommended"]["edit"]]
    assert run_command([*map(str, words)]) == 0
    told = capsys.readouterr().out
    assert "difference of means" in told and first["recommended"]["edit"] in told
    assert not asks(*words, "--seed", 1)["skipped"]


def test_what_is_not_to_be_dosed(run, planted, refused, prompts):
    status, told = refused("dose", run.path, planted.numbers["dead"])
    assert status == 1 and "never fires" in told
    status, told = refused("dose", run.path, 999)
    assert status == 1 and "has no feature 999" in told
    status, told = refused("dose", run.path, 7, "--mode", "scale")
    assert status == 2 and "add or clamp" in told
    status, told = refused("dose", run.path, 7, "--prompts", prompts.with_name("none.jsonl"))
    assert status == 1 and "none.jsonl" in told
    about = run.dictionary("planted") / "monoscope.json"
    about.write_text(about.read_text().replace('"target": "resid_post.1"', '"target": "resid_post.2"'))
    status, told = refused("dose", run.path, 7)
    assert status == 2 and "transcoder" in told


def test_the_kept_dose_is_the_strength_to_begin_with(run):
    atlas = Atlas.open(run.atlas("planted"))
    atlas.desk.dose(3, {"recommended": {"edit": "3 clamp 0.25r"}})
    atlas.desk.dose(4, {"recommended": None})
    atlas.desk.dose(5, {"recommended": [0.1, 0.4]})
    assert default_edits(atlas.desk, [3, 4, 5, 6]) == ["3 clamp 0.25r", "4 add 0.4r", "5 add 0.4r", "6 add 0.4r"]
    assert with_doses(atlas.desk, ("3", " 6 ", "3 add 1")) == ("3 clamp 0.25r", "6 add 0.4r", "3 add 1")
    assert recommended_edit({"recommended": {"edit": "nonsense"}}) is None
    assert recommended_edit(None) is None


def test_what_an_edit_costs(run, planted, asks, refused, capsys):
    feature = planted.numbers["music"]
    found = asks("cost", run.path, "--edit", f"{feature} add 0.5r")
    assert found["edits"] == [f"{feature} add 0.5r"]
    by_name = {one["name"]: one for one in found["battery"]}
    assert by_name["perplexity"]["low"] > 0
    assert {"plain", "edited", "difference", "low", "high", "items"} <= set(by_name["cloze"])
    status, told = refused("cost", run.path)
    assert status == 2 and "no edit" in told
    status, told = refused("cost", run.path, "--edit", "music")
    assert status == 2


def test_which_features_can_steer(run, planted, asks, refused, capsys):
    status, told = refused("search", run.path, "violin", "--rank", "output")
    assert status == 1 and "monoscope steerable" in told
    assert refused("search", run.path, "violin", "--rank", "loudness")[0] == 2
    found = asks("steerable", run.path, "--limit", 5)
    assert found["features"] == 24 and not found["skipped"]
    scores = [one["output_score"] for one in found["results"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 5
    assert asks("steerable", run.path)["skipped"]
    assert asks("show", run.path, found["results"][0]["feature"])["output_score"] == scores[0]
    plain = asks("search", run.path, "violin", "--limit", 3)
    ranked = asks("search", run.path, "violin", "--rank", "output", "--limit", 3)
    assert set(ranked["results"][0]) == set(plain["results"][0])
    said = [float(hit["why"].split("output score ")[1]) for hit in ranked["results"]]
    assert said == sorted(said, reverse=True)
    assert refused("steerable", run.path, "--limit", 0)[0] == 2
    assert run_command(["steerable", str(run.path)]) == 0
    assert "24 features scored" in capsys.readouterr().out
