"""SAELens' TopK in turns: its own `SAETrainer.fit` with autocast, fed with rows from memory."""

from collections.abc import Iterator

import rows
import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor
from turns import Turns, peak_bytes


def main() -> None:
    settings = rows.settings()
    train, held = rows.load(settings.rows)
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(d_in=train.shape[1], d_sae=settings.latents, k=settings.k, device="cpu", dtype="float32")
    )
    sae.b_dec.data = train[:16384].mean(0)
    turns = Turns()
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=settings.tokens,
            train_batch_size_samples=settings.batch,
            lr=settings.lr,
            lr_end=settings.lr / 10,
            lr_warm_up_steps=10,
            device="cpu",
            autocast=True,
        ),
        sae,
        _given_in_turns(rows.batches(train, settings.batch), turns),
    )
    turns.say(ready=True)
    trainer.fit()
    turns.close()
    sae.eval()
    turns.say(**rows.quality(held, lambda x: _read(sae, x)), peak_bytes=peak_bytes())


def _given_in_turns(batches: Iterator[Tensor], turns: Turns) -> Iterator[Tensor]:
    while True:
        batch = next(batches)
        turns.before_step(len(batch))
        yield batch


def _read(sae: TopKTrainingSAE, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        code = sae.encode(x)
        return sae.decode(code), code.to_dense() if code.is_sparse else code


if __name__ == "__main__":
    main()
