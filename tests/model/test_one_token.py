"""Products of one token: the same numbers by another way."""

import pytest
import torch
from torch import nn

from monoscope.core.runtime import fast_bfloat16
from monoscope.model import transformer
from monoscope.model.one_token import hasten_one_token
from monoscope.model.transformer import load_model


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(96,), (1, 96), (1, 1, 96), (3, 96), (2, 5, 96), (0, 96)])
def test_the_product_is_that_of_the_matrix(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(96, 160, bias=bias).bfloat16()
    x = torch.randn(shape).bfloat16()
    with torch.inference_mode():
        wanted = plain(x)
        hasten_one_token(nn.Sequential(plain))
        found = plain(x)
    assert type(plain) is not nn.Linear
    assert found.shape == wanted.shape
    assert found.dtype == torch.bfloat16
    if fast_bfloat16():
        assert torch.equal(found, wanted)
    # One unit in the last place of bfloat16: its 8 bits, at numbers below 4.
    torch.testing.assert_close(found, wanted, rtol=2**-7, atol=2**-9)


def test_a_shape_that_does_not_fit_is_refused_as_ever() -> None:
    layer = nn.Sequential(nn.Linear(96, 8).bfloat16())
    hasten_one_token(layer)
    with pytest.raises(RuntimeError, match="shape"):
        layer(torch.zeros(2, 48).bfloat16())


def test_gradients_pass() -> None:
    layer = nn.Sequential(nn.Linear(8, 4).bfloat16())
    x = torch.randn(1, 8).bfloat16()
    layer(x).sum().backward()
    wanted = layer[0].weight.grad.clone()
    layer.zero_grad()
    hasten_one_token(layer)
    assert type(layer[0]) is not nn.Linear
    layer(x).sum().backward()
    assert torch.equal(layer[0].weight.grad, wanted)


def test_other_kinds_of_layers_keep_their_own_way() -> None:
    class Own(nn.Linear):
        pass

    own = Own(4, 4)
    hasten_one_token(nn.Sequential(own))
    assert type(own) is Own


@pytest.mark.parametrize("fast", [True, False])
def test_a_model_keeps_the_names_of_its_weights(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(transformer, "fast_bfloat16", lambda: fast)
    model, plain = load_model("toy", dtype="bfloat16").module, load_model("toy").module
    assert list(model.state_dict()) == list(plain.state_dict())
    maps = {type(part) for part in model.modules() if isinstance(part, nn.Linear)}
    assert (nn.Linear in maps) is not fast
    assert nn.Linear in {type(part) for part in plain.modules()}
