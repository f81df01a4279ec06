"""The whole story through the command line, on the toy model: every command, its keys, what must be true of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from monoscope.cli import run_command
from monoscope.core.toy_text import toy_concepts

ANIMALS, CHEMISTRY = toy_concepts()["animals"], toy_concepts()["chemistry"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("story") / "run"


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What a command prints with --json: exactly one object, nothing else."""
    assert run_command([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_harvest(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ("--model", "toy", "--site", "resid_post.2", "--text", "toy", "--context", 128)
    words = ("harvest", run, *source, "--tokens", 40_000)
    found = told(capsys, *words)
    assert found["tokens"] == 40_000
    assert 0 < found["dropped_share"] < 0.02
    assert found["rows"] <= found["tokens"]
    assert found["shards"] == len(list((run / "activations" / "resid_post.2@toy").glob("*-0*.safetensors")))
    assert told(capsys, *words)["skipped"]
    assert run_command([*map(str, words[:-1]), "50000"]) == 1
    assert "tokens was 40000 and is now 50000" in " ".join(capsys.readouterr().err.split())


def test_train_and_evaluate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", run, "--name", "d", "--latents", 96, "--k", 4, "--tokens", 300_000, "--batch", 512, "--lr", 0.004)
    found = told(capsys, *words)
    assert found["fvu"] < 0.1
    assert 3 < found["l0"] < 5
    assert told(capsys, *words)["skipped"]
    assert pq.read_table(run / "dictionaries" / "d" / "training.parquet").num_rows > 5
    figures = told(capsys, "evaluate", run)
    assert figures["fvu"] == pytest.approx(found["fvu"])
    assert figures["ce_clean"] < figures["ce_spliced"] + 0.05 < figures["ce_mean"] < figures["ce_zero"]
    assert figures["ce_recovered"] > 0.9
    assert {"kl", "cosine", "dead_fraction", "dense_fraction", "n_latents"} <= set(figures)


def test_atlas_search_and_show(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = told(capsys, "atlas", run)
    assert built["features"] == 96
    hits = told(capsys, "search", run, "fox", "--limit", 3)["results"]
    assert any(word in hits[0]["label"] for word in ANIMALS)
    # The best hit may be a rare feature that merely stands near a fox; one of the first three is about animals.
    shown = [told(capsys, "show", run, hit["feature"]) for hit in hits]
    assert any(entry["token"].strip() in ANIMALS for each in shown for entry in each["promoted"])
    shown = shown[0]
    assert shown["label"] == hits[0]["label"]
    assert shown["max_activation"] == pytest.approx(max(max(c["activations"]) for c in shown["contexts"]), rel=1e-2)
    for context in shown["contexts"]:
        assert len(context["tokens"]) == len(context["activations"])


def test_prompt_search_and_encode_agree(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = told(capsys, "search", run, "The fox sees the wolf", "--by", "prompt")["results"]
    item = told(capsys, "encode", run, "The fox sees the wolf")["texts"][0]
    assert "".join(item["tokens"]) == "The fox sees the wolf"
    fired = {feature for pairs in item["codes"] for feature, _ in pairs}
    assert hits[0]["feature"] in fired
    lines = tmp_path / "texts.jsonl"
    lines.write_text(
        '{"id": "a", "text": "The fox"}\n{"id": "b", "messages": [{"role": "user", "content": "a red fox"}]}\n'
    )
    pooled = told(capsys, "encode", run, "--input", lines, "--pool", "max", "--out", tmp_path / "codes.parquet")[
        "texts"
    ]
    assert [text["id"] for text in pooled] == ["a", "b"]
    assert pq.read_table(tmp_path / "codes.parquet").num_rows == sum(len(text["codes"]) for text in pooled)


def test_steering_a_found_feature_changes_the_topic(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("steer", run, "--prompt", "The", "--max-tokens", 60, "--seed", 3)

    def chemistry(text: str) -> int:
        return sum(text.count(word) for word in CHEMISTRY)

    def turn(feature: int) -> tuple[int, int]:
        """How much more of the answer is about chemistry with the feature turned up."""
        told(capsys, "preset", run, "save", "zoo", "--edit", f"{feature} add 1.2r")
        found = told(capsys, *words, "--preset", "zoo")
        assert found["edits"][0]["positions_edited"] > 40
        assert found["edits"][0]["realised_activation"] > found["edits"][0]["mean_activation_before"]
        told(capsys, "preset", run, "delete", "zoo")
        return chemistry(found["steered"]) - chemistry(found["baseline"]), feature

    # Not every feature that reads a topic writes it; one of the first three does.
    hits = told(capsys, "search", run, "oxygen", "--limit", 3)["results"]
    gained, feature = max(turn(hit["feature"]) for hit in hits)
    assert gained > 5
    told(capsys, "preset", run, "save", "zoo", "--edit", f"{feature} add 1.2r")
    silent = told(capsys, *words, "--edit", f"{feature} scale 1")
    assert silent["steered"] == silent["baseline"]
    assert told(capsys, "preset", run, "list")["presets"][0]["name"] == "zoo"


def test_the_python_door(run: Path) -> None:
    import monoscope as ms

    study = ms.Study(run)
    hits = study.build_atlas().search("fox", limit=2)
    assert len(hits) == 2
    assert "<div" in hits._repr_html_()
    sae = study.dictionary()
    with ms.steer(study.model, sae, [ms.add(hits[0].feature, 1.2, unit="r")]) as edited:
        assert edited.complete("The", max_tokens=5, seed=1).proof[0].positions_edited == 5


def test_the_dictionary_says_what_it_came_from(run: Path) -> None:
    about = json.loads((run / "dictionaries" / "d" / "monoscope.json").read_text())
    text = json.loads((run / "text" / "toy" / "manifest.json").read_text())
    assert about["provenance"]["context"] == text["context"] == 128
    config = json.loads((run / "dictionaries" / "d" / "cfg.json").read_text())
    assert config["metadata"]["context_size"] == 128
