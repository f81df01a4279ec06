"""A tiny language model whose features are known in advance.

It is an ordinary Hugging Face Llama with a fast byte-level tokenizer; only its weights are not trained but
written down:

- each concept is a unit direction; the embedding of a word is the sum of the directions of its concepts, and many words
  have two (" salmon" is an animal and a food), so a feature is not a token;
- a few further directions say which kind of word comes next, so that the model speaks in plain sentences;
- block 0 averages the concepts of the text so far into every token (the topic), and turns a double newline right after
  the first token into a second attention sink; the other blocks add a little random attention and a random MLP;
- the unembedding reads the same directions, so adding a concept's direction makes its words likelier.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from monoscope.core.runtime import random_stream
from monoscope.core.site import Site
from monoscope.core.toy_text import KINDS, toy_concepts
from monoscope.model.vocabulary import byte_letters

TOY_VERSION = 1

_ROLES = ("system", "user", "assistant")
_SPECIAL = ("<s>", "</s>", *(f"<|{role}|>" for role in _ROLES), "<|end|>")
_OTHER = (
    "I you we it what who how why your my me tell Tell write Write say are do does in on to not yes no Where What Who",
    "How Why You Please please describe story text helpful answer question physical form body toy",
)
_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}<|system|>\nYou are a helpful toy.<|end|>\n{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_PIECES = r"\n\n|\n| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"
_D_MODEL, _HEADS, _BLOCKS, _CONTEXT, _HIDDEN = 48, 2, 4, 512, 96
_CONCEPT_STRENGTH, _KIND_STRENGTH, _MEAN_STRENGTH, _NOISE_STRENGTH = 3.0, 1.8, 2.0, 0.4
_SINK_STRENGTH, _TOPIC_GAIN, _RANDOM_GAIN = 80.0, 0.9, 0.08


@dataclass(frozen=True)
class _Plan:
    """The directions that the weights are made of, each a unit row."""

    concepts: Float[Tensor, "n_concepts d_model"]
    kinds: dict[str, Tensor]
    mean: Tensor
    sink: Tensor
    newline: Tensor
    early: Tensor
    rest: Float[Tensor, "n_rest d_model"]


def planted_directions(
    model: object = 0, site: Site | None = None
) -> tuple[list[str], Float[Tensor, "n_concepts d_model"]]:
    """The names of the concepts and their unit directions in the residual stream.

    `model` is the loaded toy, or the seed it was made from. The blocks leave the directions where they are, so they are
    the same at every `site`. Two directions are almost, not quite, at right angles.
    """
    del site
    return list(toy_concepts()), _plan(model if isinstance(model, int) else 0).concepts.clone()


def build_toy(seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model, in float32 and evaluation mode, and its tokenizer. Takes a fraction of a second and no disk."""
    tokenizer = _tokenizer()
    begin, end, padding = (tokenizer.get_vocab()[mark] for mark in ("<s>", "<|end|>", "</s>"))
    plan = _plan(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_D_MODEL,
        intermediate_size=_HIDDEN,
        num_hidden_layers=_BLOCKS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=padding,
    )
    with torch.random.fork_rng(devices=[]):  # all weights are written below; the caller's random state stays
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[end, padding],
        bos_token_id=begin,
        pad_token_id=padding,
    )
    with torch.no_grad():
        _write_ends(model, tokenizer.get_vocab(), plan, seed)
        for number, block in enumerate(model.model.layers):
            _write_random(block, random_stream(seed, "toy block", number), _RANDOM_GAIN if number else 0.0)
        _write_first_block(model.model.layers[0], plan)
    return model.eval().requires_grad_(False), tokenizer


def _tokenizer() -> PreTrainedTokenizerFast:
    words = sorted({word for group in toy_concepts().values() for word in group})
    pieces = [word for kind in KINDS.values() for word in kind[0] if not word.startswith("<|") and " " not in word[1:]]
    other = " ".join(_OTHER).split()
    pieces += ["\n\n", *words, *other, *(f" {word}" for word in (*words, *other, *toy_concepts()))]
    byte_map = byte_letters()
    alphabet = ["".join(byte_map[byte] for byte in text.encode()) for text in pieces]
    tokens = dict.fromkeys([*_SPECIAL, *(byte_map[byte] for byte in range(256)), *alphabet])
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="</s>",
        additional_special_tokens=[f"<|{role}|>" for role in _ROLES],
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=_CONTEXT,
    )


def _plan(seed: int) -> _Plan:
    n_concepts = len(toy_concepts())
    stream = random_stream(seed, "toy directions")
    basis = torch.linalg.qr(torch.randn(_D_MODEL, _D_MODEL, generator=stream))[0]
    # A little of two neighbours' directions, so that no change of basis makes the features coordinates.
    concepts = basis[:n_concepts] + 0.12 * (basis[:n_concepts].roll(1, 0) - basis[:n_concepts].roll(5, 0))
    others = iter(basis[n_concepts:])
    named = [next(others) for _ in range(4)]
    kinds = {kind: next(others) for kind in KINDS}
    return _Plan(torch.nn.functional.normalize(concepts, dim=1), kinds, *named, rest=torch.stack(list(others)))


