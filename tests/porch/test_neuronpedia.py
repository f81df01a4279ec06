"""Both of Neuronpedia's forms, read with nothing of ours and held against the atlas."""

import gzip
import json
from dataclasses import replace

import pytest

from monoscope.atlas.records import Histogram
from monoscope.porch.dashboard import dashboard_feature
from monoscope.porch.export import export_atlas

# The keys of SAEDashboard's NeuronpediaDashboardFeature and of its activations.
FEATURE_KEYS = {
    *("feature_index", "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1"),
    *("correlated_neurons_indices", "correlated_neurons_pearson", "correlated_neurons_l1"),
    *("correlated_features_indices", "correlated_features_pearson", "correlated_features_l1"),
    *("neg_str", "neg_values", "pos_str", "pos_values", "frac_nonzero", "decoder_weights_dist", "vector"),
    *("freq_hist_data_bar_heights", "freq_hist_data_bar_values"),
    *("logits_hist_data_bar_heights", "logits_hist_data_bar_values"),
    *("n_prompts_total", "n_tokens_in_prompt", "dataset", "activations"),
}
ACTIVATION_KEYS = {"bin_min", "bin_max", "bin_contains", "tokens", "values", "qualifying_token_index"}


@pytest.fixture(scope="module")
def batch(origin, tmp_path_factory):
    out = tmp_path_factory.mktemp("batch") / "out"
    found = export_atlas(origin, "neuronpedia-batch", out)
    assert 0 < found.max_error <= 0.0005 + 1e-9
    return json.loads((out / "batch-0.json").read_bytes())


@pytest.fixture(scope="module")
def tree(origin, tmp_path_factory):
    out = tmp_path_factory.mktemp("tree") / "out"
    export_atlas(origin, "neuronpedia", out)
    return out / "toy" / "1-res-planted"


