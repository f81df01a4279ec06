"""Whether SAELens, unchanged and in its own environment, reads our dictionary folders as we mean them.

The same real rows go through both; the largest difference of a code and of a reconstruction is told as it is and as a
share of the largest value. An entry that only one side has counts with its whole value, unless the pre-activation lies
within rounding of its threshold, which is counted apart. Exit 1 where the goal is missed.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, bench_cache, dictionary_of, say, show, study
from environments import PeerMissing, environment, last_line, pinned
from safetensors.torch import load_file, save_file
from torch import Tensor

from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.harvest.shards import ShardStore

GOAL = 1e-4
_ROUNDING = 1e-5
COLUMNS = (
    "dictionary",
    "architecture",
    "rows",
    "code_error",
    "code_relative",
    "recon_error",
    "recon_relative",
    "at_threshold",
)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--name", help="the dictionary; without it all of the run")
    parser.add_argument("--rows", type=int, default=1000, help="held rows to compare")
    parser.add_argument("--latents", type=int, default=9216, help="of the quick dictionary of a small study")
    parser.add_argument("--k", type=int, default=32)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    results = Results("saelens_load", settings, keys=("dictionary", "latents", "cpu"))
    run = study(settings.run, settings.study_tokens)
    first = dictionary_of(run, settings.name, latents=settings.latents, k=settings.k)
    names = [first] if settings.name else run.names("dictionaries", "monoscope.json")
    try:
        python = environment("saelens", "sae_lens")
    except PeerMissing as error:
        results.put([{"dictionary": name, "tool": "sae-lens", "reason": str(error)} for name in names])
        print(f"SAELens cannot be installed here: {error}")
        raise SystemExit(2) from error
    rows = [compare(python, run.dictionary(name), held_rows(run, name, settings.rows)) for name in names]
    results.put(rows)
    show(rows, COLUMNS)
    worst = max(max(row["code_relative"], row["recon_relative"]) for row in rows)
    print(f"largest relative difference {worst:.2e}; goal {GOAL:g} {'met' if worst <= GOAL else 'NOT met'}")
    raise SystemExit(int(worst > GOAL))


def held_rows(run: Run, name: str, count: int) -> Tensor:
    """Held rows of what a dictionary reads."""
    shards = ShardStore.load(run.activations(run.provenance(name)["activations"]))
    return next(shards.blocks("held")).x[:count].float()


def compare(python: Path, folder: Path, x: Tensor) -> dict[str, Any]:
    """Read the folder on both sides."""
    ours = load_dictionary(folder)
    say(f"reading {folder} with SAELens")
    with tempfile.TemporaryDirectory(dir=bench_cache(), prefix="saelens-") as scratch:
        source, target = Path(scratch) / "x.safetensors", Path(scratch) / "found.safetensors"
        save_file({"x": x}, source)
        script = Path(__file__).parent / "peers" / "saelens_read.py"
        done = subprocess.run(
            [str(python), str(script), str(folder.resolve()), str(source), str(target)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"SAELens does not read {folder}: {last_line(done.stderr)}")
        found = load_file(target)
    code = ours.encode(x)
    dense, recon = code.to_dense(), ours.complete(x, code)
    doubtful = at_threshold(ours, x, dense, found["code"])
    gap = (dense - found["code"]).abs().masked_fill(doubtful, 0)
    sure = ~doubtful.any(1)
    recon_gap = (recon - found["reconstruction"]).abs()[sure]
    return {
        "tool": "sae-lens",
        "version": pinned("saelens", "sae-lens"),
        "dictionary": ours.name,
        "architecture": ours.architecture,
        "latents": ours.n_latents,
        "rows": len(x),
        "l0": code.l0,
        "code_max": float(dense.max()),
        "code_error": float(gap.max()),
        "code_relative": float(gap.max() / dense.max()),
        "recon_max": float(recon.abs().max()),
        "recon_error": float(recon_gap.max()),
        "recon_relative": float(recon_gap.max() / recon.abs().max()),
        "at_threshold": int(doubtful.sum()),
    }


def at_threshold(ours: Dictionary, x: Tensor, dense: Tensor, found: Tensor) -> Tensor:
    """Entries that only one side has because the pre-activation is the threshold, as far as float32 can tell."""
    one_sided = (dense > 0) != (found > 0)
    if not one_sided.any():
        return one_sided
    rows, latents = torch.nonzero(one_sided, as_tuple=True)
    pre = (x[rows].double() * ours.W_enc.T[latents].double()).sum(1) + ours.b_enc[latents].double()
    if ours.weights.threshold is not None:
        edge = ours.weights.threshold[latents].double()
    else:
        edge = dense.masked_fill(dense <= 0, float("inf")).min(1).values[rows].double()
    scale = x[rows].double().norm(dim=1) * ours.W_enc.T[latents].double().norm(dim=1)
    near = (pre - edge).abs() <= _ROUNDING * scale
    doubtful = torch.zeros_like(one_sided)
    doubtful[rows[near], latents[near]] = True
    return doubtful


if __name__ == "__main__":
    main()
