"""The map: a place for every feature, the same each time; clusters named by what their labels share."""

import numpy as np
import pytest

from monoscope.atlas.layout import FeatureMap, lay_out

FEW = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)


def test_few_features_are_laid_out_without_any_library():
    found = lay_out(FEW, np.arange(0, 24, 2), [f"word {i % 3}" for i in range(12)])
    assert found.places.dtype == np.uint16 and found.places.shape == (12, 2)
    assert found.places.min() == 0 and found.places.max() == 65_535
    assert found.of(4) == tuple(np.round(found.places[2] / 65_535, 5).tolist())
    assert found.of(5) is None and found.of(99) is None


def test_a_map_is_kept_for_its_atlas_only(tmp_path):
    found = lay_out(FEW, np.arange(12), ["bridge"] * 12)
    found.save(tmp_path, "digest")
    again = FeatureMap.open(tmp_path, "digest")
    assert again is not None and again.clusters == found.clusters
    np.testing.assert_array_equal(again.places, found.places)
    assert FeatureMap.open(tmp_path, "other") is None


def test_no_feature_no_map_but_no_error():
    found = lay_out(np.zeros((0, 6), np.float32), np.zeros(0, np.int64), [])
    assert found.of(0) is None and len(found.clusters) == 0


@pytest.mark.slow
def test_groups_of_like_features_lie_together_and_get_their_name():
    stream = np.random.default_rng(1)
    centres = stream.normal(size=(6, 24))
    group = np.repeat(np.arange(6), 50)
    rows = (centres[group] + 0.2 * stream.normal(size=(300, 24))).astype(np.float32)
    names = ["bridge", "music", "planet", "river", "number", "secret"]
    labels = [f"{names[one]} {i}" for i, one in enumerate(group)]
    first, second = (lay_out(rows, np.arange(300), labels) for _ in range(2))
    np.testing.assert_array_equal(first.places, second.places)
    places = first.places / 65_535
    spread = np.mean([places[group == one].std(0).mean() for one in range(6)])
    assert spread < 0.5 * places.std(0).mean()
    coarse = {cluster.name.split(", ")[0] for cluster in first.clusters if cluster.level == 0}
    assert coarse <= set(names) and len(coarse) == 6
