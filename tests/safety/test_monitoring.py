"""The commands on a toy run: contrast, and monitors fitted, asked and reported on."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from monoscope.atlas.query import Atlas
from monoscope.cli import run_command
from monoscope.core.run import Run
from monoscope.safety.examples import Example

from .conftest import CONCEPT, about, talk_of, words_of, write_texts

FIGURES = {"auroc", "fpr", "tpr", "threshold", "features", "baselines"}  # what the design promises


def benign(count: int, seed: int) -> list[Example]:
    stream = np.random.default_rng(seed)
    return [Example(f"b{i}", False, about(words_of(CONCEPT)[1], stream), group=f"b{i}") for i in range(count)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, Path]:
    """Files of texts that fit, of others that judge, and benign ones."""
    folder = tmp_path_factory.mktemp("texts")
    sets = {"": talk_of(groups=12), "other_": talk_of(groups=10, seed=9)}
    found = {
        f"{name}{label}": write_texts(
            folder / f"{name}{label}.jsonl", [one for one in some if one.positive == (label == "positive")]
        )
        for name, some in sets.items()
        for label in ("positive", "negative")
    }
    found["benign"] = write_texts(folder / "benign.jsonl", benign(60, 1))
    found["later"] = write_texts(folder / "later.jsonl", benign(200, 2))
    return found


@pytest.fixture
def place(planted) -> Path:
    """The shared run, which no command here writes to but for its progress."""
    return planted.folder


@pytest.fixture
def asks(capsys):
    def ask(*words: object) -> dict[str, Any]:
        assert run_command([*map(str, words), "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return ask


@pytest.fixture
def refused(capsys):
    """Exit status and sentence of a command that is refused; nothing goes to stdout."""

    def ask(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        status = run_command([*map(str, words)])
        told = capsys.readouterr()
        assert status != 0
        assert told.out == ""
        assert "Traceback" not in told.err
        return status, " ".join(told.err.split())

    return ask


def both(texts: dict[str, Path], name: str = "") -> tuple[object, ...]:
    return "--positive", texts[f"{name}positive"], "--negative", texts[f"{name}negative"]


@pytest.fixture(scope="module")
def fitted(planted, texts, tmp_path_factory) -> dict[str, Any]:
    """A readable monitor fitted through the command line, what the command told, and where it lies."""
    out = tmp_path_factory.mktemp("monitors") / CONCEPT / f"{CONCEPT}.json"
    told = io.StringIO()
    words = ("monitor", "fit", planted.folder, *both(texts), "--out", out, "--benign", texts["benign"], "--fpr", 0.05)
    with contextlib.redirect_stdout(told):
        assert run_command([*map(str, words), "--json"]) == 0
    return {**json.loads(told.getvalue()), "path": out}


def test_fit_tells_its_figures_beside_the_rivals(fitted, planted) -> None:
    assert set(fitted) >= FIGURES
    assert fitted["features"][0]["feature"] == planted.numbers[CONCEPT]
    assert set(fitted["features"][0]) == {"feature", "weight", "label"}
    assert fitted["features"][0]["label"]
    assert fitted["auroc"] > 0.95
    assert fitted["auroc_interval"]["low"] <= fitted["auroc"] <= fitted["auroc_interval"]["high"]
    assert fitted["tpr_interval"][0] <= fitted["tpr"] <= fitted["tpr_interval"][1]
    assert fitted["fpr_interval"][0] <= fitted["fpr"] <= fitted["fpr_interval"][1]
    assert {"linear_probe", "bag_of_words", "random_feature"} <= set(fitted["baselines"])
    assert fitted["calibrated_on"] == "the 60 texts of benign.jsonl"
    assert (fitted["stated_fpr"], fitted["kind"], fitted["fitted_on"], fitted["texts"]) == (
        0.05,
        "features",
        24,
        [6, 6],
    )


def test_score_flags_the_concept_and_says_why(fitted, place, texts, planted, asks) -> None:
    found = asks("monitor", "score", place, "--monitor", fitted["path"], "--input", texts["other_positive"])
    assert found["flagged"] > 0.8 * len(found["texts"]) == 16
    for row in found["texts"]:
        assert {"id", "score", "flagged", "tokens"} <= set(row)
        assert row["flagged"] == (row["score"] > found["threshold"][0])
        scores = [score for _, score in row["tokens"]]
        assert row["score"] == pytest.approx(max(scores[min(15, len(scores) - 1) :]), abs=1e-4), "from the sixteenth on"
        if row["flagged"]:
            assert scores[row["first_token"]] > found["threshold"][0]
            assert all(
                score <= found["threshold"][0] for score in scores[min(15, len(scores) - 1) : row["first_token"]]
            )
            assert row["why"][0][0] == planted.numbers[CONCEPT]
        else:
            assert row["first_token"] is None
    short = asks("monitor", "score", place, "--monitor", fitted["path"], "--input", texts["benign"], "--no-tokens")
    assert "tokens" not in short["texts"][0]


def test_the_threshold_holds_on_later_benign_texts(fitted, place, texts, asks) -> None:
    """Of 200 texts of the same kind at most so many cross as a rate of 5 % and the luck of 60 calibration texts allow:
    the rate of a conformal threshold follows a beta law."""
    found = asks("monitor", "score", place, "--monitor", fitted["path"], "--input", texts["later"], "--no-tokens")
    assert found["flagged"] <= stats.betabinom.ppf(0.999, 200, 3, 58)


def test_report_on_texts_of_another_source(fitted, place, texts, asks) -> None:
    found = asks("monitor", "report", place, "--monitor", fitted["path"], *both(texts, "other_"))
    assert set(found) >= FIGURES
    assert found["auroc"] > 0.95
    assert found["texts"] == [20, 20]
    assert found["threshold"] == pytest.approx(fitted["threshold"])
    assert found["monitor"] == CONCEPT
    assert set(found["drift"]) == {"distance", "p", "moved"}
    assert found["baselines"]["linear_probe"] > 0.9
    assert set(found["tpr_at_fpr"]) == {"0.01", "0.05"}


def test_the_shares_told_explain_the_score_told(fitted, place, tmp_path, asks) -> None:
    """An alarm early in a text that goes on about other things is explained by what was there when it was raised."""
    storm = " ".join(["The storm sees the snow."] * 4)
    path = write_texts(
        tmp_path / "t.jsonl", [Example("t", False, f"{storm} {' '.join(['The king has a bank.'] * 20)}")]
    )
    row = asks("monitor", "score", place, "--monitor", fitted["path"], "--input", path)["texts"][0]
    bias = json.loads(fitted["path"].read_text())["bias"]
    assert row["first_token"] < 24
    assert sum(share for _, share in row["why"]) + bias == pytest.approx(row["score"], abs=1e-3)


def test_contrast_finds_and_proves_the_planted_feature(run, texts, planted, asks) -> None:
    found = asks("contrast", run.path, *both(texts), "--limit", 4, "--save", "about weather")
    assert set(found) >= {"results", "baselines"}
    assert {"feature", "label", "auroc_heldout", "direction", "ablation_effect"} <= set(found["results"][0])
    assert {"linear_probe", "bag_of_words", "random_feature"} <= set(found["baselines"])
    best = found["results"][0]
    assert best["feature"] == planted.numbers[CONCEPT]
    assert best["ablation_effect"] < 0 < best["effects"]["amplified"]["value"]
    assert len(found["results"]) == 4
    atlas = Atlas.open(run.atlas("planted"))
    assert atlas.desk.lists()["about weather"] == [row["feature"] for row in found["results"]]
    atlas.close()
    again = asks("contrast", run.path, *both(texts), "--limit", 4, "--no-causal")
    assert [row["feature"] for row in again["results"]] == [row["feature"] for row in found["results"]]
    assert again["results"][0]["ablation_effect"] is None


@pytest.mark.parametrize("kind", ["probe", "both"])
def test_dense_monitors_go_the_same_way(place, texts, tmp_path, asks, kind: str) -> None:
    out = tmp_path / f"{kind}.json"
    words = ("--kind", kind, "--fpr", 0.2, "--statistic", "rolling", "--window", 8)
    found = asks("monitor", "fit", place, *both(texts), "--out", out, *words)
    assert found["auroc"] > 0.9
    assert found["calibrated_on"] == "6 negatives that fitted nothing"
    scored = asks("monitor", "score", place, "--monitor", out, "--input", texts["other_positive"], "--no-tokens")
    assert scored["flagged"] > 10


def test_too_few_negatives_fall_back_to_the_text_of_the_run_and_say_so(place, texts, tmp_path, asks) -> None:
    found = asks("monitor", "fit", place, *both(texts), "--out", tmp_path / "m.json", "--fpr", 0.05)
    count, rest = found["calibrated_on"].split(" ", 1)
    assert rest == "pieces of the run's held-out text"
    assert int(count) >= 19


def test_rules_are_scored_and_reported_each_for_itself(place, texts, planted, tmp_path, asks, capsys) -> None:
    path = tmp_path / "rules.json"
    rules = [
        {"name": "weather", "feature": planted.numbers[CONCEPT], "threshold": "0.3x"},
        {"name": "music", "feature": planted.numbers["music"], "threshold": "0.3x"},
    ]
    path.write_text(json.dumps({"version": 1, "rules": rules}))
    found = asks("monitor", "score", place, "--monitor", path, "--input", texts["other_positive"], "--no-tokens")
    assert found["flagged"] > 16
    assert [[verdict["monitor"] for verdict in row["rules"]] for row in found["texts"]][0] == ["weather", "music"]
    assert all(row["monitor"] == "weather" for row in found["texts"] if row["flagged"])
    told = asks("monitor", "report", place, "--monitor", path, *both(texts, "other_"))
    assert [each["monitor"] for each in told["monitors"]] == ["weather", "music"]
    assert told["auroc"] > 0.9 > told["monitors"][1]["auroc"]
    assert told["stated_fpr"] is None
    assert run_command(["monitor", "report", str(place), "--monitor", str(path), *map(str, both(texts, "other_"))]) == 0
    shown = capsys.readouterr().out
    assert shown.count("AUROC") == 2
    assert "drift" not in shown, "a threshold that somebody wrote has no texts to drift from"


def test_what_people_read(fitted, place, texts, capsys) -> None:
    def shown(*words: object) -> str:
        capsys.readouterr()
        assert run_command([*map(str, words)]) == 0
        return capsys.readouterr().out

    told = shown("monitor", "report", place, "--monitor", fitted["path"], *both(texts, "other_"))
    for part in ("AUROC", "hits", "false alarms", "set for 5.00% on the 60 texts of benign.jsonl", "bag of words"):
        assert part in told
    told = shown("monitor", "score", place, "--monitor", fitted["path"], "--input", texts["other_positive"])
    assert "FLAG" in told
    assert "of 20 flagged" in told
    told = shown("contrast", place, *both(texts), "--limit", 3, "--no-causal")
    assert "dense linear probe" in told
    assert "proved on 12 + 12 others" in told


def test_files_that_will_not_do(place, texts, tmp_path, refused) -> None:
    one = write_texts(tmp_path / "one.jsonl", benign(1, 3))
    three = write_texts(tmp_path / "three.jsonl", benign(3, 3))
    out = ("--out", tmp_path / "m.json")
    pair = ("--positive", one, "--negative", texts["negative"])
    for command in (("contrast", place, *pair), ("monitor", "fit", place, *pair, *out)):
        status, sentence = refused(*command)
        assert (status, "one.jsonl holds 1 text; give at least two." in sentence) == (2, True)
    status, sentence = refused("monitor", "fit", place, "--positive", three, "--negative", texts["negative"], *out)
    assert "A monitor needs at least four texts, or groups of texts, of each kind; give more." in sentence
    status, sentence = refused("monitor", "fit", place, *both(texts), *out, "--benign", tmp_path / "none.jsonl")
    assert (status, "There is no file" in sentence) == (1, True)
    few = ("--benign", three, "--fpr", 0.01)
    assert "needs 99 benign texts; there are 3." in refused("monitor", "fit", place, *both(texts), *out, *few)[1]
    assert list(tmp_path.glob("m*")) == [], "nothing half-written"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--fpr", "0"), "--fpr 0.0 must lie between 0 and 1"),
        (("--fpr", "1.5"), "--fpr 1.5 must lie between 0 and 1"),
        (("--kind", "forest"), "There is no kind 'forest' of detector"),
        (("--statistic", "sum"), "There is no statistic 'sum'"),
        (("--features", "0"), "A detector needs at least one feature, not 0."),
        (("--part", "middle"), "There is no part 'middle' of a text"),
        (("--window", "0"), "window 0 and warm_up 16 must be numbers of tokens from 1"),
        (("--name", "other"), "has no dictionary named 'other'; there are planted."),
        (("--out", "m.txt"), "--out m.txt must end in .json"),
    ],
)
def test_settings_that_make_no_sense(place, texts, tmp_path, refused, words: tuple[str, ...], sentence: str) -> None:
    out = () if "--out" in words else ("--out", tmp_path / "m.json")
    assert sentence in refused("monitor", "fit", place, *both(texts), *out, *words)[1]
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--pool", "sum"), "--pool 'sum' is not known; choose max, mean, top."),
        (("--limit", "0"), "--limit 0 must lie between 1 and 1000."),
        (("--positive", "nothing.jsonl"), "There is no file nothing.jsonl."),
    ],
)
def test_contrasts_that_make_no_sense(place, texts, refused, words: tuple[str, ...], sentence: str) -> None:
    given = both(texts)[2:] + (() if "--positive" in words else both(texts)[:2])
    assert sentence in refused("contrast", place, *given, *words)[1]


def test_monitors_that_cannot_be_used(fitted, place, texts, tmp_path, refused) -> None:
    ask = ("--input", texts["benign"])
    assert "There is no file" in refused("monitor", "score", place, "--monitor", tmp_path / "none.json", *ask)[1]
    (tmp_path / "bad.json").write_text('{"version": 7}')
    assert (
        "is no monitor of version 1" in refused("monitor", "score", place, "--monitor", tmp_path / "bad.json", *ask)[1]
    )
    changed = {**json.loads(fitted["path"].read_text()), "dictionary_digest": "0" * 64}
    other = fitted["path"].with_name("changed.json")
    other.write_text(json.dumps(changed))
    status, sentence = refused("monitor", "report", place, "--monitor", other, *both(texts))
    assert (status, "was made for another state of dictionary planted; fit it again." in sentence) == (1, True)


def test_a_list_needs_an_atlas_before_anything_is_read(run: Run, texts, refused) -> None:
    (run.atlas("planted") / "manifest.json").unlink()
    assert (
        "has no atlas named 'planted'; there is none." in refused("contrast", run.path, *both(texts), "--save", "x")[1]
    )
