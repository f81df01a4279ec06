"""Tiny random models of several families, with the toy's tokenizer."""

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from monoscope.model.toy import build_toy
from monoscope.model.transformer import LanguageModel

_COMMON = {"vocab_size": 1000, "bos_token_id": 0, "eos_token_id": 5, "pad_token_id": 1}
_SIZES = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES),
    "gpt2": GPT2Config(**_COMMON, n_embd=32, n_layer=3, n_head=2, n_positions=64),
    "gpt_neox": GPTNeoXConfig(**{k: v for k, v in _SIZES.items() if k != "num_key_value_heads"}),
    "gemma2": Gemma2Config(**_SIZES, head_dim=16, query_pre_attn_scalar=16),
    "gemma3": Gemma3TextConfig(**_SIZES, head_dim=16, query_pre_attn_scalar=16),
    "qwen2": Qwen2Config(**_SIZES),
}


def tiny(family: str) -> LanguageModel:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = AutoModelForCausalLM.from_config(CONFIGS[family])
        for weight in module.parameters():  # norms' gains too, so that folding them is tested
            weight.data += 0.1 * torch.randn_like(weight)
    return LanguageModel(module.eval(), build_toy()[1], source=family, digest="tiny")
