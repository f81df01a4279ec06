"""How well sparsify's TopK learns: its own `Trainer.fit` with its own optimiser, in float32 as it runs on a CPU."""

import tempfile
import time

import rows
from sparsify import SparseCoderConfig, TrainConfig, Trainer
from sparsify_train import WINDOW, Table, Windows, read


def main() -> None:
    settings = rows.settings()
    train, held = rows.raw(settings.rows)
    steps = settings.tokens // settings.batch
    scale = train.shape[1] ** 0.5 / rows.root_mean_square(train)
    model = Table(train[: steps * settings.batch].float().mul_(scale))
    held = held * scale
    del train
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            TrainConfig(
                SparseCoderConfig(num_latents=settings.latents, k=settings.k),
                batch_size=settings.batch // WINDOW,
                lr=settings.lr,
                hookpoints=["block"],
                init_seeds=[settings.seed],
                log_to_wandb=False,
                save_every=1_000_000,
                save_dir=scratch,
            ),
            Windows(steps * settings.batch // WINDOW, steps * settings.batch),
            model,
        )
        trainer.save = lambda: None  # nothing here needs its files
        began = time.perf_counter()
        trainer.fit()
    for optimiser in trainer.optimizers:
        optimiser.eval()  # schedule-free: the weights to use are the averaged ones
    coder = next(iter(trainer.saes.values()))
    rows.report(began, steps=steps, **rows.quality(held, lambda x: read(coder, x)))


if __name__ == "__main__":
    main()
