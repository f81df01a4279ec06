"""sparsify's TopK in turns: its own `Trainer.fit` with its own optimiser.

It reads activations from a model by a hook. The "model" here is a table of rows that looks the wanted ones up, so the
loop, the data loader and the hook are its own and the language model costs nothing.
"""

import tempfile

import rows
import torch
from sparsify import SparseCoderConfig, TrainConfig, Trainer
from torch import Tensor, nn
from torch.utils.data import Dataset
from turns import Turns, peak_bytes

WINDOW = 256


class Table(nn.Module):
    """A model whose only block looks rows up."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.block = nn.Embedding.from_pretrained(x)
        self.turns: Turns | None = None
        self.config = None

    @property
    def base_model(self) -> "Table":
        return self

    @property
    def device(self) -> torch.device:
        return self.block.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.block.weight.dtype

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_ids": torch.zeros(1, 1, dtype=torch.long)}

    def forward(self, input_ids: Tensor) -> Tensor:
        if self.turns is not None:
            self.turns.before_step(input_ids.numel())
        return self.block(input_ids)


class Windows(Dataset):
    """Numbers of rows, round and round, in windows as a text would give them."""

    def __init__(self, count: int, n_rows: int) -> None:
        self._count, self._n_rows = count, n_rows

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return {"input_ids": (torch.arange(WINDOW) + number * WINDOW) % self._n_rows}


def main() -> None:
    settings = rows.settings()
    train, held = rows.load(settings.rows)
    turns = Turns()
    model = Table(train)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            TrainConfig(
                SparseCoderConfig(num_latents=settings.latents, k=settings.k),
                batch_size=settings.batch // WINDOW,
                hookpoints=["block"],
                init_seeds=[settings.seed],
                log_to_wandb=False,
                save_every=1_000_000,
                save_dir=scratch,
            ),
            Windows(settings.tokens // WINDOW, len(train)),
            model,
        )
        trainer.save = lambda: None  # nobody else's turns write files
        turns.say(ready=True)
        model.turns = turns
        trainer.fit()
        turns.close()
    coder = next(iter(trainer.saes.values()))
    for optimiser in trainer.optimizers:
        if hasattr(optimiser, "eval"):
            optimiser.eval()
    turns.say(**rows.quality(held, lambda x: read(coder, x)), peak_bytes=peak_bytes())


def read(coder: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    values, indices, _ = coder.encode(x)
    dense = torch.zeros(len(x), coder.num_latents).scatter_(1, indices, values)
    return coder.decode(values, indices), dense


if __name__ == "__main__":
    main()