def rows(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def test_a_batch_has_the_keys_that_the_converter_reads(origin, batch):
    assert {key: batch[key] for key in ("model_id", "layer", "sae_set", "sae_id_suffix")} == {
        "model_id": "toy",
        "layer": 1,
        "sae_set": "res-planted",
        "sae_id_suffix": None,
    }
    assert [feature["feature_index"] for feature in batch["features"]] == list(origin.features)
    for feature in batch["features"]:
        assert set(feature) == FEATURE_KEYS
        assert all(set(shown) == ACTIVATION_KEYS for shown in feature["activations"])


def test_a_batch_says_what_the_atlas_says(origin, planted, batch):
    number = planted.numbers["music"]
    record, found = origin.atlas.feature(number), batch["features"][number]
    assert found["frac_nonzero"] == record.density
    assert sum(found["freq_hist_data_bar_heights"]) == record.firings
    assert found["pos_str"] == [token for token, _ in record.promoted]
    assert found["vector"] == pytest.approx(planted.dictionary.weights.W_dec[number].tolist(), abs=1e-6)
    largest = max(range(len(found["vector"])), key=lambda place: found["vector"][place])
    assert found["neuron_alignment_indices"][0] == largest
    assert len(found["activations"]) == len(record.contexts)
    for shown, context in zip(found["activations"], record.contexts, strict=True):
        assert "".join(shown["tokens"]) == b"".join(context.token_bytes).decode()
        assert shown["values"] == pytest.approx(context.activations, abs=0.000501)
        peak = shown["values"][shown["qualifying_token_index"]]
        assert peak == max(shown["values"])
        if shown["bin_contains"] == -1:
            assert (shown["bin_min"], shown["bin_max"]) == (-1, pytest.approx(record.max_activation, abs=0.001))
        else:
            assert shown["bin_min"] - 0.001 <= peak <= shown["bin_max"] + 0.001
            assert 0 <= shown["bin_contains"] <= 1


def test_an_interval_says_what_share_of_all_tokens_it_holds(origin):
    tokens = origin.atlas.manifest["tokens"]
    record = origin.atlas.feature(0)
    shown = tuple(replace(record.contexts[0], quantile=name) for name in ("0-20 %", "40-60 %", "top"))
    counted = Histogram((0.0, 2.0, 4.0, 6.0, 8.0, 10.0), (50, 40, 30, 20, 10))
    record = replace(record, max_activation=10.0, density=150 / tokens, histogram=counted, contexts=shown)
    low, middle, top = dashboard_feature(origin, record)["activations"]
    assert (low["bin_min"], low["bin_max"]) == (0, 2)
    assert low["bin_contains"] == pytest.approx((tokens - 150 + 50) / tokens)
    assert (middle["bin_min"], middle["bin_max"]) == (4, 6)
    assert middle["bin_contains"] == pytest.approx(30 / tokens)
    assert (top["bin_min"], top["bin_max"], top["bin_contains"]) == (-1, 10, -1)


def test_a_dead_feature_has_no_activations(planted, batch):
    dead = batch["features"][planted.numbers["dead"]]
    assert dead["activations"] == dead["freq_hist_data_bar_heights"] == []
    assert dead["frac_nonzero"] == 0


def test_a_file_holds_128_features(origin, tmp_path):
    many = replace(origin, features=tuple(range(10)) * 13)
    found = export_atlas(many, "neuronpedia-batch", tmp_path / "out")
    sizes = [len(json.loads((tmp_path / "out" / f"batch-{n}.json").read_bytes())["features"]) for n in range(2)]
    assert (sizes, found.features) == ([128, 2], 130)


def test_the_tree_has_its_files_and_keys_in_common(origin, tree):
    (release,), (model,), (group,), (source,) = (
        [json.loads(line) for line in (tree / f"{name}.jsonl").read_text().splitlines()]
        for name in ("release", "model", "sourceset", "source")
    )
    assert source["id"] == "1-res-planted"
    assert source["modelId"] == group["modelId"] == model["id"] == "toy"
    assert source["setName"] == group["name"] == "res-planted"
    assert group["releaseName"] == release["name"]
    assert "CC BY-SA" in source["notes"]
    for part in ("features", "activations", "explanations"):
        assert [path.name for path in (tree / part).iterdir()] == ["batch-0.jsonl.gz"]
        for row in rows(tree / part / "batch-0.jsonl.gz"):
            assert (row["modelId"], row["layer"]) == ("toy", "1-res-planted")
            assert int(row["index"]) in origin.features


def test_rows_of_the_tree_say_what_the_atlas_says(origin, planted, tree):
    number = planted.numbers["music"]
    record = origin.atlas.feature(number)
    (feature,) = [row for row in rows(tree / "features" / "batch-0.jsonl.gz") if row["index"] == str(number)]
    assert feature["maxActApprox"] == pytest.approx(record.max_activation, abs=0.001)
    assert feature["hookName"] == "blocks.1.hook_resid_post"
    assert feature["hasVector"] and len(feature["vector"]) == planted.dictionary.weights.W_dec.shape[1]
    assert feature["topkCosSimIndices"] == [near.feature for near in record.neighbours]
    assert feature["topkCosSimValues"] == pytest.approx([near.cosine for near in record.neighbours], abs=1e-4)
    shown = [row for row in rows(tree / "activations" / "batch-0.jsonl.gz") if row["index"] == str(number)]
    assert len(shown) == len(record.contexts)
    for row, context in zip(shown, record.contexts, strict=True):
        assert row["maxValue"] == row["values"][row["maxValueTokenIndex"]] == max(row["values"])
        assert "".join(row["tokens"]) == "".join(context.tokens)
    ids = [row["id"] for row in rows(tree / "activations" / "batch-0.jsonl.gz")]
    assert len(set(ids)) == len(ids)


def test_explanations_carry_the_label_that_is_shown_and_who_gave_it(origin, tree):
    found = {int(row["index"]): row for row in rows(tree / "explanations" / "batch-0.jsonl.gz")}
    alive = [number for number in origin.features if origin.atlas.feature(number).firings]
    assert sorted(found) == alive
    for number, row in found.items():
        assert row["description"] == origin.atlas.labels[number]
    assert (found[3]["typeName"], found[3]["explanationModelName"]) == ("monoscope-judge", "somebody")
    assert found[0]["explanationModelName"] is None


def test_without_a_dictionary_there_are_no_vectors(origin, tmp_path):
    export_atlas(replace(origin, features=(0,), dictionary=None), "neuronpedia", tmp_path / "out")
    (row,) = rows(tmp_path / "out" / "toy" / "1-res-planted" / "features" / "batch-0.jsonl.gz")
    assert (row["hasVector"], row["vector"], row["neuron_alignment_indices"]) == (False, [], [])


def test_the_same_atlas_gives_the_same_bytes(origin, tree, tmp_path):
    export_atlas(origin, "neuronpedia", tmp_path / "out")
    for path in tree.rglob("*"):
        again = tmp_path / "out" / "toy" / "1-res-planted" / path.relative_to(tree)
        assert path.is_dir() or path.read_bytes() == again.read_bytes()
