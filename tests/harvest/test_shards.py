import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from monoscope.core.artifact import digest_file
from monoscope.core.errors import ArtifactNotFound, BadNumbers, Damaged, RequestDiffers
from monoscope.core.site import Site
from monoscope.harvest.shards import ShardStore, repair, write_shards
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel


@pytest.fixture
def copy(toy_shards: ShardStore, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_shards.folder, tmp_path / "copy"))


def test_rows_are_the_models_activations_of_their_tokens(
    toy: LanguageModel, toy_store: TokenStore, toy_shards: ShardStore
) -> None:
    blocks = list(toy_shards.blocks("all"))
    x, token = torch.cat([b.x for b in blocks]), torch.cat([b.token for b in blocks]).long()
    assert x.dtype == torch.bfloat16 and len(token) == len(set(token.tolist()))
    windows = toy_store.windows
    for number in range(0, len(windows), 29):
        start, length = int(windows.start[number]), int(windows.length[number])
        # The window alone, without padding: a start token in front unless the text brings its own.
        own = toy_store.ids[start : start + length].long()
        prefix = int(windows.prefixed[number])
        ids = torch.cat([torch.tensor([toy_store.prefix_id] * prefix), own]).long()
        wanted = toy.residual(ids[None], toy_shards.site)[0, prefix:]
        here = (token >= start) & (token < start + length)
        assert here.sum() >= length - 2
        torch.testing.assert_close(x[here].float(), wanted[token[here] - start], atol=0.02, rtol=0.01)


def test_only_sinks_are_missing(toy_store: TokenStore, toy_shards: ShardStore) -> None:
    found = {split: torch.cat([b.token for b in toy_shards.blocks(split)]).long() for split in ("train", "held")}
    both = torch.cat([found["train"], found["held"]])
    assert len(both) == len(both.unique()) == toy_shards.rows("all")
    manifest = toy_shards.manifest
    assert manifest["tokens"] == toy_store.n_tokens
    assert manifest["rows"] == manifest["tokens"] - manifest["sinks"] - manifest["thinned"]
    held = toy_store.held_documents
    assert held[toy_store.document_of(found["held"])].all()
    assert not held[toy_store.document_of(found["train"])].any()
    for block in toy_shards.blocks("all"):
        assert (block.x.float().norm(dim=1) <= toy_shards.sink_limit * 1.01).all()


def test_a_second_harvest_has_the_same_bytes(
    toy: LanguageModel, toy_store: TokenStore, toy_shards: ShardStore, tmp_path: Path
) -> None:
    again = write_shards(tmp_path, toy, toy_store, toy_shards.site, request=toy_shards.manifest["request"])
    assert again.digest == toy_shards.digest
    assert (tmp_path / "manifest.json").read_bytes() == (toy_shards.folder / "manifest.json").read_bytes()


def test_a_half_finished_harvest_is_continued(
    toy: LanguageModel, toy_store: TokenStore, toy_shards: ShardStore, copy: Path
) -> None:
    kept = copy / "held-00000.safetensors"
    before = kept.stat().st_mtime_ns
    (copy / "manifest.json").unlink()
    (copy / "train-00000.safetensors").unlink()
    (copy / ".train-00000.safetensors.abc.part").write_bytes(b"half")
    with pytest.raises(ArtifactNotFound, match="monoscope harvest"):
        ShardStore.load(copy)
    store = write_shards(copy, toy, toy_store, toy_shards.site, request=toy_shards.manifest["request"])
    assert store.digest == toy_shards.digest and kept.stat().st_mtime_ns == before
    assert not list(copy.glob(".*"))


def test_another_request_does_not_mix_with_what_is_there(toy: LanguageModel, toy_store: TokenStore, copy: Path) -> None:
    with pytest.raises(RequestDiffers, match="site was 'resid_post.2' and is now 'resid_post.1'"):
        write_shards(copy, toy, toy_store, Site(1), request={"site": "resid_post.1", "text": "toy"})


def test_a_missing_or_short_shard_is_named_on_opening(copy: Path) -> None:
    path = copy / "train-00000.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Damaged, match=r"train-00000.*repair"):
        ShardStore.load(copy)
    path.unlink()
    with pytest.raises(Damaged, match=r"train-00000.*repair"):
        ShardStore.load(copy)


def test_a_flipped_bit_is_named_on_reading_and_repaired(
    toy: LanguageModel, toy_store: TokenStore, toy_shards: ShardStore, copy: Path
) -> None:
    path = copy / "held-00000.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    store = ShardStore.load(copy)
    with pytest.raises(Damaged, match=r"held-00000.*repair"):
        list(store.blocks("held"))
    assert len(list(store.blocks("train"))) == 1
    assert repair(copy) == [path]
    with pytest.raises(ArtifactNotFound):
        ShardStore.load(copy)
    again = write_shards(copy, toy, toy_store, toy_shards.site, request=toy_shards.manifest["request"])
    assert again.digest == toy_shards.digest and repair(copy) == []
    assert digest_file(path) == digest_file(toy_shards.folder / path.name)


def test_another_version_is_refused(copy: Path) -> None:
    about = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**about, "version": 9}))
    with pytest.raises(Damaged, match="version 9"):
        ShardStore.load(copy)


@dataclasses.dataclass
class _Broken:
    """A model that gives NaN in the windows that hold a certain token."""

    model: LanguageModel
    token: int

    def residual(self, ids: torch.Tensor, site: Site) -> torch.Tensor:
        x = self.model.residual(ids, site).clone()
        x[(ids == self.token).any(1), -1] = float("nan")
        return x


def test_a_model_that_gives_nan_is_refused_and_nothing_is_finished(
    toy: LanguageModel, toy_store: TokenStore, tmp_path: Path
) -> None:
    broken = _Broken(toy, int(toy_store.ids[5]))
    with pytest.raises(BadNumbers, match="resid_post.2"):
        write_shards(tmp_path, broken, toy_store, Site(2), request={"site": "resid_post.2"})
    assert not (tmp_path / "manifest.json").exists()
    assert not list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob(".*"))
