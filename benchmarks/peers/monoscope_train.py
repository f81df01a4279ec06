"""Our trainer in turns: the real loop over the real feed, with its logging; only clock-driven checkpoints are off."""

import argparse
import tempfile
from pathlib import Path

import torch
from turns import Turns, peak_bytes

from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary, Stats
from monoscope.dictionary.jumprelu import JumpReluDictionary
from monoscope.dictionary.topk import TopKDictionary
from monoscope.harvest.feed import Feed
from monoscope.harvest.shards import ShardStore
from monoscope.train.finish import fold
from monoscope.train.loop import train
from monoscope.train.recipes import Recipe

_NEVER = 1e9
_KINDS = {"topk": TopKDictionary, "batchtopk": JumpReluDictionary}


class Listener:
    """Progress as the loop tells it, cut into turns."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def start(self, stage: str, total: int | None, unit: str, already: int = 0) -> None:
        self.turns.wait()

    def advance(self, amount: int, **facts: float) -> None:
        self.turns.after_step(amount)

    def finish(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shards", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--arch", default="topk")
    for name in ("latents", "k", "batch", "tokens", "seed", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    shards = ShardStore.load(settings.shards)
    recipe = Recipe(
        arch=settings.arch,
        latents=settings.latents,
        k=settings.k,
        tokens=settings.tokens,
        batch_rows=settings.batch,
        warmup_steps=10,
        seed=settings.seed,
    )
    turns = Turns()
    turns.say(ready=True)
    with tempfile.TemporaryDirectory() as scratch:
        feed = Feed(shards, batch_rows=settings.batch, seed=settings.seed)
        learner, scaling, _ = train(
            feed, recipe, Path(scratch), request={}, progress=Listener(turns), checkpoint_seconds=_NEVER
        )
    empty = torch.zeros(recipe.latents)
    blank = Stats(empty, empty, empty, scaling.mean, 0, 0.0, shards.sink_limit)
    weights = fold(learner, scaling, recipe.rule())
    dictionary = _KINDS[recipe.arch](weights, site=Site(0), name="benchmark", stats=blank, settings={"k": recipe.k})
    turns.say(**quality(dictionary, settings.rows), peak_bytes=peak_bytes())


@torch.inference_mode()
def quality(dictionary: Dictionary, rows: Path) -> dict[str, float]:
    """FVU against the mean-centred variance, L0 and the share of silent latents, on the held rows."""
    from safetensors.torch import load_file

    held = load_file(rows)["held"].float()
    error, entries, fired = 0.0, 0, torch.zeros(dictionary.n_latents, dtype=torch.bool)
    for x in held.split(2048):
        code = dictionary.encode(x)
        error += float((dictionary.decode(code) - x).square().sum())
        entries += len(code.values)
        fired[code.indices.long()] = True
    return {
        "fvu": error / float((held - held.mean(0)).square().sum()),
        "l0": entries / len(held),
        "dead_fraction": 1 - float(fired.float().mean()),
    }


if __name__ == "__main__":
    main()
