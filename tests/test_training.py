"""From activations to dictionaries: together or alone, from shards or live, onwards, across sites, within a budget."""

from dataclasses import replace

import pytest
import torch

from monoscope import measuring, stages, training
from monoscope.core.artifact import read_json, read_tensors
from monoscope.core.errors import BadEdit, BadRequest
from monoscope.core.run import Run
from monoscope.dictionary.shelf import load_dictionary
from monoscope.steer.resolve import resolve
from monoscope.train.memory import parse_bytes, plan_memory
from monoscope.train.recipes import Recipe

TEXT = stages.TextRequest("toy", 12_000, context=16)
RECIPE = Recipe(latents=48, k=3, tokens=40 * 256, batch_rows=256, learning_rate=0.01, dead_tokens=2000)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = Run(tmp_path_factory.mktemp("training") / "run")
    for site in ("resid_post.2", "mlp_in.2", "mlp_out.2"):
        stages.harvest(place, "toy", site, TEXT, name="toy")
    return place


def _weights(run: Run, name: str) -> dict[str, torch.Tensor]:
    return read_tensors(run.dictionary(name) / "sae_weights.safetensors")


def _assert_same(run: Run, one: str, other: str) -> None:
    found, wanted = _weights(run, one), _weights(run, other)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def test_dictionaries_that_learn_together_learn_what_they_would_alone(run: Run) -> None:
    source = training.Source("resid_post.2@toy")
    recipes = [replace(RECIPE, latents=width, k=k) for width in (48, 64) for k in (2, 3)]
    told = training.train_dictionaries(run, recipes, source, name="group", measure=False)
    assert [each["name"] for each in told] == ["group-48-k2", "group-48-k3", "group-64-k2", "group-64-k3"]
    alone = training.train_dictionaries(run, [recipes[3]], source, name="alone", measure=False)
    assert not alone[0]["skipped"]
    _assert_same(run, "group-64-k3", "alone")
    again = training.train_dictionaries(run, recipes, source, name="group", measure=False)
    assert all(each["skipped"] for each in again)


def test_a_group_that_was_stopped_goes_on(run: Run) -> None:
    source, steps = training.Source("resid_post.2@toy"), iter(range(10_000))
    recipes = [replace(RECIPE, latents=width) for width in (48, 64)]
    with pytest.raises(KeyboardInterrupt):
        training.train_dictionaries(run, recipes, source, name="stopped", should_stop=lambda: next(steps) == 25)
    training.train_dictionaries(run, recipes, source, name="stopped", measure=False)
    training.train_dictionaries(run, recipes, source, name="whole", measure=False)
    for width in (48, 64):
        _assert_same(run, f"stopped-{width}-k3", f"whole-{width}-k3")


def test_without_shards_the_same_is_learnt(run: Run) -> None:
    live = training.LiveSource("toy", "resid_post.2", TEXT, name="toy")
    training.train_dictionaries(run, [RECIPE], training.Source(), live=live, name="live")
    training.train_dictionaries(run, [RECIPE], training.Source("resid_post.2@toy"), name="shards", measure=False)
    _assert_same(run, "live", "shards")
    one, other = (measuring.evaluate(run, name=name) for name in ("live", "shards"))
    assert one["tokens"] == other["tokens"] and one["fvu"] == pytest.approx(other["fvu"], rel=1e-9)


def test_a_finished_dictionary_goes_on_with_figures_on_both_texts(run: Run) -> None:
    other = stages.TextRequest("toy", 9_000, context=16, seed=7)
    stages.harvest(run, "toy", "resid_post.2", other, name="other")
    first = training.train_dictionary(run, RECIPE, name="first", activations="resid_post.2@toy")
    more = replace(RECIPE, tokens=20 * 256, learning_rate=0.003)
    source = training.Source("resid_post.2@other", start="first", keep=0.5)
    told = training.train_dictionaries(run, [more], source, name="second")[0]
    assert told["continued"]["old_text"]["before"]["fvu"] == pytest.approx(first["fvu"], rel=1e-9)
    assert told["continued"]["new_text"]["after"]["fvu"] == pytest.approx(told["fvu"], rel=1e-9)
    assert told["fvu"] < told["continued"]["new_text"]["before"]["fvu"]
    with pytest.raises(BadRequest, match="goes on as what it is"):
        training.train_dictionaries(run, [replace(more, latents=64)], source, name="third")


def test_the_dictionary_one_goes_on_from_is_never_lost(run: Run) -> None:
    training.train_dictionary(run, RECIPE, name="kept", activations="resid_post.2@toy", measure=False)
    before = {path.name: path.read_bytes() for path in run.dictionary("kept").iterdir() if path.is_file()}
    for name, recipe in (("kept", RECIPE), ("other", replace(RECIPE, latents=64))):
        with pytest.raises(BadRequest):
            source = training.Source("resid_post.2@toy", start="kept")
            training.train_dictionaries(run, [recipe], source, name=name, replacing_it=True)
    assert {path.name: path.read_bytes() for path in run.dictionary("kept").iterdir() if path.is_file()} == before


