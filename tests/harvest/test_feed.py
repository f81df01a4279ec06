from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from monoscope.core.artifact import digest_file, write_tensors
from monoscope.harvest.feed import Cursor, Feed, reserved, reserved_rows
from monoscope.harvest.shards import ShardStore

SIZES = (300, 517, 1, 260, 44)
TOTAL = sum(SIZES)


def numbered_shards(folder: Path, sizes: tuple[int, ...] = SIZES) -> ShardStore:
    """Shards whose rows say their own number: both columns are below 256, where bfloat16 is exact."""
    numbers, shards = torch.arange(sum(sizes)), []
    for place, rows in enumerate(numbers.split(list(sizes))):
        path = folder / f"train-{place:05d}.safetensors"
        x = torch.stack([rows // 256, rows % 256], dim=1).bfloat16()
        write_tensors(path, {"x": x, "token": rows.int()})
        about = {"file": path.name, "split": "train", "rows": len(rows), "bytes": path.stat().st_size}
        shards.append({**about, "digest": digest_file(path)})
    return ShardStore(folder, {"version": 1, "shards": shards, "d_model": 2})


def _numbers(rows: Tensor) -> list[int]:
    return (rows[:, 0].long() * 256 + rows[:, 1].long()).tolist()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardStore:
    return numbered_shards(tmp_path_factory.mktemp("numbered"))


@given(
    batch_rows=st.integers(1, 700), buffer_rows=st.sampled_from([1, 300, 600, 900, 5000]), seed=st.integers(0, 2**20)
)
def test_an_epoch_deals_every_row_once(shards: ShardStore, batch_rows: int, buffer_rows: int, seed: int) -> None:
    feed = Feed(shards, batch_rows=batch_rows, seed=seed, buffer_rows=buffer_rows)
    epochs: dict[int, list[int]] = {0: [], 1: []}
    sizes: dict[tuple[int, int], list[int]] = {}
    cursor = Cursor()
    for rows, following in feed.batches(cursor):
        if cursor.epoch == 2:
            break
        epochs[cursor.epoch] += _numbers(rows)
        sizes.setdefault((cursor.epoch, cursor.buffer), []).append(len(rows))
        cursor = following
    kept_back = reserved(shards, SIZES[-1])
    assert 0 < kept_back < SIZES[-1]
    assert _numbers(reserved_rows(shards)) == list(range(TOTAL - kept_back, TOTAL))
    for dealt in epochs.values():
        assert sorted(dealt) == list(range(TOTAL - kept_back))
    assert epochs[0] != epochs[1] and epochs[0] != sorted(epochs[0])
    for counts in sizes.values():
        assert max(counts) - min(counts) <= 1 and max(counts) <= batch_rows


@given(start=st.integers(0, 60), buffer_rows=st.sampled_from([300, 600, 5000]))
def test_going_on_from_any_cursor_deals_the_same(shards: ShardStore, start: int, buffer_rows: int) -> None:
    def feed() -> Feed:
        return Feed(shards, batch_rows=50, seed=1, buffer_rows=buffer_rows)

    undisturbed = list(islice(feed().batches(Cursor()), start + 30))
    cursor = undisturbed[start - 1][1] if start else Cursor()
    for (rows, following), (wanted, wanted_cursor) in zip(feed().batches(cursor), undisturbed[start:], strict=False):
        assert torch.equal(rows, wanted) and following == wanted_cursor


def test_another_seed_deals_in_another_order(shards: ShardStore) -> None:
    first, second = (next(Feed(shards, batch_rows=64, seed=seed).batches(Cursor()))[0] for seed in (0, 1))
    assert _numbers(first) != _numbers(second)


def test_rows_of_different_shards_are_mixed(shards: ShardStore) -> None:
    rows, _ = next(Feed(shards, batch_rows=128, seed=0).batches(Cursor()))
    large = [place for place, size in enumerate(SIZES) if size > 100]
    bounds = torch.tensor(SIZES).cumsum(0)
    found = set(torch.bucketize(torch.tensor(_numbers(rows)), bounds, right=True).tolist())
    assert found >= set(large)


def test_a_sample_is_the_first_rows(shards: ShardStore) -> None:
    assert _numbers(Feed(shards, batch_rows=64, seed=0).sample(400)) == list(range(400))
    assert len(Feed(shards, batch_rows=64, seed=0).sample(10**6)) == TOTAL
