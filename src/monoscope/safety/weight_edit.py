"""Directions taken out of what a model's blocks write, as a change of its weights.

With Q the orthonormal basis of the directions, each matrix W whose product is added to the residual stream (the output
maps of attention and of the MLP) and its bias become

    W - s Q Qᵀ W        b - s Q Qᵀ b

in blocks 0 to `last_block`. At s = 1 these blocks can no longer write along Q; above 1 what they wrote is turned round.
What else writes stays: the embedding (tied or not) and the blocks above.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from monoscope.core.artifact import staging, write_json
from monoscope.core.errors import BadNumbers, BadRequest
from monoscope.core.runtime import random_stream
from monoscope.core.site import Site
from monoscope.model.structure import find_mlp
from monoscope.model.transformer import LanguageModel

RECORD = "monoscope_removal.json"
# How the known families call the map from attention or MLP back to the residual stream.
_OUTPUTS = (
    "o_proj", "out_proj", "c_proj", "dense", "dense_4h_to_h", "down_proj", "fc2", "fc_out", "wo", "w2", "output_dense",
)  # fmt: skip
_ATTENTION = ("attn", "attention")
# Rounding of bfloat16 leaves a hundredth of what was written.
_MOST_LEFT = 0.1
_CHECKED_TOKENS = 32


@dataclass(frozen=True, eq=False)
class WeightEdit:
    """A subspace, how much of what is written into it goes (1 is all), and the last block that is changed."""

    basis: Float[Tensor, "d_model k"]
    strength: float
    last_block: int


def subspace(directions: Float[Tensor, "k d_model"], *, least: float = 1e-5) -> Float[Tensor, "d_model rank"]:
    """An orthonormal basis of what some directions span; singular values below a share `least` of the largest are none.

    Raises
        BadNumbers  none has a length.
    """
    left, sizes, _ = torch.linalg.svd(directions.T.float().cpu(), full_matrices=False)
    kept = left[:, sizes > least * float(sizes[0])] if float(sizes[0]) > 0 else left[:, :0]
    if not kept.shape[1]:
        raise BadNumbers("The directions to take out are all zero.")
    return kept


def random_subspace(d_model: int, rank: int, *, seed: int = 0) -> Float[Tensor, "d_model rank"]:
    """As many directions drawn by lot: the control."""
    return subspace(torch.randn(rank, d_model, generator=random_stream(seed, "random subspace")))


def output_maps(model: LanguageModel, last_block: int) -> list[nn.Module]:
    """The maps that write into the residual stream in blocks 0 to `last_block`, found by name and shape.

    Raises
        BadRequest    a block's attention or MLP has none that is known.
        SiteNotFound  the MLP of a block cannot be told.
    """
    model.check_site(Site(last_block))
    found: list[nn.Module] = []
    for block in model.blocks[: last_block + 1]:
        for part in (_attention(block, model.source), find_mlp(block, model.source)):
            maps = [one for name, one in part.named_modules() if _writes(name, one, model.d_model)]
            if not maps:
                raise BadRequest(
                    f"{model.source} has no output map of a known name in {type(part).__name__}; its weights cannot be "
                    "edited here: use --way conditional or clamp."
                )
            found += maps
    return found


def _attention(block: nn.Module, name: str) -> nn.Module:
    found = [
        part
        for child, part in block.named_children()
        if any(mark in child.lower() for mark in _ATTENTION) and "norm" not in child.lower()
    ]
    if len(found) != 1:
        raise BadRequest(f"{name} has {len(found) or 'no'} attentions in a block; its weights cannot be edited here.")
    return found[0]


def _writes(name: str, part: nn.Module, d_model: int) -> bool:
    width = part.out_features if isinstance(part, nn.Linear) else part.nf if isinstance(part, Conv1D) else None
    return name.rpartition(".")[2] in _OUTPUTS and width == d_model


@contextlib.contextmanager
def rewritten(model: LanguageModel, edit: WeightEdit) -> Iterator[None]:
    """While inside, the model has the edited weights; on leaving, always, the very bits that it had before.

    Cost    one copy of the output maps that are changed.
    """
    maps = output_maps(model, edit.last_block)
    with model.lock:
        kept = [(tensor, tensor.detach().clone()) for part in maps for tensor in _tensors(part)]
        try:
            with torch.no_grad():
                for part in maps:
                    _take_out(part, edit)
            yield
        finally:
            with torch.no_grad():
                for tensor, before in kept:
                    tensor.copy_(before)


def _tensors(part: Any) -> list[Tensor]:
    bias = part.bias if isinstance(part.bias, Tensor) else None
    return [part.weight] if bias is None else [part.weight, bias]


def _take_out(part: Any, edit: WeightEdit) -> None:
    """Linear keeps (out, in), Conv1D (in, out); a bias is a single row of either."""
    basis = edit.basis.to(part.weight.device)
    for tensor in _tensors(part):
        x = tensor.float()
        rows = x.T if isinstance(part, nn.Linear) and x.dim() == 2 else x
        less = edit.strength * (rows @ basis) @ basis.T
        tensor.copy_((rows - less).T if rows is not x else x - less)


def check_taken_out(model: LanguageModel, basis: Float[Tensor, "d_model k"], last_block: int) -> float:
    """Agree, by running the model, that its blocks write nothing along the basis once the weights are edited.

    The share of what they wrote along it that is left comes back. A model that scales what its blocks write, by a norm
    behind the output map, fails.

    Raises
        BadRequest  more than a tenth is left.
    """
    ids = torch.randint(0, model.vocab_size, (1, _CHECKED_TOKENS), generator=random_stream(0, "weights", "check"))
    plain = _written(model, ids, last_block) @ basis
    with rewritten(model, WeightEdit(basis, 1.0, last_block)):
        left = _written(model, ids, last_block) @ basis
    share = float(left.norm() / plain.norm().clamp(min=1e-12))
    if not share <= _MOST_LEFT:
        raise BadRequest(
            f"Editing the output maps of {model.source} leaves {share:.0%} of what its blocks write along the "
            "features, as with models that have a norm behind them; use --way conditional or clamp."
        )
    return share


def _written(model: LanguageModel, ids: Tensor, last_block: int) -> Float[Tensor, "tokens d_model"]:
    """What blocks 0 to `last_block` add to the residual stream; the first token, which carries the sink, is left."""
    entered: list[Tensor] = []

    def see(_part: nn.Module, inputs: tuple, named: dict) -> None:
        entered.append(inputs[0] if inputs else named["hidden_states"])

    handle = model.blocks[0].register_forward_pre_hook(see, with_kwargs=True)
    try:
        after = model.residual(ids, Site(last_block))
    finally:
        handle.remove()
    return (after.float() - entered[0].float())[0, 1:].cpu()


def save_checkpoint(model: LanguageModel, edit: WeightEdit, folder: Path, record: dict[str, Any]) -> None:
    """Write the edited model as an ordinary Hugging Face folder, with a record of what was done to it.

    Raises
        BadRequest  the folder is there already and not empty.
    """
    check_free(folder)
    with rewritten(model, edit), staging(folder) as aside:
        model.module.save_pretrained(aside)
        model.tokenizer.save_pretrained(aside)
        write_json(aside / RECORD, record)


def check_free(folder: Path) -> None:
    """Agree that nothing would be overwritten.

    Raises
        BadRequest  there is a file of this name, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadRequest(f"{folder} is there already; give --out a new folder.")


def features_directions(rows: Float[Tensor, "n_latents d_model"], features: Sequence[int]) -> Tensor:
    """The unit decoder rows of some features."""
    return rows[list(features)].float().cpu()