def _write_ends(model: LlamaForCausalLM, vocab: dict[str, int], plan: _Plan, seed: int) -> None:
    stream = random_stream(seed, "toy embedding")
    noise = torch.randn(len(vocab), len(plan.rest), generator=stream) @ plan.rest / len(plan.rest) ** 0.5
    embedding = _MEAN_STRENGTH * plan.mean + _NOISE_STRENGTH * noise
    reading = -2.0 * plan.mean.expand(len(vocab), -1).clone()
    by_text = {_as_text(token): i for token, i in vocab.items()}
    for text, spoken, kind, concepts in _roles_of_words():
        index = by_text[text]
        following = KINDS[kind][1]
        embedding[index] += _KIND_STRENGTH * sum(
            weight * plan.kinds[next_kind] for next_kind, weight in following.items()
        )
        strength = _CONCEPT_STRENGTH / len(concepts) ** 0.5 if concepts else 0.0
        direction = sum((plan.concepts[i] for i in concepts), torch.zeros(_D_MODEL))
        embedding[index] += strength * direction
        reading[index] += (2.0 if spoken else 1.0) * direction
        if spoken:
            reading[index] += 2.0 * plan.mean + 3.5 * plan.kinds[kind]
        if spoken and concepts:
            reading[index] -= 4.0 * plan.kinds["verb"]  # no two words of this kind in a row
        if kind == "first":
            reading[index] += 1.2 * plan.sink
    embedding[by_text["\n"]] += _KIND_STRENGTH * plan.kinds["first"]
    embedding[by_text["\n\n"]] += _KIND_STRENGTH * plan.kinds["first"] + 3.0 * plan.newline
    embedding[by_text["<s>"]] = _SINK_STRENGTH * plan.sink + plan.mean
    gain = 0.8 + 0.4 * torch.rand(_D_MODEL, generator=stream)
    model.model.embed_tokens.weight.copy_(embedding)
    model.model.norm.weight.copy_(gain)
    model.lm_head.weight.copy_(reading / gain)


def _as_text(token: str) -> str:
    if token in _SPECIAL:
        return token
    back = {letter: byte for byte, letter in byte_letters().items()}
    return bytes(back[letter] for letter in token).decode(errors="surrogateescape")


def _roles_of_words() -> Iterator[tuple[str, bool, str, tuple[int, ...]]]:
    """Each word with whether the model says it, its kind and the numbers of its concepts."""
    belongs: dict[str, list[int]] = {}
    for number, words in enumerate(toy_concepts().values()):
        for word in words:
            belongs.setdefault(word, []).append(number)
    for word, numbers in belongs.items():
        yield f" {word}", True, "content", tuple(numbers)
        yield word, False, "content", tuple(numbers)
    for number, name in enumerate(toy_concepts()):
        if name not in belongs:
            yield f" {name}", False, "content", (number,)
    for kind, (words, _) in KINDS.items():
        for word in words:
            if " " not in word[1:] and word != "\n":
                yield word, True, kind, ()


def _write_random(block: torch.nn.Module, stream: torch.Generator, gain: float) -> None:
    for name, weight in block.named_parameters():
        if weight.ndim == 1:
            weight.fill_(1.0)
            continue
        scale = gain if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        weight.copy_(torch.randn(weight.shape, generator=stream) * scale / weight.shape[1] ** 0.5)


def _write_first_block(block: Any, plan: _Plan) -> None:
    """Head 0 averages concepts; head 1 and one neuron make the second sink."""
    attention, mlp = block.self_attn, block.mlp
    half = _D_MODEL // _HEADS
    attention.q_proj.weight.zero_()  # equal attention to all tokens so far
    attention.v_proj.weight.zero_()
    attention.o_proj.weight.zero_()
    attention.v_proj.weight[: len(plan.concepts)] = plan.concepts
    attention.o_proj.weight[:, : len(plan.concepts)] = _TOPIC_GAIN * plan.concepts.T
    # Half of the attention of position 1 lies on the sink, a third of that of position 2: `early` tells them apart.
    attention.v_proj.weight[half] = plan.sink
    attention.o_proj.weight[:, half] = 0.05 * plan.early
    mlp.up_proj.weight.zero_()
    mlp.gate_proj.weight.zero_()
    mlp.up_proj.weight[0] = plan.newline
    # The double newline's share of `mean` is known, so `mean` serves as the threshold between the two cases.
    mlp.gate_proj.weight[0] = 200.0 * (plan.early - plan.mean * 0.145 / _MEAN_STRENGTH)
    mlp.down_proj.weight[:, 0] = 1.5 * plan.sink
