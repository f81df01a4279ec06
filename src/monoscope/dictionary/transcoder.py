"""Transcoders: one site is read, another one told, as an MLP's input and its output (Dunefsky et al. 2024).

The skip-transcoder adds a linear map from the one to the other, so that features need not spell out what is linear
(Paulo et al. 2025). Selection and reading are those of BatchTopK.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.batchtopk import BatchTopKRule
from monoscope.dictionary.rule import Backward, Scene


@dataclass(frozen=True)
class TranscoderRule(BatchTopKRule):
    """BatchTopK from one site to another."""

    name: ClassVar[str] = "transcoder"
    two_sites: ClassVar[bool] = True


@dataclass(frozen=True)
class SkipTranscoderRule(TranscoderRule):
    """The same with x @ W_skip added; W_skip begins at zero."""

    name: ClassVar[str] = "skip-transcoder"

    def start_own(self, n_latents: int, d_in: int, d_out: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The linear map."""
        return {"W_skip": torch.zeros(d_in, d_out)}

    def backward(self, code: SparseCode, scene: Scene) -> Backward:
        """The features explain what the linear map leaves over."""
        left = scene.target - scene.x @ scene.own["W_skip"]
        found = super().backward(code, replace(scene, target=left))
        found.own = {"W_skip": scene.x.T @ found.parts[0].pushes}
        return found
