from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from monoscope.core.errors import BadNumbers
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.kernels.choose import kernels_for
from monoscope.dictionary.rule import TrainingRule
from monoscope.train.learner import Learner, Scaling, _Tiles, learn, resample
from monoscope.train.recipes import Recipe

CPU = torch.device("cpu")
D, N, K, ROWS = 8, 24, 3, 32


def _recipe(arch: str, **more: object) -> Recipe:
    settings = {"latents": N, "k": K, "batch_rows": ROWS, "learning_rate": 1e-3, "dead_tokens": 10**9}
    if arch == "relu":
        settings["penalty"] = 0.3 * D**0.5
    return Recipe(arch=arch, **(settings | more))


def _basis() -> Tensor:
    return torch.randn(6, D, generator=torch.Generator().manual_seed(99))


def _data(rows: int = ROWS, seed: int = 0) -> Tensor:
    """Centred rows with E|x|² = 1, made of a few directions."""
    stream = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, 6, generator=stream) ** 4 @ _basis() + 0.05 * torch.randn(rows, D, generator=stream)
    x -= x.mean(0)
    return x / x.square().sum(1).mean().sqrt()


def _begin(recipe: Recipe, x: Tensor) -> tuple[Learner, TrainingRule]:
    rule = recipe.rule()
    learner = Learner.begin(rule, recipe, x)
    stream = torch.Generator().manual_seed(5)
    learner.b_enc.copy_(0.1 * torch.randn(len(learner.b_enc), generator=stream))
    learner.b_dec.copy_(0.1 * torch.randn(x.shape[1], generator=stream))
    return learner, rule


def _code(learner: Learner, rule: TrainingRule, x: Tensor) -> SparseCode:
    state = {name: tensor.clone() for name, tensor in learner.rule_state.items()}
    return rule.select(_Tiles(learner, x, None), learner.own, state, kernels_for(CPU))


class Given:
    """Pre-activations as they are."""

    def __init__(self, pre: Tensor) -> None:
        self._pre, self.n_rows = pre, len(pre)

    def __iter__(self) -> Iterator[Tensor]:
        yield self._pre


def _gradients(learner: Learner) -> dict[str, Tensor]:
    return {name: getattr(learner, name).grad.clone() for name in ("encoder", "decoder", "b_enc", "b_dec")}


@pytest.mark.parametrize("arch", ["topk", "batchtopk", "relu"])
def test_one_step_has_the_gradients_of_float64_autograd(arch: str) -> None:
    x = _data()
    recipe = _recipe(arch)
    learner, rule = _begin(recipe, x)
    code = _code(learner, rule, x)
    leaves = {
        name: getattr(learner, name).double().detach().requires_grad_()
        for name in ("encoder", "decoder", "b_enc", "b_dec")
    }
    # The selection and the (bfloat16) values are those of the step; what moves them is the exact product.
    rows, indices = code.rows, code.indices.long()
    pre = (x.double()[rows] * leaves["encoder"][indices]).sum(1) + leaves["b_enc"][indices]
    values = code.values.double() + pre - pre.detach()
    dense = torch.zeros(ROWS, N, dtype=torch.float64).index_put((rows, indices), values)
    loss = (dense @ leaves["decoder"] + leaves["b_dec"] - x.double()).square().sum() / ROWS
    if arch == "relu":
        loss = loss + 0.3 * (dense * leaves["decoder"].norm(dim=1)).sum() / ROWS
    loss.backward()
    wanted = {name: leaf.grad.float() for name, leaf in leaves.items()}
    before = learner.decoder.clone()
    with torch.no_grad():
        figures = learn(learner, rule, recipe, x, share=0.5)
    if arch == "relu":
        norm = torch.cat([grad.flatten() for grad in wanted.values()]).norm()
        wanted = {name: grad / max(float(norm), 1.0) for name, grad in wanted.items()}
    else:
        wanted["decoder"] -= (wanted["decoder"] * before).sum(1, keepdim=True) * before
    for name, found in _gradients(learner).items():
        torch.testing.assert_close(found, wanted[name], atol=2e-6, rtol=2e-4)
    assert figures.loss == pytest.approx(loss.item(), rel=1e-4)
    assert figures.l0 == pytest.approx(code.l0)


