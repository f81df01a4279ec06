import json
import shutil
import threading

import numpy as np
import pytest
import torch

from monoscope.atlas.query import Atlas
from monoscope.core.errors import ArtifactNotFound, Damaged, FeatureNotFound


@pytest.fixture
def copied(atlas_folder, tmp_path):
    shutil.copytree(atlas_folder, tmp_path / "atlas")
    return tmp_path / "atlas"


def test_contexts_show_the_text_with_the_feature_on_its_words(world, atlas):
    record = atlas.feature(world.names.index("music"))
    x = {int(t): row for block in world.blocks for t, row in zip(block.token, block.x, strict=True)}
    assert 10 < len(record.contexts) <= 36
    for context in record.contexts:
        assert len(context.tokens) == len(context.token_bytes) == len(context.activations)
        assert "".join(context.tokens) == b"".join(context.token_bytes).decode()
        assert max(context.activations) == context.activations[context.peak]
        row = x[context.first_token + context.peak]
        found = float(world.dictionary.encode(row[None]).to_dense()[0, record.feature])
        assert context.activations[context.peak] == pytest.approx(found, rel=1e-5)
        assert context.source == "toy"
        assert context.title
    first = record.contexts[0]
    assert first.quantile == "top"
    assert first.activations[first.peak] == pytest.approx(record.max_activation)


def test_promoted_tokens_are_the_concept_s_words(world, atlas):
    record = atlas.feature(world.names.index("chemistry"))
    words = "acid oxygen carbon sodium mercury solution silver compound".split()  # noqa: SIM905  as the toy writes them
    assert {token.strip() for token, _ in record.promoted[:5]} <= set(words)
    values = [value for _, value in record.promoted]
    assert values == sorted(values, reverse=True)
    assert all(value < 0 for _, value in record.suppressed)


def test_neighbours_carry_their_labels_and_leave_out_the_dead_and_oneself(world, atlas):
    record = atlas.feature(3)
    assert len(record.neighbours) == 10
    for near in record.neighbours:
        other, cosine, label = near.feature, near.cosine, near.label
        assert other not in (3, world.names.index("dead"))
        assert cosine == pytest.approx(float(world.dictionary.W_dec[3] @ world.dictionary.W_dec[other]), abs=1e-5)
        assert label == atlas.feature(other).label


def test_a_dead_feature_is_a_record_without_contexts(world, atlas):
    record = atlas.feature(world.names.index("dead"))
    assert (record.firings, record.density, record.max_activation, record.contexts) == (0, 0, 0, ())
    assert record.label == "never fires"
    assert record.map is None


def test_features_keep_the_order_asked_for(atlas):
    assert [record.feature for record in atlas.features([5, 2, 9, 2])] == [5, 2, 9, 2]


@pytest.mark.parametrize("feature", [-1, 25, 10**12])
def test_a_number_outside_is_refused(atlas, feature):
    with pytest.raises(FeatureNotFound, match="0 to 24"):
        atlas.feature(feature)


def test_highlights_are_alive_and_no_two_are_neighbours(atlas):
    for record in atlas.highlights():
        assert record.firings >= 30
        assert record.density <= 0.01


def test_the_summary_names_the_dictionary(atlas):
    summary = atlas.summary()
    assert (summary["dictionary"], summary["features"], summary["alive"]) == ("planted", 25, 24)


def test_two_readers_and_several_threads_at_once(atlas_folder, atlas):
    other, found = Atlas.open(atlas_folder), []
    jobs = [threading.Thread(target=lambda: found.append(other.feature(4).label)) for _ in range(6)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert found == [atlas.feature(4).label] * 6
    other.close()


def test_an_empty_folder_holds_no_atlas(tmp_path):
    with pytest.raises(ArtifactNotFound, match="monoscope atlas"):
        Atlas.open(tmp_path)


@pytest.mark.parametrize("file", ["atlas.duckdb", "tokens/tokens.safetensors"])
def test_a_flipped_byte_or_a_cut_file_is_damage(copied, file):
    path = copied / file
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.unlink()  # the token files may be hard links
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(Damaged):
        Atlas.open(copied)
    path.write_bytes(whole[:middle])
    with pytest.raises(Damaged):
        Atlas.open(copied)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}', '{"version": 1}'])
def test_a_manifest_that_says_nothing_is_damage(copied, text):
    (copied / "manifest.json").write_text(text)
    with pytest.raises(Damaged):
        Atlas.open(copied)


def test_a_version_of_the_future_is_refused(copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "version": 3}))
    with pytest.raises(Damaged, match="version 3"):
        Atlas.open(copied)


def test_what_is_left_unexplained_is_kept_for_each_token(world, atlas):
    for block in world.blocks[:3]:
        x = block.x.float()
        lost = (x - world.dictionary.reconstruct(x)).pow(2).sum(1)
        share = lost / (x - world.dictionary.stats.mean_vector).pow(2).sum(1)
        np.testing.assert_allclose(atlas.dark[block.token.numpy()], share.numpy(), rtol=2e-3)
    assert np.isfinite(atlas.dark).sum() == atlas.manifest["tokens"]


def test_the_blindest_documents_are_those_with_the_largest_mean(world, atlas):
    found = atlas.blindest(5, fewest=10)
    document = world.store.document_of(torch.arange(world.store.n_tokens)).numpy()
    dark = atlas.dark.astype(np.float64)
    means = {
        one: np.nanmean(dark[document == one])
        for one in range(world.store.n_documents)
        if np.isfinite(dark[document == one]).sum() >= 10
    }
    assert [one for one, _ in found] == sorted(means, key=lambda one: -means[one])[:5]
    assert found[0][1] == pytest.approx(max(means.values()))


def test_an_altered_file_of_shares_is_refused(copied):
    (copied / "dark.npy").write_bytes(b"not it")
    with pytest.raises(Damaged, match=r"dark\.npy"):
        Atlas.open(copied).dark  # noqa: B018
