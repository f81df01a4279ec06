import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from monoscope.core.artifact import digest_file, write_tensors
from monoscope.core.site import Site
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.relu import ReluDictionary
from monoscope.evaluate.fidelity import fidelity
from monoscope.harvest.shards import ShardStore

# Exact in bfloat16.
TOKENS = torch.tensor([[11.0, 0.0], [9.0, 1.0], [10.0, -2.0], [12.0, 3.0]])
FOUND = torch.tensor([[10.5, 0.0], [9.5, 0.5], [10.0, -1.0], [11.0, 2.0]])


def _shards(folder: Path, *parts: Tensor) -> ShardStore:
    shards = []
    for number, x in enumerate(parts):
        path = folder / f"held-{number:05d}.safetensors"
        write_tensors(path, {"x": x.bfloat16(), "token": torch.arange(len(x), dtype=torch.int32)})
        shards.append({"file": path.name, "split": "held", "rows": len(x), "digest": digest_file(path)})
    return ShardStore(folder, {"shards": shards, "d_model": parts[0].shape[1]})


@dataclasses.dataclass
class _Lookup:
    """Gives known reconstructions to known tokens; as far as fidelity sees, a dictionary."""

    shift: Tensor
    stats: Stats
    n_latents: int = 3
    d_in: int = 2
    d_out: int = 2
    transcodes: bool = False

    @property
    def mean_target(self) -> Tensor:
        return self.stats.mean_vector

    def encode(self, x: Tensor) -> SparseCode:
        self._rows = [int((row == TOKENS).all(1).nonzero()) for row in x]
        return SparseCode.from_dense(torch.tensor([[1.0, 0.0, float(row == 0)] for row in self._rows]))

    def complete(self, x: Tensor, code: SparseCode) -> Tensor:
        return FOUND[self._rows] + self.shift


def _stats(mean: Tensor, n_latents: int = 3) -> Stats:
    empty = torch.zeros(n_latents)
    return Stats(empty, empty, empty, mean, 1, 1.0, 1e9)


@pytest.mark.parametrize("about", [[0.0, 0.0], [10.5, 0.5], [-100.0, 64.0]])
@pytest.mark.parametrize("cut", [4, 2, 1])
def test_unexplained_variance_worked_by_hand(cut: int, about: list[float], tmp_path: Path) -> None:
    """The whole set's mean, never a batch's; the vector the sums run about changes nothing."""
    shards = _shards(tmp_path, *TOKENS.split(cut))
    stats = _stats(torch.tensor(about))
    found = fidelity(_Lookup(torch.zeros(2), stats), shards)
    assert found.fvu == pytest.approx(1 - 0.791667, abs=1e-6)
    assert found.tokens == 4 and found.l0 == 1.25 and found.fires.tolist() == [4, 0, 1]
    # A constant shift is an error too; measures that centre the residual would not see it.
    found = fidelity(_Lookup(torch.tensor([1.0, 0.0]), stats), shards)
    assert found.fvu == pytest.approx(1 - 0.680556, abs=1e-6)


def _dictionary(rows: Tensor, bias: float, b_dec: Tensor, stats: Stats) -> Dictionary:
    weights = Weights(rows.T.contiguous(), torch.full((len(rows),), bias), rows, b_dec)
    return ReluDictionary(weights, site=Site(2), name="made", stats=stats, settings={})


def test_a_dictionary_that_keeps_everything_loses_nothing(toy_shards: ShardStore, toy_trained: Any) -> None:
    d = toy_shards.d_model
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    stats = dataclasses.replace(
        toy_trained.dictionary.stats, **dict.fromkeys(("max", "p999", "density"), torch.zeros(2 * d))
    )
    found = fidelity(_dictionary(both, 0.0, torch.zeros(d), stats), toy_shards)
    assert found.fvu < 1e-10
    assert found.cosine == pytest.approx(1.0, abs=1e-5) and found.norm_ratio == pytest.approx(1.0, abs=1e-5)
    assert 0 < found.l0 <= d and found.tokens == toy_shards.rows("held")


def test_a_dictionary_that_only_knows_the_mean_explains_nothing(toy_shards: ShardStore) -> None:
    x = torch.cat([block.x for block in toy_shards.blocks("held")]).double()
    mean = x.mean(0).float()
    silent = _dictionary(torch.eye(toy_shards.d_model), -1e6, mean, _stats(mean, toy_shards.d_model))
    found = fidelity(silent, toy_shards)
    assert found.fvu == pytest.approx(1.0, abs=1e-5)
    assert (found.l0, found.l0_p95, int(found.fires.sum())) == (0, 0, 0)


def test_figures_are_those_of_a_dense_float64_twin(toy_shards: ShardStore, toy_trained: Any) -> None:
    dictionary = toy_trained.dictionary
    x = torch.cat([block.x for block in toy_shards.blocks("held")]).double()
    code = dictionary.encode(x.float()).to_dense().double()
    found = code @ dictionary.W_dec.double() + dictionary.b_dec.double()
    told = fidelity(dictionary, toy_shards)
    assert told.fvu == pytest.approx(float((x - found).square().sum() / (x - x.mean(0)).square().sum()), rel=1e-4)
    assert told.l0 == pytest.approx(float((code > 0).sum(1).double().mean()))
    centre = dictionary.stats.mean_vector.double()
    cosine = torch.cosine_similarity(x - centre, found - centre, dim=1)
    assert told.cosine == pytest.approx(float(cosine.mean()), abs=1e-5)
    assert told.fires.tolist() == (code > 0).sum(0).tolist()
    ratio = (found - centre).norm(dim=1).sum() / (x - centre).norm(dim=1).sum()
    assert told.norm_ratio == pytest.approx(float(ratio), rel=1e-5)
