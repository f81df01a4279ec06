import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from monoscope.core.errors import BadRequest, SiteNotFound
from monoscope.core.site import Site
from monoscope.model.structure import find_blocks
from monoscope.model.transformer import LanguageModel, load_model

from .tiny import CONFIGS, tiny

IDS = torch.tensor([[0, 17, 300, 301, 42, 8], [0, 99, 5, 6, 7, 30]])


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny(request.param)


@pytest.fixture(scope="module")
def toy() -> LanguageModel:
    return load_model("toy")


def test_sizes_come_from_the_model(model: LanguageModel):
    assert (model.n_layers, model.d_model, model.vocab_size, model.context_limit) == (3, 32, 1000, 64)


def test_residual_is_the_hidden_state_after_the_block(model: LanguageModel):
    with torch.inference_mode():
        states = model.module(input_ids=IDS, output_hidden_states=True).hidden_states
    for layer in range(model.n_layers - 1):  # the last entry of hidden_states is after the final norm
        torch.testing.assert_close(model.residual(IDS, Site(layer)), states[layer + 1])


def test_residual_at_the_last_block_is_before_the_final_norm(model: LanguageModel):
    stream = model.residual(IDS, Site(2))
    logits = model.logits(IDS)
    mean = stream.mean(-1, keepdim=True) if model.source in ("gpt2", "gpt_neox") else 0.0
    centred = stream - mean
    config = model.module.config.get_text_config()
    eps = next(
        getattr(config, n) for n in ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps") if hasattr(config, n)
    )
    normalised = centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    read = normalised @ model.unembedding().T
    if model.source in ("gpt2", "gpt_neox"):  # the norm's bias adds the same to every position
        read, logits = read - read[:, :1], logits - logits[:, :1]
    if cap := getattr(config, "final_logit_softcapping", None):
        read = cap * torch.tanh(read / cap)
    torch.testing.assert_close(read, logits, atol=2e-4, rtol=2e-3)


def test_right_padding_changes_nothing_before_it(model: LanguageModel):
    alone = model.residual(IDS[:1, :4], Site(1))
    padded = model.residual(IDS, Site(1))[:1, :4]
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-4)


def test_the_blocks_above_the_site_do_not_run():
    model = tiny("llama")
    ran = []
    for block in model.blocks:
        block.register_forward_hook(lambda *_: ran.append(1))
    model.residual(IDS, Site(0))
    assert len(ran) <= 1


def test_identity_changes_nothing_and_a_vector_changes_logits(model: LanguageModel):
    plain = model.logits(IDS)
    torch.testing.assert_close(model.logits(IDS, site=Site(1), change=lambda x: x), plain)
    moved = model.logits(IDS, site=Site(1), change=lambda x: x + torch.linspace(-2, 2, 32))
    assert (moved - plain).abs().max() > 0.05


def test_the_change_is_what_the_next_block_reads(model: LanguageModel):
    other = model.residual(IDS.flip(0), Site(1))
    swapped = model.logits(IDS, site=Site(1), change=lambda _: other)
    torch.testing.assert_close(swapped, model.logits(IDS.flip(0)))


def test_hooks_are_removed_after_an_exception(model: LanguageModel):
    def broken(_x: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    before = [len(block._forward_hooks) for block in model.blocks]
    with pytest.raises(ZeroDivisionError):
        model.logits(IDS, site=Site(1), change=broken)
    with pytest.raises(IndexError):
        model.residual(torch.full((1, 3), 5000), Site(1))
    assert [len(block._forward_hooks) for block in model.blocks] == before


def test_tuple_outputs_are_accepted():
    class Old(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block
            self.attention_type = getattr(block, "attention_type", None)

        def forward(self, *args, **kwargs):
            return (self.block(*args, **kwargs), "cache")

    class Unwrap(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.old = Old(block)

        def forward(self, *args, **kwargs):
            return self.old(*args, **kwargs)[0]

    model = tiny("llama")
    plain, stream = model.logits(IDS), model.residual(IDS, Site(1))
    wrapped = Unwrap(model.blocks[1])
    model.module.model.layers[1] = wrapped
    model.blocks[1] = wrapped.old
    torch.testing.assert_close(model.residual(IDS, Site(1)), stream)
    torch.testing.assert_close(model.logits(IDS, site=Site(1), change=lambda x: x), plain)
    assert not torch.equal(model.logits(IDS, site=Site(1), change=lambda x: -x), plain)


def test_a_site_that_is_not_there_is_told_with_the_depth(toy: LanguageModel):
    with pytest.raises(SiteNotFound, match=r"4 blocks.*resid_post\.3.*no resid_post\.4"):
        toy.check_site(Site(4))


def test_the_path_of_the_blocks_can_be_given():
    module = LlamaForCausalLM(LlamaConfig(**CONFIGS["llama"].to_diff_dict()))
    assert find_blocks(module, "model.layers") == list(module.model.layers)
    with pytest.raises(SiteNotFound, match="no part 'nowhere'"):
        find_blocks(module, "nowhere")
    with pytest.raises(SiteNotFound, match="not a list"):
        find_blocks(module, "model.norm")


def test_two_lists_of_the_right_length_are_not_guessed_between():
    module = tiny("llama").module
    module.model.others = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    with pytest.raises(SiteNotFound, match="--layers-path.*model.layers.*model.others"):
        find_blocks(module)


def test_dtype_is_a_choice():
    assert load_model("toy", dtype="bfloat16").residual(IDS, Site(1)).dtype == torch.bfloat16
    with pytest.raises(BadRequest, match="float32"):
        load_model("toy", dtype="int3")


def test_prefix_is_the_token_that_the_tokenizer_prepends(toy: LanguageModel):
    assert toy.vocabulary[toy.prefix_id] == b"<s>"


def test_marks_and_stops(toy: LanguageModel):
    assert {toy.vocabulary[i] for i in toy.special_ids} == {
        *(b"<s>", b"</s>", b"<|user|>", b"<|assistant|>", b"<|system|>", b"<|end|>")
    }
    assert b"<|end|>" in {toy.vocabulary[i] for i in toy.stop_ids}


@pytest.mark.slow
def test_the_blocks_of_almost_every_architecture_are_found():
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    built, found = [], []
    for name in NAMES:
        try:
            with torch.device("meta"):
                module = AutoModelForCausalLM.from_config(AutoConfig.for_model(name))
        except Exception:  # its default configuration is not usable, or a library is missing
            continue
        built.append(name)
        try:
            assert find_blocks(module)
            found.append(name)
        except SiteNotFound:
            pass
    assert len(found) >= 160
    assert set(built) - set(found) <= {"hrm_text", "xlm"}  # two recurrent stacks; blocks in four parallel lists