@pytest.mark.parametrize("wrong", [{"keep": 0.5}, {"keep": 1.0, "start": "d"}, {"keep": -0.1, "start": "d"}])
def test_a_share_to_keep_is_a_share_of_something(wrong: dict) -> None:
    with pytest.raises(BadRequest, match="keep"):
        training.Source(**wrong)


@pytest.mark.parametrize("arch", ["transcoder", "skip-transcoder"])
def test_a_transcoder_tells_an_mlps_output_from_its_input(run: Run, arch: str) -> None:
    source = training.Source("mlp_in.2@toy", target="mlp_out.2@toy")
    recipe = replace(RECIPE, arch=arch, tokens=200 * 256)
    told = training.train_dictionaries(run, [recipe], source, name=arch)[0]
    assert told["fvu"] < 0.35
    dictionary = load_dictionary(run.dictionary(arch))
    assert (str(dictionary.site), str(dictionary.target)) == ("mlp_in.2", "mlp_out.2")
    metrics = measuring.evaluate(run, name=arch)
    assert metrics["ce_clean"] < metrics["ce_mean"]
    assert abs(metrics["ce_spliced"] - metrics["ce_clean"]) < 0.5 * (metrics["ce_mean"] - metrics["ce_clean"])
    with pytest.raises(BadEdit, match="one site"):
        resolve("3 add 1", dictionary)
    config = read_json(run.dictionary(arch) / "cfg.json")
    assert config["architecture"] == f"jumprelu_{arch.replace('-', '_')}" and config["d_out"] == dictionary.d_out


def test_transcoders_need_two_sites_and_others_one(run: Run) -> None:
    with pytest.raises(BadRequest, match="--target"):
        training.train_dictionaries(run, [replace(RECIPE, arch="transcoder")], training.Source("mlp_in.2@toy"))
    with pytest.raises(BadRequest, match="for transcoders"):
        source = training.Source("resid_post.2@toy", target="mlp_out.2@toy")
        training.train_dictionaries(run, [RECIPE], source)


def test_a_memory_budget_is_planned_and_told(run: Run) -> None:
    said: list[str] = []
    source = training.Source("resid_post.2@toy", memory=2_000_000_000)
    training.train_dictionaries(run, [RECIPE], source, name="frugal", measure=False, tell=said.append)
    assert "memory: " in said[0] and "of 2.00 GB" in said[0]
    request = read_json(run.dictionary("frugal") / "monoscope.json")["request"]
    assert request["tile_rows"] == 256 and request["buffer_rows"] > 5000
    with pytest.raises(BadRequest, match="needs at least"):
        training.train_dictionaries(run, [RECIPE], training.Source("resid_post.2@toy", memory=10_000_000), name="tiny")


def test_the_plan_stays_within_its_budget() -> None:
    recipe = Recipe(latents=131_072, k=32)
    plan = plan_memory([recipe], d_in=576, d_model=576, rows=10_000_000, budget=parse_bytes("8GB"))
    assert plan.total <= 8_000_000_000 and 64 <= plan.tile_rows < 2048
    assert 20 * 2048 <= plan.buffer_rows < 10_000_000
    more = plan_memory([recipe], d_in=576, d_model=576, rows=10_000_000, budget=parse_bytes("9 GB"))
    assert more.buffer_rows > plan.buffer_rows


@pytest.mark.parametrize(("text", "size"), [("8GB", 8 * 10**9), ("1.5 GiB", 3 * 2**29), ("4096", 4096)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


def test_what_looks_wrong_is_said_once(run: Run) -> None:
    said: list[str] = []
    hot = replace(RECIPE, arch="relu", penalty=400.0, batch_rows=512, tokens=60 * 512, dead_tokens=600)
    source = training.Source("resid_post.2@toy")
    training.train_dictionaries(run, [hot], source, name="hot", measure=False, tell=said.append)
    assert any("smaller --batch" in sentence for sentence in said)
    assert any("do not fire any more" in sentence for sentence in said)
    assert len(set(said)) == len(said)
    assert read_json(run.dictionary("hot") / "monoscope.json")["provenance"]["warnings"]


def test_each_width_has_a_rate_that_suits_it() -> None:
    narrow, wide, told = (
        training.recipes_of([512], [4], tokens=10**6)[0],
        training.recipes_of([65_536], [4], tokens=10**8)[0],
        training.recipes_of([512], [4], learning_rate=0.02)[0],
    )
    assert narrow.learning_rate > 2 * wide.learning_rate and told.learning_rate == 0.02
