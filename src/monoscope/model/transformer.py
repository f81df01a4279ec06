"""A language model that can be read and changed at any decoder block."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from monoscope.core.artifact import digest_of
from monoscope.core.errors import BadRequest, SiteNotFound
from monoscope.core.runtime import DTYPES, fast_bfloat16
from monoscope.core.site import Site
from monoscope.model.convert import open_folder
from monoscope.model.one_token import hasten_one_token
from monoscope.model.sources import resolve_model
from monoscope.model.structure import find_blocks, find_mlp
from monoscope.model.toy import TOY_VERSION, build_toy
from monoscope.model.vocabulary import token_bytes

Change = Callable[..., Float[Tensor, "windows length d_model"]]


class _Reached(Exception):
    """Thrown by a hook at the wanted block, so that the blocks above it are never computed."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


@final
class LanguageModel:
    """A Hugging Face causal language model in evaluation mode, its tokenizer, and its residual stream.

    `source`, `digest` and `note` say where the weights come from; `digest` differs whenever the weights do.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        source: str,
        digest: str,
        note: str = "",
        layers_path: str | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.source, self.digest, self.note = source, digest, note
        self.blocks = find_blocks(module, layers_path)
        head = module.get_output_embeddings()
        if head is None:
            raise BadRequest(f"{source} has no unembedding, so it is not a causal language model.")
        self.vocab_size, width = (int(size) for size in head.weight.shape)
        self.d_model = int(getattr(module.config.get_text_config(decoder=True), "hidden_size", width))
        self.n_layers = len(self.blocks)
        self.context_limit = _context_limit(module.config)
        self.prefix_id = _prefix_id(tokenizer, self.vocab_size)
        # Hooks belong to a run of the model, so there is one run at a time; whoever hooks by hand holds this.
        self.lock = threading.RLock()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.module.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device

    @property
    def weight_bytes(self) -> int:
        """Size of the weights in memory; shared ones count once."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.module.parameters())

    @cached_property
    def vocabulary(self) -> list[bytes]:
        """The raw bytes that each token id stands for; special tokens as their text."""
        return token_bytes(self.tokenizer, self.vocab_size)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of tokens that are marks, not text."""
        added = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return frozenset(added | set(self.tokenizer.all_special_ids))

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids after which the model has finished speaking."""
        found: set[int] = set()
        for holder in (self.tokenizer, self.module.config, self.module.generation_config):
            ids = getattr(holder, "eos_token_id", None)
            found |= {ids} if isinstance(ids, int) else set(ids or ())
        return frozenset(found)

    def check_site(self, site: Site) -> None:
        """Agree that the model has this place.

        Raises
            SiteNotFound  it has fewer blocks.
        """
        if not 0 <= site.layer < self.n_layers:
            raise SiteNotFound(
                f"{self.source} has {self.n_layers} blocks, {site.kind}.0 to {site.kind}.{self.n_layers - 1}; "
                f"there is no {site}."
            )
        self._part(site)

    def _part(self, site: Site) -> nn.Module:
        """The module whose output, or for `mlp_in` whose input, is the site."""
        block = self.blocks[site.layer]
        return block if site.kind == "resid_post" else find_mlp(block, self.source)

    def _on_reaching(self, site: Site, seen: Callable[[Tensor], None]) -> Any:
        """Call `seen` with the activations at a site when they are there; the handle takes the hook away."""
        if site.kind == "mlp_in":
            return self._part(site).register_forward_pre_hook(lambda _part, inputs: seen(inputs[0]))
        return self._part(site).register_forward_hook(lambda _part, _inputs, output: seen(_stream_of(output)))

    def encode_text(self, text: str) -> list[int]:
        """Token ids of the text alone, no special tokens added."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """The text of token ids, special tokens included; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.vocabulary[i] for i in ids).decode(errors="replace")

    @torch.inference_mode()
    def residual(self, ids: Int[Tensor, "windows length"], site: Site) -> Float[Tensor, "windows length d_model"]:
        """The activations at a site; the blocks above and the unembedding are not computed.

        Windows of different lengths are padded on the right: a causal model never looks there.
        """
        self.check_site(site)

        def stop(x: Tensor) -> None:
            raise _Reached(x)

        with self.lock:
            handle = self._on_reaching(site, stop)
            try:
                self.module(input_ids=ids.to(self.device), use_cache=False)
            except _Reached as reached:
                return reached.output
            finally:
                handle.remove()
        raise SiteNotFound(f"{self.source} never ran its block {site.layer}; give --layers-path.")

    @torch.inference_mode()
    def logits(
        self,
        ids: Int[Tensor, "windows length"],
        *,
        site: Site | None = None,
        change: Change | None = None,
        reading: Site | None = None,
        attention_mask: Int[Tensor, "windows length"] | None = None,
    ) -> Float[Tensor, "windows length vocab"]:
        """Next-token logits, with `change` applied to the activations at `site` where both are given (see `changing`).

        Cost    windows * length * vocab_size numbers: keep batches small.
        """
        with self.lock, contextlib.ExitStack() as stack:
            if site is not None and change is not None:
                stack.enter_context(self.changing(site, change, reading=reading))
            mask = None if attention_mask is None else attention_mask.to(self.device)
            return self.module(input_ids=ids.to(self.device), attention_mask=mask, use_cache=False).logits

    @contextlib.contextmanager
    def changing(self, site: Site, change: Change, *, reading: Site | None = None) -> Iterator[None]:
        """While inside, the activations at the site are replaced by `change` of them; removed on leaving, always.

        With `reading`, a site that comes earlier in the model, `change` gets what stands there as a second argument.
        """
        self.check_site(site)
        seen: list[Tensor] = []

        def changed(x: Tensor) -> Tensor:
            return change(x) if reading is None else change(x, seen[-1])

        def replace(_part: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(output, Tensor):
                return changed(output)
            return type(output)([changed(output[0]), *output[1:]])

        def keep(x: Tensor) -> None:
            seen[:] = [x]

        with contextlib.ExitStack() as stack:
            if reading is not None:
                self.check_site(reading)
                stack.callback(self._on_reaching(reading, keep).remove)
            part = self._part(site)
            if site.kind == "mlp_in":
                handle = part.register_forward_pre_hook(lambda _part, inputs: (changed(inputs[0]), *inputs[1:]))
            else:
                handle = part.register_forward_hook(replace)
            stack.callback(handle.remove)
            yield

    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """What each token reads from the normalised residual stream, in float32, the final norm's gain folded in."""
        unembedding: Any = self.module.get_output_embeddings()
        head = unembedding.weight.detach().float()
        gain = _final_gain(self.module, self.blocks, self.d_model)
        return head if gain is None else head * gain


def load_model(
    source: str,
    *,
    dtype: str = "float32",
    layers_path: str | None = None,
    cache: Path | None = None,
    device: str = "cpu",
) -> LanguageModel:
    """A model from its source string, ready to be read.

    Raises
        BadSource       the string cannot be read.
        SourceNotFound  the model is not there or cannot be reached.
        Damaged         its files are not whole.
        SiteNotFound    its decoder blocks cannot be found.
    """
    if dtype not in DTYPES:
        raise BadRequest(f"There is no dtype {dtype!r}; write one of {', '.join(DTYPES)}.")
    if source == "toy":
        module, tokenizer = build_toy()
        digest, note = digest_of({"toy": TOY_VERSION}), "a made-up toy model with planted features"
    else:
        found = resolve_model(source, cache=cache)
        module, tokenizer = open_folder(found.folder, DTYPES[dtype])
        digest, note = found.digest, found.note
    nn.Module.to(module, device=device, dtype=DTYPES[dtype])
    if dtype == "bfloat16" and torch.device(device).type == "cpu" and fast_bfloat16():
        hasten_one_token(module)
    return LanguageModel(module, tokenizer, source=source, digest=digest, note=note, layers_path=layers_path)


def _stream_of(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _context_limit(config: Any) -> int:
    text = config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        limit = getattr(text, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return 2048


def _prefix_id(tokenizer: Any, vocab_size: int) -> int:
    """The token that carries the attention sink when it is put in front of a text."""
    bos = tokenizer.bos_token_id
    if bos is not None and tokenizer("a")["input_ids"][:1] == [bos]:
        return bos
    end_of_text = tokenizer.get_vocab().get("<|endoftext|>")
    for candidate in (end_of_text, bos, tokenizer.eos_token_id):
        if candidate is not None and candidate < vocab_size:
            return candidate
    return 0


def _final_gain(module: Any, blocks: list[nn.Module], d_model: int) -> Tensor | None:
    """The gain of the norm that stands between the last block and the unembedding."""
    inside = {id(part) for block in blocks for part in block.modules()}
    get_decoder = getattr(module, "get_decoder", None)
    decoder = get_decoder() if get_decoder is not None else None
    norms: list[Any] = [
        part
        for part in (decoder if isinstance(decoder, nn.Module) else module).modules()
        if id(part) not in inside and "norm" in type(part).__name__.lower() and _is_gain(part, d_model)
    ]
    if not norms:
        return None
    gain = norms[-1].weight.detach().float()
    return _effective_gain(norms[-1], gain)


def _is_gain(part: nn.Module, d_model: int) -> bool:
    weight = getattr(part, "weight", None)
    return isinstance(weight, Tensor) and weight.shape == (d_model,)


@torch.no_grad()
def _effective_gain(norm: Any, gain: Tensor) -> Tensor:
    """Some norms store the gain less one: ask the norm what it does to a vector of ones and minus ones."""
    signs = torch.ones_like(gain)
    signs[1::2] = -1
    out = norm(signs.to(norm.weight.dtype)[None, None]).float()[0, 0]
    bias = getattr(norm, "bias", None)
    if isinstance(bias, Tensor):
        out = out - bias.float()
    return out * signs
