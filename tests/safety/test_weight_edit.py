"""Weights that no longer write along some directions: the algebra, the run, the way back, and the checkpoint."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from monoscope.core.errors import BadNumbers, BadRequest, SiteNotFound
from monoscope.core.site import Site
from monoscope.model.toy import planted_directions
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.safety.weight_edit import (
    WeightEdit,
    check_taken_out,
    output_maps,
    random_subspace,
    rewritten,
    save_checkpoint,
    subspace,
)

IDS = torch.randint(6, 200, (2, 12), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def basis() -> torch.Tensor:
    return subspace(planted_directions()[1][:3])


@pytest.fixture
def gpt2(toy) -> LanguageModel:
    """Conv1D instead of Linear, with biases."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=toy.vocab_size, n_embd=24, n_layer=2, n_head=2, n_positions=64)
    module = GPT2LMHeadModel(config)
    for name, bias in module.named_parameters():
        if name.endswith("c_proj.bias"):
            torch.nn.init.normal_(bias)
    return LanguageModel(module, toy.tokenizer, source="gpt2", digest="")


def test_a_subspace_is_orthonormal_and_spans_what_it_is_of() -> None:
    rows = torch.randn(3, 10)
    basis = subspace(torch.cat([rows, rows[:1] + rows[1:2]]))
    assert basis.shape == (10, 3)
    assert torch.allclose(basis.T @ basis, torch.eye(3), atol=1e-5)
    assert torch.allclose(rows @ basis @ basis.T, rows, atol=1e-4)
    with pytest.raises(BadNumbers, match="all zero"):
        subspace(torch.zeros(2, 10))


def test_only_output_maps_up_to_the_block_are_changed(toy, basis) -> None:
    assert len(output_maps(toy, 1)) == 4
    before = {name: tensor.clone() for name, tensor in toy.module.state_dict().items()}
    with rewritten(toy, WeightEdit(basis, 0.5, 1)):
        after = toy.module.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        weight = before["model.layers.1.mlp.down_proj.weight"]
        projector = basis @ basis.T
        assert torch.allclose(
            after["model.layers.1.mlp.down_proj.weight"], weight - 0.5 * projector @ weight, atol=1e-5
        )
    assert changed <= {
        f"model.layers.{n}.{part}.weight" for n in (0, 1) for part in ("self_attn.o_proj", "mlp.down_proj")
    }
    assert any("layers.1" in name for name in changed)
    with pytest.raises(SiteNotFound):
        output_maps(toy, 99)


def test_the_model_writes_nothing_there_and_has_its_bits_back(toy, basis) -> None:
    plain = toy.logits(IDS)
    early, late = toy.residual(IDS, Site(0)), None
    with pytest.raises(RuntimeError, match="on purpose"), rewritten(toy, WeightEdit(basis, 1.0, 2)):
        late = toy.residual(IDS, Site(2)) - toy.residual(IDS, Site(0))
        assert float((late @ basis).abs().max()) < 1e-4
        assert not torch.equal(toy.logits(IDS), plain)
        raise RuntimeError("on purpose")
    assert torch.equal(toy.logits(IDS), plain), "the weights are restored whatever happens"
    assert torch.equal(toy.residual(IDS, Site(0)), early)
    assert check_taken_out(toy, basis, 2) < 1e-3


def test_twice_turns_round_what_a_block_writes(toy, basis) -> None:
    """In block 0, whose input no edit has changed, but for its MLP, which reads what the attention wrote."""
    embedded = toy.module.get_input_embeddings()(IDS)
    attention = toy.blocks[0].self_attn
    seen: list[torch.Tensor] = []
    handle = attention.register_forward_hook(lambda _part, _inputs, output: seen.append(output[0]))
    toy.residual(IDS, Site(0))
    with rewritten(toy, WeightEdit(basis, 2.0, 0)):
        toy.residual(IDS, Site(0))
    handle.remove()
    assert embedded.shape == seen[0].shape
    assert torch.allclose(seen[1] @ basis, -(seen[0] @ basis), atol=1e-4)
    rest = torch.eye(len(basis)) - basis @ basis.T
    assert torch.allclose(seen[1] @ rest, seen[0] @ rest, atol=1e-4)


def test_other_builds_have_their_biases_taken_out_too(gpt2) -> None:
    basis = random_subspace(24, 2)
    with rewritten(gpt2, WeightEdit(basis, 1.0, 1)):
        wrote = gpt2.residual(IDS, Site(1)) - gpt2.residual(IDS, Site(0))
    assert float((wrote @ basis).abs().max()) < 1e-4
    assert check_taken_out(gpt2, basis, 1) < 1e-3


def test_a_norm_behind_the_output_map_is_refused(toy) -> None:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=toy.vocab_size, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, pad_token_id=0,
    )  # fmt: skip
    module = Gemma2ForCausalLM(config)
    for block in module.model.layers:
        torch.nn.init.normal_(block.post_attention_layernorm.weight, std=3)
        torch.nn.init.normal_(block.post_feedforward_layernorm.weight, std=3)
    model = LanguageModel(module, toy.tokenizer, source="gemma", digest="")
    with pytest.raises(BadRequest, match="norm behind them"):
        check_taken_out(model, random_subspace(16, 2), 1)


def test_the_checkpoint_is_an_ordinary_one(toy, basis, tmp_path) -> None:
    edit, folder = WeightEdit(basis, 1.0, 2), tmp_path / "forgetful"
    save_checkpoint(toy, edit, folder, {"way": "weights"})
    with rewritten(toy, edit):
        wanted = toy.logits(IDS)
    assert not torch.equal(wanted, toy.logits(IDS))
    again = load_model(str(folder))
    assert torch.allclose(again.logits(IDS), wanted, atol=1e-5)
    assert again.encode_text("The rain sees the fog.") == toy.encode_text("The rain sees the fog.")
    assert again.tokenizer.chat_template == toy.tokenizer.chat_template
    assert torch.allclose(AutoModelForCausalLM.from_pretrained(folder)(IDS).logits, wanted, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["forgetful"], "nothing is left aside"
    with pytest.raises(BadRequest, match="there already"):
        save_checkpoint(toy, edit, folder, {})
