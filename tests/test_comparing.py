import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from monoscope.cli import run_command
from monoscope.comparing import compare
from monoscope.core.errors import ArtifactNotFound, BadRequest, Damaged
from monoscope.core.run import Run
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary, Weights
from monoscope.dictionary.shelf import save_dictionary

N = 96  # latents of the toy's dictionary


@pytest.fixture(scope="module")
def run(toy_store, toy_shards, toy_trained, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a dictionary, its permuted copy, one in which every latent of it stands twice, one of another site."""
    run = Run(tmp_path_factory.mktemp("compare") / "run")
    for made, part in ((toy_store.folder, run.text("toy")), (toy_shards.folder, run.activations("resid_post.2@toy"))):
        part.parent.mkdir(parents=True)
        part.symlink_to(made)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    _save(run, "a", toy_trained, torch.arange(N))
    _save(run, "copy", toy_trained, order)
    _save(run, "twice", toy_trained, torch.arange(N).repeat(2))
    _save(run, "elsewhere", toy_trained, order, site=Site(1))
    return run


def _save(run: Run, name: str, trained, order: torch.Tensor, site: Site | None = None) -> None:
    known = trained.dictionary
    w = known.weights
    picked = {field: getattr(known.stats, field)[order] for field in ("max", "p999", "density")}
    made: Dictionary = type(known)(
        Weights(w.W_enc[:, order].contiguous(), w.b_enc[order], w.W_dec[order], w.b_dec, w.threshold[order]),
        site=site or known.site,
        name=name,
        stats=replace(known.stats, **picked),
        settings=known.settings,
    )
    origin = {"model": "toy", "model_digest": "0", "text": "toy", "activations": "resid_post.2@toy"}
    save_dictionary(run.dictionary(name), made, probe=trained.probe, request={}, provenance=origin)


def _ids(run: Run, *names: str) -> list[str]:
    return [f"{run.path}:{name}" for name in names]


def test_a_permuted_copy_is_the_same_dictionary(run: Run) -> None:
    found = compare(_ids(run, "a", "copy"))
    figures = found["pairs"][0]
    assert figures["cosine"]["above_0.9"] == figures["mutual_share"] == 1
    assert figures["mcc"] == pytest.approx(1, abs=1e-5)
    assert figures["correlation"]["above_0.9"] == 1
    assert len(found["matches"]) == N
    firing = [match for match in found["matches"] if match["firings"]]
    assert all(match["cosine"] > 0.999 and match["correlation"] > 0.999 for match in firing)
    assert figures["mcc_random"] < 0.9
    kinds = figures["splits"]["kinds"]
    assert kinds["heir"] + kinds["silent"] == N


@pytest.mark.parametrize("parents", ["direction", "firing"])
def test_every_latent_twice_is_found_as_a_duplicate(run: Run, parents: str) -> None:
    found = compare(_ids(run, "twice", "a"), parents=parents)
    assert [one["name"] for one in found["dictionaries"]] == ["a", "twice"]
    kinds = found["pairs"][0]["splits"]["kinds"]
    assert kinds["duplicate"] == kinds["heir"]
    assert len(found["splits"]) == kinds["heir"]
    for family in found["splits"]:
        assert [child["kind"] for child in family["children"]] == ["heir", "duplicate"]
        assert {child["feature"] % N for child in family["children"]} == {family["parent"]}


def test_a_comparison_is_read_back_as_it_was_found(run: Run) -> None:
    first = compare(_ids(run, "a", "copy"), by_titles=True)
    manifest = run.comparison("a", "copy") / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert compare(_ids(run, "a", "copy"), by_titles=True) == first
    assert manifest.stat().st_mtime_ns == before
    compare(_ids(run, "a", "copy"), replacing_it=True)
    assert manifest.stat().st_mtime_ns > before


def test_a_damaged_table_is_refused(run: Run) -> None:
    compare(_ids(run, "a", "copy"))
    path = run.comparison("a", "copy") / "matches.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match="--replace"):
        compare(_ids(run, "a", "copy"))
    assert compare(_ids(run, "a", "copy"), replacing_it=True)["matches"]


def test_the_tree_of_a_word_begins_at_the_latent_that_tells_it(run: Run) -> None:
    word = "the"
    found = compare(_ids(run, "a", "twice"), family=[word], limit=2)
    assert len(found["matches"]) == 2
    tree = found["tree"]["tree"]
    assert tree["dictionary"] == "a"
    assert tree["feature"] == found["tree"]["root"]["feature"]
    assert tree["kind"] == "root"
    assert tree["words"]
    assert tree["explained"] > 0.999
    assert {child["feature"] % N for child in tree["children"]} == {tree["feature"]}


def test_the_command_prints_one_object_or_lines(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", *_ids(run, "a", "twice"), "--family", "the", "--titles", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"dictionaries", "text", "pairs", "matches", "splits", "tree", "completeness"} <= set(told)
    assert run_command(["compare", *_ids(run, "a", "twice"), "--family", "the", "--titles"]) == 0
    assert "one to one" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(run: Run) -> None:
    for wanted, sentence in (
        (_ids(run, "a"), "at least two"),
        (_ids(run, "a", "a"), "named twice"),
        (_ids(run, "a", "elsewhere"), "one site"),
    ):
        with pytest.raises(BadRequest, match=sentence):
            compare(wanted)
    with pytest.raises(BadRequest, match="--parents"):
        compare(_ids(run, "a", "copy"), parents="age")
    with pytest.raises(ArtifactNotFound, match="no dictionary named"):
        compare(_ids(run, "a", "nothere"))
    with pytest.raises(BadRequest, match="None of"):
        compare(_ids(run, "a", "copy"), family=["qqqq"])


def test_a_dictionary_of_another_run_keeps_its_runs_name(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    other.path.mkdir()
    for part in ("text", "activations"):
        (other.path / part).symlink_to(run.path / part)
    (other.path / "dictionaries").mkdir()
    (other.path / "dictionaries" / "a").symlink_to(run.dictionary("a"))
    found = compare([f"{run.path}:a", f"{other.path}:a"])
    assert [one["name"] for one in found["dictionaries"]] == ["a", "other.a"]
    assert found["pairs"][0]["mcc"] == pytest.approx(1, abs=1e-5)
    assert run.comparison("a", "other.a").is_dir()
