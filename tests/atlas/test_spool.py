"""The spool: what was committed is found again, what was not is cut off, and another request starts afresh."""

import numpy as np
import pytest
import torch

from monoscope.atlas.spool import Spool
from monoscope.core.sparse import SparseCode


def piece(seed, rows=6, latents=5):
    stream = np.random.default_rng(seed)
    dense = torch.from_numpy(
        (stream.random((rows, latents)) * (stream.random((rows, latents)) < 0.4)).astype(np.float32)
    )
    return np.arange(rows) + 100 * seed, SparseCode.from_dense(dense), stream.random(rows)


def append(spool, seeds):
    for seed in seeds:
        spool.append(*piece(seed))


def found(spool):
    return [(one.token.tolist(), one.code(5).to_dense().tolist()) for one in spool.read()]


def test_pieces_come_back_as_they_were(tmp_path):
    spool = Spool(tmp_path / "s", {"a": 1})
    append(spool, range(3))
    spool.commit()
    assert found(spool) == [(piece(i)[0].tolist(), piece(i)[1].to_dense().tolist()) for i in range(3)]
    dark = np.concatenate([one.dark for one in spool.read()])
    np.testing.assert_allclose(dark, np.concatenate([piece(i)[2] for i in range(3)]), atol=1e-3)
    spool.remove()
    assert not (tmp_path / "s").exists()


def test_a_second_builder_goes_on_after_the_last_commit(tmp_path):
    first = Spool(tmp_path / "s", {"a": 1})
    append(first, range(2))
    first.commit()
    append(first, [2])
    first.close()  # written, but never committed: as after a kill
    second = Spool(tmp_path / "s", {"a": 1})
    assert (second.pieces, second.rows) == (2, 12)
    append(second, [2])
    second.commit()
    assert [token for token, _ in found(second)] == [piece(i)[0].tolist() for i in range(3)]
    second.close()


def test_another_request_starts_afresh(tmp_path):
    first = Spool(tmp_path / "s", {"a": 1})
    append(first, range(2))
    first.commit()
    first.close()
    second = Spool(tmp_path / "s", {"a": 2})
    assert second.pieces == 0 and not found(second)
    second.close()


@pytest.mark.parametrize("count", [0, 7])
def test_scratch_is_zero_and_goes_with_the_spool(tmp_path, count):
    spool = Spool(tmp_path / "s", {})
    room = spool.scratch("x", count)
    assert room.shape == (count,) and not room.any()
    spool.remove()
