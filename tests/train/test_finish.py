import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from monoscope.core.blocks import ActivationBlock
from monoscope.core.site import Site
from monoscope.dictionary.rule import TrainingRule
from monoscope.harvest.feed import reserved_rows
from monoscope.harvest.shards import ShardStore
from monoscope.train.finish import finish, fold, measure
from monoscope.train.learner import Learner, Scaling, Spaces
from monoscope.train.recipes import RULES, Recipe

BIN = 2 ** (1 / 16)


def _rows(shards: ShardStore, split: str, count: int) -> Tensor:
    return torch.cat([block.x for block in shards.blocks(split)])[:count].float()


def _scaled_space(learner: Learner, spaces: Spaces, threshold: float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, reconstruction and margins as training computes them, in float64."""
    scaling = spaces.reads
    scaled = (x.double() - scaling.mean.double()) / scaling.scale
    pre = scaled @ learner.encoder.double().T + learner.b_enc.double()
    code = torch.where(pre > threshold, pre, 0.0)
    found = code @ learner.decoder.double() + learner.b_dec.double()
    return code, found * scaling.scale + scaling.mean.double(), (pre - threshold).abs()


def _plain(mean: Tensor, scale: float) -> Spaces:
    return Spaces(scaling := Scaling(mean, scale), scaling)


def test_the_folded_dictionary_is_the_trained_one(toy_trained: Any, toy_shards: ShardStore) -> None:
    x = _rows(toy_shards, "held", 500)
    learner, spaces, dictionary = toy_trained.learner, toy_trained.scaling, toy_trained.dictionary
    scaling = spaces.reads
    # The threshold is the one of training but for the factor that sets L0, which is the same for all latents.
    threshold = float(dictionary.weights.threshold[0]) / scaling.scale
    assert 0.75 <= threshold / float(learner.rule_state["threshold"]) <= 1.25
    code, wanted, margin = _scaled_space(learner, spaces, threshold, x)
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
    weights = fold(learner, _plain(torch.zeros(2), 1.0), recipe.rule())
    assert weights.W_enc[:, 0].tolist() == [0.5, 0.0]
    x = torch.tensor([[1.0, 2.0]])
    code = (x @ weights.W_enc + weights.b_enc).relu()
    assert code[0].tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert (code @ weights.W_dec + weights.b_dec)[0].tolist() == pytest.approx([0.6, 1.0])
    # With a mean and a scale the same happens to the same scaled activations.
    mean, scale = torch.tensor([3.0, -4.0]), 2.5
    weights = fold(learner, _plain(mean, scale), recipe.rule())
    code = ((scale * x + mean) @ weights.W_enc + weights.b_enc).relu()
    assert code[0].tolist() == pytest.approx([1.25, 2.5, 0.0], abs=1e-5)
    found = code @ weights.W_dec + weights.b_dec
    assert found[0].tolist() == pytest.approx([2.5 * 0.6 + 3, 2.5 * 1.0 - 4], abs=1e-5)
    torch.testing.assert_close(weights.W_dec.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("arch", ["topk", "relu"])
def test_every_architecture_folds_to_what_it_learnt(arch: str, toy_shards: ShardStore) -> None:
    x = _rows(toy_shards, "train", 400)
    recipe = Recipe(arch=arch, latents=64, k=4, penalty=5.0 if arch == "relu" else None)
    rule = recipe.rule()
    spaces = Spaces.measure(x, x.shape[1])
    scaling = spaces.reads
    learner = Learner.begin(rule, recipe, scaling.apply(x))
    learner.b_enc.copy_(0.05 * torch.randn(64))
    learner.b_dec.copy_(torch.randn(x.shape[1]))
    if not rule.unit_decoder:
        learner.decoder.mul_(torch.rand(64, 1) + 0.5)
    dictionary, probe = finish(learner, spaces, recipe, toy_shards, name=arch)
    code, wanted, _ = _scaled_space(learner, spaces, 0.0, x)
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


class TwoSites:
    """Pairs of rows of two sites, as `harvest.pairs` gives them, made from one by a fixed map."""

    def __init__(self, shards: ShardStore) -> None:
        self._shards, self.site, self.target, self.sink_limit = shards, shards.site, Site(7, "mlp_out"), 1e9
        self.d_in, self.d_model = shards.d_model, shards.d_model + 5
        self._map = torch.randn(self.d_in, 5, generator=torch.Generator().manual_seed(4))

    def blocks(self, split: str) -> Iterator[ActivationBlock]:
        for block in self._shards.blocks(split):
            y = (block.x.float() @ self._map).relu() + 2.0
            yield ActivationBlock(torch.cat([block.x.float(), y], 1), block.token)

    def rows(self, split: str) -> int:
        return self._shards.rows(split)

    def shards(self, split: str) -> list[dict[str, Any]]:
        return self._shards.shards(split)

    def read(self, shard: dict[str, Any]) -> ActivationBlock:
        return next(
            block for block, each in zip(self.blocks("train"), self.shards("train"), strict=True) if each is shard
        )


def _learner(arch: str, rows: Any) -> tuple[Recipe, TrainingRule, Learner, Spaces, Tensor]:
    """A learner that is no longer where it began: biases, thresholds and norms are all different."""
    recipe = Recipe(arch=arch, latents=64, k=4)
    rule = recipe.rule()
    sample = torch.cat([block.x for block in rows.blocks("train")])[:400].float()
    spaces = Spaces.measure(sample, rows.d_in)
    x, target = spaces.apply(sample)
    learner = Learner.begin(rule, recipe, x, target if rule.two_sites else None)
    learner.b_enc.add_(0.05 * torch.randn(64))
    learner.b_dec.copy_(0.1 * torch.randn(learner.decoder.shape[1]))
    for tensor in learner.own.values():
        tensor.add_(0.1 * torch.randn(tensor.shape))
    if "threshold" in learner.rule_state:
        learner.rule_state["threshold"].fill_(0.1)
    return recipe, rule, learner, spaces, sample


@pytest.mark.parametrize("arch", sorted(RULES))
def test_going_on_begins_where_the_finished_dictionary_stands(arch: str, toy_shards: ShardStore) -> None:
    rows = TwoSites(toy_shards) if RULES[arch].two_sites else toy_shards
    recipe, rule, learner, spaces, sample = _learner(arch, rows)
    dictionary, _ = finish(learner, spaces, recipe, rows, name=arch)
    other = Spaces.measure(1.7 * sample + 0.3, rows.d_in)
    begun = Learner.begin_from(rule, recipe, dictionary, other)
    again = fold(begun, other, rule)
    for name, tensor in vars(dictionary.weights).items():
        if tensor is not None:
            torch.testing.assert_close(getattr(again, name), tensor, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("arch", ["batchtopk", "matryoshka", "jumprelu", "gated"])
def test_the_stored_thresholds_give_the_l0_that_was_asked_for(arch: str, toy_shards: ShardStore) -> None:
    recipe, _, learner, spaces, _ = _learner(arch, toy_shards)
    x = torch.cat([block.x for block in toy_shards.blocks("train")]).float()
    weights = finish(learner, spaces, recipe, toy_shards, name=arch)[0].weights
    uncalibrated = fold(learner, spaces, recipe.rule())
    factor = (weights.threshold / uncalibrated.threshold.clamp(min=1e-9))[uncalibrated.threshold > 1e-6]
    assert factor.std() < 1e-5 and 0.749 < float(factor[0]) < 1.251
    l0 = finish(learner, spaces, recipe, toy_shards, name=arch)[0].encode(x).l0
    assert l0 == pytest.approx(4.0, rel=0.02) or float(factor[0]) in (pytest.approx(0.75), pytest.approx(1.25))


def test_biases_that_give_the_l0_that_was_asked_for(toy_shards: ShardStore) -> None:
    recipe, _, learner, spaces, _ = _learner("relu", toy_shards)
    learner.b_enc.sub_(0.3)
    fixed = fold(learner, spaces, recipe.rule())
    x = reserved_rows(toy_shards).float()
    before = (x @ fixed.W_enc + fixed.b_enc).relu()
    wanted = 1.1 * float((before > 0).sum(1).float().mean())
    dictionary, _ = finish(learner, spaces, replace(recipe, read_l0=wanted), toy_shards, name="relu")
    shift = dictionary.b_enc - fixed.b_enc
    assert float(shift.max() - shift.min()) < 1e-4 * float(dictionary.stats.mean_norm) and float(shift[0]) > 0
    assert dictionary.encode(x).l0 == pytest.approx(wanted, rel=0.01)
    assert dictionary.settings["read_l0"] == wanted
    # A goal that is far off is not reached by force: the biases move by a quarter of the mean activation.
    far = finish(learner, spaces, replace(recipe, read_l0=63.0), toy_shards, name="relu")[0]
    assert float(far.b_enc[0] - fixed.b_enc[0]) == pytest.approx(float(before[before > 0].mean()) / 4, rel=1e-3)


def test_a_sparser_reading_than_the_training(toy_shards: ShardStore) -> None:
    recipe, _, learner, spaces, _ = _learner("batchtopk", toy_shards)
    x = reserved_rows(toy_shards).float()
    found = [finish(learner, spaces, replace(recipe, read_l0=l0), toy_shards, name="b")[0] for l0 in (None, 2.0)]
    assert found[1].encode(x).l0 == pytest.approx(2.0, rel=0.02)
    assert float(found[1].weights.threshold[0]) > float(found[0].weights.threshold[0])
    torch.testing.assert_close(found[0].W_enc, found[1].W_enc)


@pytest.mark.parametrize("arch", ["transcoder", "skip-transcoder"])
def test_a_folded_transcoder_tells_the_other_site(arch: str, toy_shards: ShardStore) -> None:
    rows = TwoSites(toy_shards)
    recipe, rule, learner, spaces, sample = _learner(arch, rows)
    dictionary, _ = finish(learner, spaces, recipe, rows, name=arch)
    x = sample[:, : rows.d_in]
    scaled = (x.double() - spaces.reads.mean.double()) / spaces.reads.scale
    pre = scaled @ learner.encoder.double().T + learner.b_enc.double()
    threshold = dictionary.weights.threshold.double() / spaces.tells.scale
    code = torch.where(pre > threshold, pre, 0.0)
    wanted = code @ learner.decoder.double() + learner.b_dec.double()
    if arch == "skip-transcoder":
        wanted = wanted + scaled @ learner.own["W_skip"].double()
    wanted = wanted * spaces.tells.scale + spaces.tells.mean.double()
    sound = ((pre - threshold).abs() > 1e-5).all(1)
    assert dictionary.transcodes and dictionary.target == rows.target
    torch.testing.assert_close(dictionary.reconstruct(x)[sound].double(), wanted[sound], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(dictionary.mean_target, spaces.tells.mean)
