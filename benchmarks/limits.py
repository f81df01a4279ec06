"""The physical bound of one TopK training step, measured term by term with stock operators.

A step cannot be shorter than: the encoder product in bfloat16 with the selection fused into it, four passes over the
active decoder or encoder rows (decode, its product with the residual, two weight gradients) from cache in bfloat16,
and one fused Adam over all weights. Each term is the best of all its runs, so the bound is never understated.
"""

import time
from collections.abc import Callable

import torch

_ROW_PASSES = 4


class StepLimit:
    """Buffers for one size, touched once, and the times of each term so far."""

    def __init__(self, *, latents: int, width: int, k: int, batch: int, seed: int) -> None:
        stream = torch.Generator().manual_seed(seed)
        self._batch = batch
        x = torch.randn(batch, width, generator=stream).bfloat16()
        encoder = torch.randn(latents, width, generator=stream).bfloat16()
        out = torch.empty(batch, latents, dtype=torch.bfloat16)
        indices = torch.randint(0, latents, (batch, k), generator=stream)
        values = torch.rand(batch, k, generator=stream).bfloat16()
        weights = torch.zeros(2 * latents * width, requires_grad=True)
        weights.grad = torch.ones_like(weights)
        adam = torch.optim.Adam([weights], lr=1e-3, fused=True)
        self._terms: dict[str, Callable[[], object]] = {
            "encoder": lambda: torch.mm(x, encoder.T, out=out),
            "row_pass": lambda: torch.nn.functional.embedding_bag(
                indices, encoder, per_sample_weights=values, mode="sum"
            ),
            "adam": adam.step,
        }
        self.flops = 2 * batch * width * latents
        self.row_bytes = batch * k * width * 2
        self.adam_bytes = 28 * 2 * latents * width
        self.seconds: dict[str, list[float]] = {name: [] for name in self._terms}

    def measure(self, repeats: int = 4) -> None:
        """Run each term a few times."""
        with torch.no_grad():
            for name, term in self._terms.items():
                for _ in range(repeats):
                    began = time.perf_counter()
                    term()
                    self.seconds[name].append(time.perf_counter() - began)

    def terms(self) -> dict[str, float]:
        """Seconds of each term of a step, and the rates that they amount to."""
        best = {name: min(found) for name, found in self.seconds.items()}
        return {
            "encoder_seconds": best["encoder"],
            "rows_seconds": _ROW_PASSES * best["row_pass"],
            "adam_seconds": best["adam"],
            "encoder_flops_per_second": self.flops / best["encoder"],
            "row_bytes_per_second": self.row_bytes / best["row_pass"],
            "adam_bytes_per_second": self.adam_bytes / best["adam"],
            "batch_rows": self._batch,
        }

    def tokens_per_second(self) -> float:
        """The bound."""
        found = self.terms()
        return self._batch / (found["encoder_seconds"] + found["rows_seconds"] + found["adam_seconds"])
