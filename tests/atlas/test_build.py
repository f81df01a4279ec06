import json
from contextlib import closing

import numpy as np
import pytest
import torch

from monoscope.atlas.build import build_atlas, encode_blocks
from monoscope.atlas.closing import gather
from monoscope.atlas.query import Atlas
from monoscope.atlas.schema import VERSION
from monoscope.atlas.spool import Spool
from monoscope.core.blocks import ActivationBlock
from monoscope.core.errors import BadNumbers, RequestDiffers

REQUEST = {"dictionary": "planted", "model": "toy"}


def rebuilt(world, folder, blocks, **more):
    return build_atlas(folder, blocks, world.dictionary, world.store, request=REQUEST, **more)


def test_the_summary_counts_features_and_tokens(world, atlas_folder):
    summary = rebuilt(world, atlas_folder, [])
    assert summary.features == len(world.names) == 25
    assert summary.alive == 24
    assert summary.tokens == sum(len(block.token) for block in world.blocks)
    assert summary.bytes > 10_000


def test_figures_equal_a_dense_computation(world, atlas):
    x = torch.cat([block.x for block in world.blocks]).float()
    dense = world.dictionary.encode(x).to_dense()
    for feature in (0, 7, 24):
        record = atlas.feature(feature)
        column = dense[:, feature]
        assert record.firings == int((column > 0).sum())
        assert record.density == pytest.approx(float((column > 0).float().mean()))
        assert record.max_activation == pytest.approx(float(column.max()))
        assert sum(record.histogram.counts) == record.firings
        if record.firings:
            assert record.mean == pytest.approx(float(column[column > 0].mean()), rel=1e-5)


def gathered(world, folder, blocks):
    with closing(Spool(folder / "codes", {})) as codes, closing(Spool(folder / "control", {})) as control:
        encode_blocks(blocks, world.dictionary, world.store, codes, control)
        return gather(codes, world.store, world.dictionary.stats.max.numpy())


def test_a_block_of_many_windows_gives_the_same_as_many_blocks(world, tmp_path):
    joined = ActivationBlock(
        torch.cat([block.x for block in world.blocks]), torch.cat([block.token for block in world.blocks])
    )
    one, many = (
        gathered(world, tmp_path / str(number), blocks) for number, blocks in enumerate(([joined], world.blocks))
    )
    np.testing.assert_array_equal(one.examples().token, many.examples().token)
    np.testing.assert_array_equal(one.counts().firings, many.counts().firings)


def test_another_request_is_refused_and_replace_builds_again(world, tmp_path):
    rebuilt(world, tmp_path / "a", world.blocks[:1])
    with pytest.raises(RequestDiffers, match="model"):
        build_atlas(tmp_path / "a", [], world.dictionary, world.store, request={**REQUEST, "model": "other"})
    assert rebuilt(world, tmp_path / "a", world.blocks, replace=True).tokens > len(world.blocks[0].token)


def test_a_build_that_fails_leaves_nothing_and_the_old_one_stays(world, tmp_path):
    first = rebuilt(world, tmp_path / "a", world.blocks[:1])
    bad = ActivationBlock(torch.full_like(world.blocks[0].x, float("nan")), world.blocks[0].token)
    with pytest.raises(BadNumbers):
        rebuilt(world, tmp_path / "a", [bad], replace=True)
    with pytest.raises(BadNumbers):
        rebuilt(world, tmp_path / "b", [bad])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.desk.lock", "a"]
    assert Atlas.open(tmp_path / "a").manifest["tokens"] == first.tokens


def test_the_folder_stands_alone_and_says_what_it_is_of(atlas_folder):
    manifest = json.loads((atlas_folder / "manifest.json").read_text())
    assert manifest["version"] == VERSION
    assert manifest["dictionary"] == "planted"
    assert manifest["request"] == REQUEST
    names = {path.name for path in (atlas_folder / "tokens").iterdir()}
    assert names == {"tokens.safetensors", "documents.parquet", "vocabulary.safetensors", "manifest.json"}


def test_without_an_unembedding_no_token_is_promoted(world, tmp_path):
    rebuilt(world, tmp_path / "a", world.blocks[:1])
    record = Atlas.open(tmp_path / "a").feature(0)
    assert record.promoted == record.suppressed == ()


def test_another_vocabulary_is_refused(world, tmp_path):
    with pytest.raises(RequestDiffers, match="tokenizer"):
        rebuilt(world, tmp_path / "a", world.blocks, vocabulary=[b"a", b"b"])
