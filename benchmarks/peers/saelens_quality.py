"""How well SAELens' TopK and JumpReLU learn: its own `SAETrainer.fit` with its own scaling of activations.

Autocast is on where it is faster. Kinder than its defaults in two ways: the decoder's bias begins at the mean, and a
latent counts as dead early enough to be helped within the run. The last fifth decays the learning rate, as in its
tutorials.
"""

import time

import rows
import torch
from sae_lens import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import TrainingSAE
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

_SCALE_BATCHES = 20


def main() -> None:
    settings = rows.settings()
    train, held = rows.raw(settings.rows)
    shared = {
        "d_in": train.shape[1],
        "d_sae": settings.latents,
        "device": "cpu",
        "dtype": "float32",
        "normalize_activations": "expected_average_only_in",
    }
    steps = settings.tokens // settings.batch
    if settings.arch == "topk":
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(**shared, k=settings.k))
    else:
        config = JumpReLUTrainingSAEConfig(
            **shared, l0_coefficient=settings.coefficient, l0_warm_up_steps=rows.WARMUP_STEPS, **_style(settings.arch)
        )
        sae = JumpReLUTrainingSAE(config)
    sample = train[: rows.SAMPLE].float()
    sae.b_dec.data = sample.mean(0) * (train.shape[1] ** 0.5 / float(sample.norm(dim=1).mean()))
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * settings.batch,
            train_batch_size_samples=settings.batch,
            lr=settings.lr,
            lr_warm_up_steps=rows.WARMUP_STEPS,
            lr_decay_steps=steps // 5,
            lr_end=settings.lr / 10,
            dead_feature_window=round(rows.DEAD_SHARE * steps),
            n_batches_for_norm_estimate=_SCALE_BATCHES,
            device="cpu",
            autocast=rows.AUTOCAST,
        ),
        sae,
        rows.fresh(train, settings.batch),
    )
    began = time.perf_counter()
    trainer.fit()  # folds the scale into the weights at its end
    sae.eval()
    rows.report(began, steps=steps, **rows.quality(held, lambda x: _read(sae, x)))


def _style(arch: str) -> dict[str, object]:
    """`jumprelu` as SAELens has it by default; `jumprelu-tanh` with the settings it gives for Anthropic's recipe."""
    if arch == "jumprelu":
        return {}
    return {
        "jumprelu_sparsity_loss_mode": "tanh",
        "jumprelu_bandwidth": 2.0,
        "jumprelu_init_threshold": 0.1,
        "pre_act_loss_coefficient": 3e-6,
        "jumprelu_ste_to_input": True,
    }


def _read(sae: TrainingSAE, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        code = sae.encode(x)
        return sae.decode(code), code


if __name__ == "__main__":
    main()