def test_the_penalised_loss_worked_by_hand() -> None:
    """x = (1, 2), three latents of which the third is silent: loss 8.66, gradients on paper."""
    recipe = Recipe(arch="relu", latents=3, k=1, batch_rows=1, learning_rate=1e-6, penalty=5.0 * 2**0.5)
    learner = Learner.begin(recipe.rule(), recipe, _data()[:, :2])
    learner.encoder.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]))
    learner.decoder.copy_(torch.tensor([[0.5, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    learner.b_enc.copy_(torch.tensor([0.0, -1.0, 0.5]))
    learner.b_dec.copy_(torch.tensor([0.1, 0.0]))
    with torch.no_grad():
        figures = learn(learner, recipe.rule(), recipe, torch.tensor([[1.0, 2.0]]), share=1.0)
    assert figures.loss == pytest.approx(8.66, rel=1e-5) and figures.l0 == 2
    wanted = {
        "encoder": torch.tensor([[2.1, 4.2], [3.0, 6.0], [0.0, 0.0]]),
        "decoder": torch.tensor([[4.2, -2.0], [-0.8, 3.0], [0.0, 0.0]]),
        "b_enc": torch.tensor([2.1, 3.0, 0.0]),
        "b_dec": torch.tensor([-0.8, -2.0]),
    }
    norm = torch.cat([grad.flatten() for grad in wanted.values()]).norm()
    for name, found in _gradients(learner).items():
        torch.testing.assert_close(found * norm, wanted[name], atol=1e-5, rtol=1e-4)


def test_the_penalty_rises_over_the_first_twentieth() -> None:
    recipe = Recipe(arch="relu", latents=3, k=1, batch_rows=1, learning_rate=1e-6, penalty=5.0 * 2**0.5)
    losses = {}
    for share in (0.0, 0.025, 0.05, 0.9):
        learner = Learner.begin(recipe.rule(), recipe, _data()[:, :2])
        with torch.no_grad():
            losses[share] = learn(learner, recipe.rule(), recipe, torch.tensor([[1.0, 2.0]]), share=share).loss
    added = {share: loss - losses[0.0] for share, loss in losses.items()}
    assert added[0.05] > 0 and added[0.025] == pytest.approx(added[0.05] / 2) and added[0.9] == added[0.05]


@pytest.mark.parametrize("arch", ["topk", "batchtopk"])
def test_the_first_encoder_has_the_best_single_factor(arch: str) -> None:
    x = _data(512)
    recipe = _recipe(arch, latents=64)
    rule = recipe.rule()
    learner = Learner.begin(rule, recipe, x)

    def unexplained(factor: float) -> float:
        code = rule.begin_code(factor * x @ learner.decoder.T, float(K), kernels_for(CPU))
        found = code.to_dense().double() @ learner.decoder.double()
        return float((x - found).square().sum() / x.square().sum())

    factors = learner.encoder / learner.decoder
    chosen = float(factors.mean())
    torch.testing.assert_close(factors, torch.full_like(factors, chosen), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(learner.decoder.norm(dim=1), torch.ones(64))
    assert unexplained(chosen) < 0.9 * unexplained(1.0)
    assert all(unexplained(chosen) < unexplained(chosen * other) for other in (0.5, 0.8, 0.97, 1.03, 1.25, 2.0))


@pytest.mark.parametrize("arch", ["topk", "batchtopk"])
def test_decoder_rows_keep_norm_one(arch: str) -> None:
    recipe = _recipe(arch, learning_rate=0.05, dead_tokens=40)
    learner, rule = _begin(recipe, _data())
    with torch.no_grad():
        for step in range(12):
            learn(learner, rule, recipe, _data(seed=step), share=step / 12)
            torch.testing.assert_close(learner.decoder.norm(dim=1), torch.ones(N), atol=1e-6, rtol=0)


def test_learning_explains_more() -> None:
    recipe = _recipe("batchtopk", learning_rate=0.01)
    learner, rule = _begin(recipe, _data())
    with torch.no_grad():
        shown = [learn(learner, rule, recipe, _data(256, seed=step), share=0.5) for step in range(200)]
    assert shown[-1].fvu < 0.5 * shown[0].fvu
    assert all(figures.l0 == pytest.approx(K) for figures in shown)


def test_the_threshold_remembers_the_least_value_kept() -> None:
    recipe = _recipe("batchtopk")
    learner, rule = _begin(recipe, _data())
    pre = torch.tensor([[0.9, 0.8, 0.7, -1.0], [0.2, 0.1, 0.65, 0.05]])
    rule = type(rule)(2)
    state = rule.start_state()
    rule.select(Given(pre), {}, state, kernels_for(CPU))
    assert float(state["threshold"]) == pytest.approx(0.65)
    rule.select(Given(2 * pre), {}, state, kernels_for(CPU))
    assert float(state["threshold"]) == pytest.approx(0.99 * 0.65 + 0.01 * 1.3)


def _with_dead(dead: Tensor, recipe: Recipe, x: Tensor) -> tuple[Learner, TrainingRule]:
    """Latents that look away from the data, faintly: they read the opposite of its directions and are never chosen."""
    learner, rule = _begin(recipe, x)
    learner.b_enc.zero_()
    learner.encoder[dead] = -0.01 * torch.nn.functional.normalize(_basis()[dead])
    learner.silent_rows[dead] = recipe.dead_tokens + 1
    return learner, rule


@pytest.mark.parametrize("arch", ["topk", "batchtopk"])
def test_dead_latents_get_gradients_encoder_included(arch: str) -> None:
    x, dead = _data(256), torch.arange(4)
    recipe = _recipe(arch)
    learner, rule = _with_dead(dead, recipe, x)
    code = _code(learner, rule, x)
    assert not torch.isin(code.indices, dead).any()
    with torch.no_grad():
        assert learn(learner, rule, recipe, x, share=0.5).dead == len(dead)
    for name in ("encoder", "decoder"):
        assert (getattr(learner, name).grad[dead].norm(dim=1) > 0).all()


def test_without_help_dead_latents_get_none() -> None:
    x, dead = _data(256), torch.arange(4)
    recipe = _recipe("topk")
    learner, rule = _with_dead(dead, recipe, x)
    learner.silent_rows.zero_()
    with torch.no_grad():
        assert learn(learner, rule, recipe, x, share=0.5).dead == 0
    assert not learner.encoder.grad[dead].any() and not learner.decoder.grad[dead].any()


def test_the_help_is_the_gradient_of_its_loss() -> None:
    """1/32 of the share of what is missing that the dead do not explain, by float64 autograd."""
    x, dead = _data(100), torch.arange(5)
    recipe = _recipe("topk")
    learner, rule = _with_dead(dead, recipe, x)
    plain, _ = _with_dead(dead, recipe, x)
    plain.silent_rows.zero_()
    code = _code(learner, rule, x)
    missing = x.double() - (code.to_dense().double() @ learner.decoder.double() + learner.b_dec.double())
    encoder, decoder = (getattr(learner, n)[dead].double().requires_grad_() for n in ("encoder", "decoder"))
    exact = x.double() @ encoder.T
    values = exact.clamp(min=0)
    loss = (missing - values @ decoder).square().sum() / (missing - missing.mean(0)).square().sum() / 32
    loss.backward()
    before = learner.decoder[dead].clone()
    with torch.no_grad():
        learn(learner, rule, recipe, x, share=0.5)
        learn(plain, rule, recipe, x, share=0.5)
    added = learner.encoder.grad[dead] - plain.encoder.grad[dead]
    torch.testing.assert_close(added, encoder.grad.float(), rtol=2e-3, atol=1e-8)
    wanted = decoder.grad.float() - (decoder.grad.float() * before).sum(1, keepdim=True) * before
    added = learner.decoder.grad[dead] - plain.decoder.grad[dead]
    torch.testing.assert_close(added, wanted, rtol=2e-3, atol=1e-8)


@pytest.mark.parametrize("helped", [True, False])
def test_the_dead_come_back_when_they_are_helped(helped: bool) -> None:
    dead = torch.arange(6)
    recipe = _recipe("batchtopk", learning_rate=0.01, dead_tokens=1000 if helped else 10**9)
    learner, rule = _with_dead(dead, recipe, _data(256))
    learner.silent_rows[dead] = 1001
    fired = torch.zeros(N, dtype=torch.long)
    with torch.no_grad():
        for step in range(200):
            learn(learner, rule, recipe, _data(256, seed=step), share=0.5)
            fired += learner.silent_rows == 0
    assert (fired[dead] > 0).tolist() == [helped] * 6


def test_numbers_that_are_none_stop_the_step_and_leave_the_weights() -> None:
    recipe = _recipe("topk")
    learner, rule = _begin(recipe, _data())
    before = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    x = _data()
    x[3, 3] = float("inf")
    with pytest.raises(BadNumbers), torch.no_grad():
        learn(learner, rule, recipe, x, share=0.5)
    for name in ("encoder", "decoder", "b_enc", "b_dec"):
        assert torch.equal(learner.tensors()[name], before[name])


def test_scaling_centres_and_sets_the_mean_square() -> None:
    scaled = (scaling := Scaling.measure(x := 7.0 + 3.0 * torch.randn(20_000, D))).apply(x).double()
    assert scaled.mean(0).abs().max() < 1e-4 and scaling.scale > 0
    assert float(scaled.square().sum(1).mean()) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("x", [torch.ones(10, 3), torch.full((10, 3), float("nan"))])
def test_activations_that_do_not_vary_are_refused(x: Tensor) -> None:
    with pytest.raises(BadNumbers, match="do not vary"):
        Scaling.measure(x)


@pytest.mark.parametrize("arch", ["batchtopk", "gated"])
def test_resampled_latents_stand_where_the_error_is(arch: str) -> None:
    x, dead = _data(256), torch.arange(4)
    recipe = _recipe(arch, dead_tokens=100)
    learner, rule = _with_dead(dead, recipe, x)
    with torch.no_grad():
        learn(learner, rule, recipe, x, share=0.5)
        learner.silent_rows.zero_()[dead] = 101
        others = torch.arange(4, N)
        before = learner.decoder[others].clone()
        assert resample(learner, rule, recipe, x, x, step=3) == 4
    assert torch.equal(learner.decoder[others], before) and not learner.silent_rows[dead].any()
    torch.testing.assert_close(learner.b_enc[dead], learner.b_enc[others].median().expand(4))
    torch.testing.assert_close(learner.decoder[dead].norm(dim=1), torch.ones(4))
    # Each looks along a row of the batch and writes what that row's reconstruction lacks.
    directions = torch.nn.functional.normalize(x)
    assert ((torch.nn.functional.normalize(learner.encoder[dead]) @ directions.T).amax(1) > 0.9999).all()
    for name in ("exp_avg", "exp_avg_sq"):
        assert not learner.optimiser.state[learner.encoder][name][dead].any()
    with torch.no_grad():
        twin, _ = _with_dead(dead, recipe, x)
        assert resample(twin, rule, _recipe(arch), x, x, step=3) == 0  # nothing is dead for so patient a recipe
