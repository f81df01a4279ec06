from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from monoscope.core.errors import Damaged
from monoscope.porch.export import export_atlas
from monoscope.porch.tables import SCHEMAS, _check, _digest, _rows


@pytest.fixture(scope="module")
def out(origin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "out"
    found = export_atlas(origin, "parquet", folder)
    assert found.max_error < 1e-6
    return folder


def test_one_row_a_feature_with_its_figures(origin, out):
    rows = pq.read_table(out / "features.parquet").to_pylist()
    assert [row["feature"] for row in rows] == list(origin.features)
    for row, record in zip(rows, origin.atlas.features(origin.features), strict=True):
        for name in ("label", "label_kind", "firings", "density", "max_activation", "duplicate_of", "absorbed_into"):
            assert row[name] == getattr(record, name)
        assert row["label_score"] == pytest.approx(record.label_score)
        assert row["histogram"] == list(record.histogram.counts)
        assert [(pair["token"], pair["value"]) for pair in row["promoted"]] == list(record.promoted)
        assert {pair["name"]: pair["rate"] for pair in row["sources"]} == record.sources


def test_one_row_a_context(origin, out):
    rows = pq.read_table(out / "contexts.parquet").to_pylist()
    contexts = [
        (record.feature, context)
        for record in origin.atlas.features(origin.features)
        for context in (*record.contexts, *record.silent)
    ]
    assert len(rows) == len(contexts) > 300
    for row, (feature, context) in zip(rows, contexts, strict=True):
        assert row["feature"] == feature
        assert (row["tokens"], row["activations"]) == (list(context.tokens), list(context.activations))
        for name in ("quantile", "peak", "document", "title", "source", "first_token"):
            assert row[name] == getattr(context, name)


def test_one_row_a_neighbour_by_direction_and_by_firing(origin, out):
    rows = pq.read_table(out / "neighbours.parquet").to_pylist()
    record = origin.atlas.feature(3)
    for by, others in (("direction", record.neighbours), ("firing", record.cofiring)):
        mine = [row for row in rows if row["feature"] == 3 and row["by"] == by]
        assert [(row["other"], row["cosine"], row["lift"]) for row in mine] == [
            (near.feature, near.cosine, near.lift) for near in others
        ]


def test_what_was_not_counted_is_null(origin):
    unknown = replace(origin.atlas.feature(0), typical_position=None, map=None)
    (row,) = _rows([unknown])["features"]
    assert (row["typical_position"], row["map_x"], row["map_y"]) == (None, None, None)


def test_the_files_are_packed_and_carry_the_credit(out):
    for name in SCHEMAS:
        with pq.ParquetFile(out / f"{name}.parquet") as file:
            assert file.metadata.row_group(0).column(0).compression == "ZSTD"
            assert b"CC BY-SA" in file.schema_arrow.metadata[b"credits"]


def test_a_table_that_reads_back_otherwise_is_refused(out):
    table = pq.read_table(out / "neighbours.parquet")
    with pytest.raises(Damaged, match="neighbours.parquet does not read back"):
        _check(out / "neighbours.parquet", table.schema, [_digest(table.slice(1))])
