"""One step of every architecture against float64 autograd; an architecture without a reference here fails."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.jumprelu import JumpReluRule
from monoscope.dictionary.kernels.choose import kernels_for
from monoscope.dictionary.matryoshka import group_ends
from monoscope.dictionary.rule import TrainingRule
from monoscope.train.learner import Learner, _Tiles, learn
from monoscope.train.recipes import RULES, Recipe

D_IN, D_OUT, N, K, ROWS = 8, 6, 32, 3, 48
CPU = torch.device("cpu")


@dataclass
class Case:
    """A learner before its step, the entries the step will have, and float64 leaves of all it learns."""

    rule: TrainingRule
    learner: Learner
    code: SparseCode
    x: Tensor
    target: Tensor
    leaf: dict[str, Tensor]

    @property
    def pre(self) -> Tensor:
        """The entries' pre-activations: the step's own values, moved by the exact product."""
        rows, indices = self.code.rows, self.code.indices.long()
        exact = (self.x.double()[rows] * self.leaf["encoder"][indices]).sum(1) + self.leaf["b_enc"][indices]
        return self.code.values.double() + exact - exact.detach()

    def dense(self, values: Tensor) -> Tensor:
        where = (self.code.rows, self.code.indices.long())
        return torch.zeros(ROWS, N, dtype=torch.float64).index_put(where, values)

    def error(self, code: Tensor, decoder: Tensor, b_dec: Tensor) -> Tensor:
        return (code @ decoder + b_dec - self.target.double()).square().sum() / ROWS


def _plain(case: Case) -> Tensor:
    return case.error(case.dense(case.pre), case.leaf["decoder"], case.leaf["b_dec"])


def _relu(case: Case) -> Tensor:
    penalty = 0.7 * (case.dense(case.pre) * case.leaf["decoder"].norm(dim=1)).sum() / ROWS / D_OUT**0.5
    return _plain(case) + penalty


def _matryoshka(case: Case) -> Tensor:
    dense, ends = case.dense(case.pre), group_ends(N)
    assert len(ends) == 5 and ends[-1] == N
    losses = [case.error(dense[:, :end], case.leaf["decoder"][:end], case.leaf["b_dec"]) for end in ends]
    return sum(losses) / 5


def _gated(case: Case) -> Tensor:
    indices = case.code.indices.long()
    product = case.pre - case.leaf["b_enc"][indices]
    magnitude = (case.leaf["own.log_scale"].exp()[indices] * product + case.leaf["own.b_mag"][indices]).clamp(min=0)
    frozen = case.leaf["decoder"].detach(), case.leaf["b_dec"].detach()
    main = case.error(case.dense(magnitude), case.leaf["decoder"], case.leaf["b_dec"])
    return main + case.error(case.dense(case.pre), *frozen) + 0.7 * case.pre.sum() / ROWS / D_OUT**0.5


class _Step(torch.autograd.Function):
    """The step of January 2025: the estimator's gradient reaches the log-threshold and, negated, the pre-activation."""

    @staticmethod
    def forward(ctx, pre: Tensor, log_threshold: Tensor, width: float) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(pre, log_threshold)
        ctx.width = width
        return pre * (pre > log_threshold.exp())

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple:  # noqa: ANN001
        pre, log_threshold = ctx.saved_tensors
        level = log_threshold.exp()
        near = ((pre - level).abs() < ctx.width / 2) * level / ctx.width
        return upstream * ((pre > level) + near), -upstream * near, None


def _jumprelu(case: Case) -> Tensor:
    width = float(case.learner.rule_state["width"])
    log_threshold = case.leaf["own.log_threshold"][case.code.indices.long()]
    values = _Step.apply(case.pre, log_threshold, width)
    sparsity = torch.tanh(4 * D_OUT**0.5 * values).sum() / ROWS / D_OUT
    return case.error(case.dense(values), case.leaf["decoder"], case.leaf["b_dec"]) + 0.7 * 0.5 * sparsity


def _skip(case: Case) -> Tensor:
    told = case.dense(case.pre) @ case.leaf["decoder"] + case.leaf["b_dec"]
    told = told + case.x.double() @ case.leaf["own.W_skip"]
    return (told - case.target.double()).square().sum() / ROWS


LOSSES: dict[str, Callable[[Case], Tensor]] = {
    "topk": _plain,
    "batchtopk": _plain,
    "relu": _relu,
    "matryoshka": _matryoshka,
    "gated": _gated,
    "jumprelu": _jumprelu,
    "transcoder": _plain,
    "skip-transcoder": _skip,
}


def _recipe(arch: str, **more: object) -> Recipe:
    settings: dict = {"latents": N, "k": K, "batch_rows": ROWS, "learning_rate": 1e-4, "dead_tokens": 10**9}
    if arch in ("relu", "gated", "jumprelu"):
        settings["penalty"] = 0.7
    return Recipe(arch=arch, **(settings | more))


