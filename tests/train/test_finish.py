import math
from typing import Any

import pytest
import torch
from torch import Tensor

from monoscope.harvest.shards import ShardStore
from monoscope.train.finish import finish, fold, measure
from monoscope.train.learner import Learner, Scaling
from monoscope.train.recipes import Recipe

BIN = 2 ** (1 / 16)


def _rows(shards: ShardStore, split: str, count: int) -> Tensor:
    return torch.cat([block.x for block in shards.blocks(split)])[:count].float()


def _scaled_space(learner: Learner, scaling: Scaling, threshold: float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, reconstruction and margins as training computes them, in float64."""
    scaled = (x.double() - scaling.mean.double()) / scaling.scale
    pre = scaled @ learner.encoder.double().T + learner.b_enc.double()
    code = torch.where(pre > threshold, pre, 0.0)
    found = code @ learner.decoder.double() + learner.b_dec.double()
    return code, found * scaling.scale + scaling.mean.double(), (pre - threshold).abs()


def test_the_folded_dictionary_is_the_trained_one(toy_trained: Any, toy_shards: ShardStore) -> None:
    x = _rows(toy_shards, "held", 500)
    learner, scaling, dictionary = toy_trained.learner, toy_trained.scaling, toy_trained.dictionary
    code, wanted, margin = _scaled_space(learner, scaling, float(learner.rule_state["threshold"]), x)
    sound = (margin > 1e-5).all(1)
    assert sound.float().mean() > 0.95
    found = dictionary.encode(x)
    torch.testing.assert_close(found.to_dense()[sound].double(), scaling.scale * code[sound], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(dictionary.decode(found)[sound].double(), wanted[sound], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(dictionary.n_latents), atol=1e-6, rtol=0)


def test_folding_takes_free_norms_into_the_encoder() -> None:
    """One latent on paper: the example of the penalised loss, with decoder rows of norm a half, one and root two."""
    recipe = Recipe(arch="relu", latents=3, k=1)
    learner = Learner.begin(recipe.rule(), recipe, torch.randn(10, 2))
    learner.encoder.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]))
    learner.decoder.copy_(torch.tensor([[0.5, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    learner.b_enc.copy_(torch.tensor([0.0, -1.0, 0.5]))
    learner.b_dec.copy_(torch.tensor([0.1, 0.0]))
    weights = fold(learner, Scaling(torch.zeros(2), 1.0), recipe.rule())
    assert weights.W_enc[:, 0].tolist() == [0.5, 0.0]
    x = torch.tensor([[1.0, 2.0]])
    code = (x @ weights.W_enc + weights.b_enc).relu()
    assert code[0].tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert (code @ weights.W_dec + weights.b_dec)[0].tolist() == pytest.approx([0.6, 1.0])
    # With a mean and a scale the same happens to the same scaled activations.
    mean, scale = torch.tensor([3.0, -4.0]), 2.5
    weights = fold(learner, Scaling(mean, scale), recipe.rule())
    code = ((scale * x + mean) @ weights.W_enc + weights.b_enc).relu()
    assert code[0].tolist() == pytest.approx([1.25, 2.5, 0.0], abs=1e-5)
    found = code @ weights.W_dec + weights.b_dec
    assert found[0].tolist() == pytest.approx([2.5 * 0.6 + 3, 2.5 * 1.0 - 4], abs=1e-5)
    torch.testing.assert_close(weights.W_dec.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("arch", ["topk", "relu"])
def test_every_architecture_folds_to_what_it_learnt(arch: str, toy_shards: ShardStore) -> None:
    x = _rows(toy_shards, "train", 400)
    recipe = Recipe(arch=arch, latents=64, k=4)
    rule = recipe.rule()
    scaling = Scaling.measure(x, mean_square=1.0 if rule.unit_decoder else x.shape[1])
    learner = Learner.begin(rule, recipe, scaling.apply(x))
    learner.b_enc.copy_(0.05 * torch.randn(64))
    learner.b_dec.copy_(torch.randn(x.shape[1]))
    if not rule.unit_decoder:
        learner.decoder.mul_(torch.rand(64, 1) + 0.5)
    dictionary, probe = finish(learner, scaling, recipe, toy_shards, name=arch)
    code, wanted, _ = _scaled_space(learner, scaling, 0.0, x)
    if arch == "topk":
        kept = torch.zeros_like(code).scatter_(1, (top := code.topk(4, dim=1)).indices, top.values)
        wanted = (kept @ learner.decoder.double() + learner.b_dec.double()) * scaling.scale + scaling.mean.double()
        code = kept
    found = dictionary.encode(x)
    norms = learner.decoder.double().norm(dim=1)
    torch.testing.assert_close(found.to_dense().double(), scaling.scale * norms * code, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(dictionary.decode(found).double(), wanted, rtol=1e-5, atol=1e-4)
    assert torch.equal(probe, x[:64])


def test_statistics_are_those_of_brute_force(toy_trained: Any, toy_shards: ShardStore) -> None:
    dictionary = toy_trained.dictionary
    x = torch.cat([block.x for block in toy_shards.blocks("train")]).float()
    stats, _ = measure(dictionary, toy_shards)
    dense = dictionary.encode(x).to_dense()
    assert stats.tokens == len(x)
    torch.testing.assert_close(stats.max, dense.amax(0))
    torch.testing.assert_close(stats.density, (dense > 0).float().mean(0))
    torch.testing.assert_close(stats.mean_vector, x.double().mean(0).float())
    assert stats.mean_norm == pytest.approx(float(x.norm(dim=1).mean()), rel=1e-5)
    assert stats.sink_limit == toy_shards.sink_limit
    checked = 0
    for latent in range(dictionary.n_latents):
        values = dense[:, latent][dense[:, latent] > 0].sort().values
        if len(values):
            exact = float(values[math.ceil(0.999 * len(values)) - 1])
            assert exact * 0.999 <= float(stats.p999[latent]) <= min(exact * BIN * 1.001, float(values[-1]) * 1.001)
            checked += 1
        else:
            assert stats.p999[latent] == stats.max[latent] == stats.density[latent] == 0
    assert checked > 48


def test_what_is_saved_has_these_statistics(toy_trained: Any, toy_shards: ShardStore) -> None:
    stats, _ = measure(toy_trained.dictionary, toy_shards)
    kept = toy_trained.dictionary.stats
    assert torch.equal(stats.max, kept.max) and torch.equal(stats.density, kept.density)
    assert (stats.tokens, stats.sink_limit) == (kept.tokens, kept.sink_limit)
