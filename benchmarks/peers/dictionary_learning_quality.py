"""How well dictionary_learning's trainers learn: its own `trainSAE` with its own scaling of activations.

Its autocast is for CUDA only, so the loop runs inside torch's for the CPU. What its defaults put later than the whole
run comes earlier: the warm-up, the threshold's running mean, and the count at which a latent is dead. The last fifth
decays the learning rate, as its demo does.
"""

import time
from collections.abc import Iterator

import rows
import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.trainers.trainer import SAETrainer
from dictionary_learning.training import trainSAE
from torch import Tensor

_TRAINERS = {
    "topk": (TopKTrainer, {}),
    "batchtopk": (BatchTopKTrainer, {}),
    # The groups of its demo: shares that double, the rest last.
    "matryoshka": (MatryoshkaBatchTopKTrainer, {"group_fractions": [1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32]}),
}


class Batches:
    """Rows that can be read from the start again, as its scaling needs."""

    def __init__(self, train: Tensor, size: int) -> None:
        self._train, self._size = train, size

    def __iter__(self) -> Iterator[Tensor]:
        return rows.fresh(self._train, self._size)


def main() -> None:
    settings = rows.settings()
    train, held = rows.raw(settings.rows)
    steps = settings.tokens // settings.batch
    kind, extra = _TRAINERS[settings.arch]
    made: list[SAETrainer] = []

    def make(**config: object) -> SAETrainer:
        trainer = kind(**config)
        trainer.dead_feature_threshold = round(rows.DEAD_SHARE * settings.tokens)
        made.append(trainer)
        return trainer

    config = {
        "trainer": make,
        "steps": steps,
        "activation_dim": train.shape[1],
        "dict_size": settings.latents,
        "k": settings.k,
        "layer": 15,
        "lm_name": "rows",
        "lr": settings.lr,
        "warmup_steps": rows.WARMUP_STEPS,
        "decay_start": steps - steps // 5,
        "threshold_start_step": steps // 2,
        "threshold_beta": 0.95,
        "seed": settings.seed,
        "device": "cpu",
        **extra,
    }
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=rows.AUTOCAST):
        trainSAE(Batches(train, settings.batch), [config], steps, normalize_activations=True, device="cpu")
    coder = made[0].ae  # in the rows' own scale again, and with the threshold that it stored
    rows.report(began, steps=steps, **rows.quality(held, lambda x: _read(coder, x)))


def _read(coder: torch.nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        code = coder.encode(x)
        return coder.decode(code), code


if __name__ == "__main__":
    main()