def _case(arch: str) -> tuple[Recipe, Case]:
    stream = torch.Generator().manual_seed(3)
    recipe = _recipe(arch)
    rule = recipe.rule()
    x = torch.randn(ROWS, D_IN, generator=stream) / D_IN**0.5
    target = (x @ torch.randn(D_IN, D_OUT, generator=stream)).relu() if rule.two_sites else x[:, :D_OUT]
    x = x if rule.two_sites else target
    learner = Learner.begin(rule, recipe, x, target if rule.two_sites else None)
    for tensor in (learner.b_enc, learner.b_dec, *learner.own.values()):
        tensor.add_(0.1 * torch.randn(tensor.shape, generator=stream))
    if not rule.unit_decoder:
        learner.decoder.mul_(torch.rand(N, 1, generator=stream) + 0.5)
    state = {name: tensor.clone() for name, tensor in learner.rule_state.items()}
    code = rule.select(_Tiles(learner, x, None), learner.own, state, kernels_for(CPU))
    leaf = {name: t.double().detach().clone().requires_grad_() for name, t in learner._learnt().items()}
    return recipe, Case(rule, learner, code, x, target, leaf)


@pytest.mark.parametrize("arch", sorted(RULES))
def test_one_step_has_the_gradients_of_float64_autograd(arch: str) -> None:
    recipe, case = _case(arch)
    loss = LOSSES[arch](case)
    loss.backward()
    wanted = {name: leaf.grad for name, leaf in case.leaf.items()}
    rows = case.learner.decoder.double()
    if case.rule.unit_decoder:
        wanted["decoder"] -= (wanted["decoder"] * rows).sum(1, keepdim=True) * rows
    else:
        main = [wanted[name] for name in ("encoder", "decoder", "b_enc", "b_dec")]
        clip = 1 / max(1.0, float(torch.cat([grad.flatten() for grad in main]).norm()))
        wanted = {name: grad * clip for name, grad in wanted.items()}
    with torch.no_grad():
        figures = learn(case.learner, case.rule, recipe, case.x, case.target, share=0.5)
    for name, tensor in case.learner._learnt().items():
        assert wanted[name].abs().max() > 0, name
        torch.testing.assert_close(tensor.grad.double(), wanted[name], atol=5e-6, rtol=1e-3)
    assert figures.loss == pytest.approx(loss.item(), rel=1e-4)


def test_tiles_change_nothing_but_rounding() -> None:
    for arch in sorted(RULES):
        grads = []
        for rows in (None, 7):
            recipe, case = _case(arch)
            recipe = _recipe(arch, tile_rows=rows)
            with torch.no_grad():
                learn(case.learner, case.rule, recipe, case.x, case.target, share=0.5)
            grads.append({name: tensor.grad for name, tensor in case.learner._learnt().items()})
        for name in grads[0]:
            torch.testing.assert_close(grads[0][name], grads[1][name], atol=1e-6, rtol=1e-4)


def test_the_golden_numbers_of_the_estimator() -> None:
    """θ = 0.1, ε = 2: at h = 0.5 the gradient to the log-threshold is -0.05 times what comes from above."""
    pre, log_threshold = torch.tensor([0.5], requires_grad=True), torch.tensor([0.1]).log().requires_grad_()
    _Step.apply(pre, log_threshold, 2.0).sum().backward()
    assert float(log_threshold.grad) == pytest.approx(-0.05)
    assert float(pre.grad) == pytest.approx(1.05)


def test_dead_jumprelu_latents_are_lifted() -> None:
    recipe = _recipe("jumprelu", dead_tokens=100)
    _, case = _case("jumprelu")
    case.learner.encoder[:4] = 0.0
    case.learner.b_enc[:4] = -5.0
    case.learner.silent_rows[:4] = 101
    bias, level = case.learner.b_enc.clone(), case.learner.own["log_threshold"].clone()
    assert isinstance(case.rule, JumpReluRule)
    with torch.no_grad():
        for step in range(20):
            learn(case.learner, case.rule, recipe, case.x, share=step / 20)
    assert (case.learner.b_enc[:4] > bias[:4]).all() and (case.learner.own["log_threshold"][:4] < level[:4]).all()


@pytest.mark.parametrize("arch", ["relu", "gated", "jumprelu"])
@pytest.mark.parametrize("goal", [2.0, 3.5])
def test_a_steered_penalty_reaches_its_l0(arch: str, goal: float) -> None:
    stream = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(48, 24, generator=stream))

    def batch() -> Tensor:
        active = torch.rand(512, 48, generator=stream) < 0.08
        x = (active * torch.rand(512, 48, generator=stream).add(0.5)) @ directions
        x = x - x.mean(0)
        return x / x.square().sum(1).mean().sqrt()

    recipe = Recipe(arch, 64, 3, 300 * 512, 512, 3e-3, target_l0=goal, dead_tokens=10**9)
    rule = recipe.rule()
    learner = Learner.begin(rule, recipe, batch())
    with torch.no_grad():
        shown = [learn(learner, rule, recipe, batch(), share=step / 300).l0 for step in range(300)]
    assert sum(shown[-50:]) / 50 == pytest.approx(goal, rel=0.05)
