"""Which architecture makes the best dictionary of a given size and sparsity, and do other tools' trainers do better?

Everybody learns from the same rows for the same number of steps and is judged on the same held rows by the rule that
it uses at inference. Other tools run their own training loops in their own environments, each at three learning rates;
ours run at their default, with several seeds. Every finished training is a row, and a stopped run goes on with the
rest.
"""

import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from architectures_page import COLUMNS, best_of, table, verdicts, write_page
from common import HERE, Results, arguments, bench_cache, commit, say, shards_of, show, study, text_of
from environments import PeerMissing, environment, last_line, pinned
from safetensors.torch import load_file, save_file

from monoscope.core.artifact import replacing
from monoscope.core.blocks import ActivationBlock
from monoscope.core.run import Run
from monoscope.core.runtime import fast_bfloat16
from monoscope.core.site import Site
from monoscope.evaluate.fidelity import fidelity
from monoscope.evaluate.splice import splice
from monoscope.harvest.feed import Feed
from monoscope.harvest.shards import ShardStore
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.stages import HARVEST_DTYPE
from monoscope.train.finish import finish
from monoscope.train.loop import train
from monoscope.train.recipes import RULES, Recipe

TRAIN_ROWS, HELD_ROWS = 600_000, 65_536
FINISH_ROWS = 65_536  # enough to set a dictionary's threshold and mean; what else it measures is not used here
SPLICE_TOKENS = 2048
KEYS = ("tool", "learning_rate", "coefficient", "seed", "latents", "k", "tokens", "batch_rows", "rows")
# A penalty's weight is searched for until L0 is this near to k, or --tries runs were made.
_NEAR = 0.1
_PEER_SECONDS = 7200
_NEVER = 1e9


@dataclass(frozen=True)
class Peer:
    """One architecture of another tool: where it runs, and its learning rates, the likeliest first.

    `coefficient` is where the search for a penalty's weight begins; None where the sparsity is given.
    """

    tool: str
    environment: tuple[str, str, str]  # requirements, module, package
    script: str
    arch: str
    learning_rates: tuple[float, ...]
    coefficient: float | None = None


def peers(latents: int) -> tuple[Peer, ...]:
    """Who takes part. Two of the tools have a rule for the learning rate, which falls with the root of the width."""
    narrower = (2**14 / latents) ** 0.5
    saelens = ("saelens", "sae_lens", "sae-lens")
    learning = ("dictionary_learning", "dictionary_learning.training", "dictionary-learning")
    theirs = tuple(float(f"{2e-4 * narrower * factor:.2e}") for factor in (3, 1, 9))
    signs = tuple(float(f"{5e-3 * narrower * factor:.2e}") for factor in (0.5, 1, 0.25))
    rates = (1e-3, 3e-3, 3e-4)
    return (
        Peer("sparsify topk", ("sparsify", "sparsify", "eai-sparsify"), "sparsify_quality.py", "topk", signs),
        Peer("dictionary_learning topk", learning, "dictionary_learning_quality.py", "topk", theirs),
        Peer("dictionary_learning batchtopk", learning, "dictionary_learning_quality.py", "batchtopk", theirs),
        Peer("dictionary_learning matryoshka", learning, "dictionary_learning_quality.py", "matryoshka", theirs),
        Peer("sae-lens topk", saelens, "saelens_quality.py", "topk", rates),
        # A threshold moves by about the learning rate a step: at the default it cannot come far enough in a short run.
        Peer("sae-lens jumprelu", saelens, "saelens_quality.py", "jumprelu", (3e-3, 1e-2, 1e-3), 1.0),
        Peer("sae-lens jumprelu tanh", saelens, "saelens_quality.py", "jumprelu-tanh", rates, 1.0),
    )


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, default=9216)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=500_000, help="training rows of each dictionary")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each architecture of ours")
    parser.add_argument("--peer-seeds", type=int, default=2, help="seeds of the others at their best learning rate")
    parser.add_argument("--tries", type=int, default=4, help="others: trainings to find the weight of a penalty")
    parser.add_argument("--only", nargs="+", default=[], help="run the tools whose names hold one of these words")
    parser.add_argument(
        "--rates-of", type=int, help="others: only the learning rate that was best at this many latents"
    )
    parser.add_argument("--page", type=Path, help="also write the table as a page here, such as docs/architectures.md")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    bench = Bench(settings)
    run_peers(bench, [peer for peer in peers(settings.latents) if bench.wanted(peer.tool)])
    ours = [arch for arch, rule in sorted(RULES.items()) if not rule.two_sites]  # of two sites there are no rows here
    for seed in range(settings.seed, settings.seed + settings.seeds):
        for arch in ours:
            if bench.wanted(f"monoscope {arch}"):
                run_ours(bench, arch, seed)
    rows = bench.results().rows
    lines = table(rows, bench.size())
    show(lines, COLUMNS)
    print()
    for line in verdicts(lines):
        print(line)
    if settings.page:
        everybody = [peer.tool for peer in peers(settings.latents)] + [f"monoscope {arch}" for arch in ours]
        write_page(settings.page, rows, everybody)


class Bench:
    """The settings of this call, the rows that all learn from, and the results so far."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        commit()  # noted now: the code that runs is what was read at the start, whatever changes on the way
        self.run: Run = study(settings.run, settings.study_tokens)
        self.shards: ShardStore = shards_of(self.run)
        self.rows_file = rows_file(self.shards, settings.seed)
        self._speaker: LanguageModel | None = None

    def speaker(self) -> LanguageModel:
        """The model that the activations come from, loaded when it is first wanted."""
        if self._speaker is None:
            self._speaker = load_model(self.shards.manifest["request"]["model"], dtype=HARVEST_DTYPE)
        return self._speaker

    def results(self) -> Results:
        """Read anew each time: calls with other `--only` may run beside this one."""
        return Results("architectures", self.settings, KEYS)

    def size(self) -> dict[str, Any]:
        """What must agree between two rows for them to be compared."""
        return {
            "latents": self.settings.latents,
            "k": self.settings.k,
            "tokens": self.settings.tokens,
            "batch_rows": self.settings.batch,
            "rows": self.shards.digest[:12],
        }

    def wanted(self, tool: str) -> bool:
        """Whether `--only` lets it take part."""
        return not self.settings.only or any(word in tool for word in self.settings.only)

    def found(self, **values: Any) -> list[dict[str, Any]]:
        """Finished rows with these values."""
        return [
            row
            for row in self.results().rows
            if "reason" not in row and all(row.get(name) == value for name, value in values.items())
        ]

    def row(self, **values: Any) -> dict[str, Any] | None:
        """The finished row of this size, unless it is to be measured again."""
        if self.settings.again:
            return None
        return next(iter(self.found(**values, **self.size())), None)

    def keep(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write a row down."""
        fresh = {**row, **self.size()}
        self.results().put([fresh])
        return fresh


def rows_file(shards: ShardStore, seed: int) -> Path:
    """Shuffled training rows and held rows in bfloat16, written once: what every tool reads."""
    path = bench_cache() / f"rows-{shards.digest[:12]}-{seed}.safetensors"
    if not path.is_file():
        say(f"writing {path.name}")
        train_rows = torch.cat([block.x for block in shards.blocks("train")])
        order = torch.randperm(len(train_rows), generator=torch.Generator().manual_seed(seed))[:TRAIN_ROWS]
        held = torch.cat([block.x for block in shards.blocks("held")])
        few = torch.randperm(len(held), generator=torch.Generator().manual_seed(seed))[:HELD_ROWS]
        with replacing(path) as aside:
            save_file({"train": train_rows[order], "held": held[few]}, aside)
    return path


# --- other tools -----------------------------------------------------------------------------------------------------


def run_peers(bench: Bench, chosen: list[Peer]) -> None:
    """A learning rate of everybody after another, so that a stopped run has something of all; then further seeds."""
    ready: list[tuple[Peer, Path]] = []
    for peer in chosen:
        try:
            ready.append((narrowed(bench, peer), environment(*peer.environment[:2])))
        except PeerMissing as error:
            say(f"{peer.tool} is missing: {error}")
            bench.keep({"tool": peer.tool, "reason": str(error)})
    first = bench.settings.seed
    tries: dict[str, list[dict[str, Any]]] = {peer.tool: [] for peer, _ in ready}
    for place in range(max((len(peer.learning_rates) for peer, _ in ready), default=0)):
        for peer, python in ready:
            for rate in peer.learning_rates[place : place + 1]:
                tries[peer.tool] += _at_rate(bench, peer, python, rate, first)
    for seed in range(first + 1, first + bench.settings.peer_seeds):
        for peer, python in ready:
            best = best_of(tries[peer.tool], bench.settings.k)
            if best is not None:
                _train_peer(bench, peer, python, best["learning_rate"], best["coefficient"], seed)


def narrowed(bench: Bench, peer: Peer) -> Peer:
    """With --rates-of, only the learning rate that won there, and the penalty's weight that led to k."""
    width = bench.settings.rates_of
    if width is None:
        return peer
    best = best_of(bench.found(tool=peer.tool, latents=width, seed=bench.settings.seed), bench.settings.k)
    if best is None:
        return replace(peer, learning_rates=peer.learning_rates[:1])
    there = next(other for other in peers(width) if other.tool == peer.tool)
    place = there.learning_rates.index(best["learning_rate"])
    return replace(peer, learning_rates=peer.learning_rates[place : place + 1], coefficient=best["coefficient"])


def _at_rate(bench: Bench, peer: Peer, python: Path, rate: float, seed: int) -> list[dict[str, Any]]:
    """One training, or where a penalty decides the sparsity, as many as it takes to come near to k."""
    if peer.coefficient is None:
        return [row for row in [_train_peer(bench, peer, python, rate, None, seed)] if "reason" not in row]
    tries: list[dict[str, Any]] = []
    while len(tries) < bench.settings.tries and not _near(tries, bench.settings.k):
        weight = _next_weight(tries, peer.coefficient, bench.settings.k)
        row = _train_peer(bench, peer, python, rate, weight, seed)
        if "reason" in row:
            break
        tries.append(row)
    return tries


def _near(tries: list[dict[str, Any]], k: int) -> bool:
    return bool(tries) and abs(tries[-1]["l0"] / k - 1) <= _NEAR


def _next_weight(tries: list[dict[str, Any]], first: float, k: int) -> float:
    """Where L0 should be k if it is a power of the penalty's weight; steps of at most ten times."""
    if not tries:
        return first
    last = tries[-1]
    power = 1.0
    if len(tries) > 1:
        before = tries[-2]
        rise = math.log(last["coefficient"] / before["coefficient"])
        fall = math.log(max(before["l0"], 1e-3) / max(last["l0"], 1e-3))
        power = rise / fall if fall * rise > 0 else 1.0
    step = (max(last["l0"], 1e-3) / k) ** min(3.0, max(0.3, power))
    return float(f"{last['coefficient'] * min(10.0, max(0.1, step)):.3g}")


def _train_peer(
    bench: Bench, peer: Peer, python: Path, rate: float, coefficient: float | None, seed: int
) -> dict[str, Any]:
    known = {"tool": peer.tool, "learning_rate": rate, "coefficient": coefficient, "seed": seed}
    old = bench.row(**known)
    if old is not None:
        return old
    say(f"{time.strftime('%H:%M:%S')} {peer.tool}, rate {rate:g}, penalty {coefficient}, seed {seed}")
    settings = bench.settings
    numbers = {
        "latents": settings.latents,
        "k": settings.k,
        "batch": settings.batch,
        "tokens": settings.tokens,
        "seed": seed,
        "threads": settings.threads,
        "lr": rate,
        "coefficient": 1.0 if coefficient is None else coefficient,
    }
    words = [str(python), str(HERE / "peers" / peer.script), str(bench.rows_file), "--arch", peer.arch]
    words += [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
    version = pinned(peer.environment[0], peer.environment[2])
    row = bench.keep({**known, "version": version, **_answer(words, settings.threads)})
    say(f"  {row.get('reason') or ''} FVU {row.get('fvu', math.nan):.4f} L0 {row.get('l0', math.nan):.1f}")
    return row


def _answer(words: list[str], threads: int) -> dict[str, Any]:
    """The last line of a program as JSON, or the reason why there is none."""
    surroundings = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        "TOKENIZERS_PARALLELISM": "false",
        # Without the instructions for it, a product in bfloat16 takes sixty times as long as one in float32.
        "BENCH_AUTOCAST": "1" if fast_bfloat16() else "0",
    }
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=surroundings, timeout=_PEER_SECONDS)
    except subprocess.TimeoutExpired:
        return {"reason": f"it ran for more than {_PEER_SECONDS} seconds"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"reason": last_line(done.stderr) or f"exit {done.returncode}"}
    return json.loads(lines[-1])


# --- ours ------------------------------------------------------------------------------------------------------------


class RowsFile:
    """The same rows as a store that our feed and our measures read: one shard to learn from, one held back."""

    def __init__(self, path: Path, shards: ShardStore, most: int = TRAIN_ROWS) -> None:
        self._found = load_file(path)
        self._found["train"] = self._found["train"][:most]
        self.site: Site = shards.site
        self.target: Site = shards.site
        self.d_in = self.d_model = shards.d_model
        self.sink_limit = shards.sink_limit

    def shards(self, split: str) -> list[dict[str, Any]]:
        """The one shard of a side."""
        return [{"split": split, "rows": self.rows(split)}]

    def rows(self, split: str) -> int:
        """How many rows a side has."""
        return len(self._found[split])

    def read(self, shard: dict[str, Any]) -> ActivationBlock:
        """All rows of a side; which token each was is not known here."""
        x = self._found[shard["split"]]
        return ActivationBlock(x, torch.zeros(len(x), dtype=torch.int32))

    def blocks(self, split: str) -> Iterator[ActivationBlock]:
        """The one shard."""
        yield from (self.read(shard) for shard in self.shards(split))


def run_ours(bench: Bench, arch: str, seed: int) -> None:
    """One architecture at its default learning rate."""
    settings = bench.settings
    recipe = Recipe(
        arch=arch,
        latents=settings.latents,
        k=settings.k,
        tokens=settings.tokens,
        batch_rows=settings.batch,
        seed=seed,
    )
    known = {"tool": f"monoscope {arch}", "learning_rate": recipe.learning_rate, "coefficient": None, "seed": seed}
    if bench.row(**known) is None:
        say(f"{time.strftime('%H:%M:%S')} monoscope {arch}, seed {seed}")
        row = bench.keep({**known, "arch": arch, **_train_ours(bench, recipe)})
        say(f"  FVU {row['fvu']:.4f} L0 {row['l0']:.1f} CE recovered {row.get('ce_recovered')}")


def _train_ours(bench: Bench, recipe: Recipe) -> dict[str, Any]:
    rows = RowsFile(bench.rows_file, bench.shards)
    feed = Feed(rows, batch_rows=recipe.batch_rows, seed=recipe.seed)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        learnt = train(feed, recipe, Path(scratch), request={}, checkpoint_seconds=_NEVER)
    if learnt is None:
        raise SystemExit("The training was stopped.")
    learner, spaces, _ = learnt
    seconds = time.perf_counter() - began
    few = RowsFile(bench.rows_file, bench.shards, FINISH_ROWS)
    dictionary, _ = finish(learner, spaces, recipe, few, name=f"{recipe.arch}-{recipe.seed}", learnt_from=rows)
    found = fidelity(dictionary, rows)
    figures = {
        "seconds": round(seconds, 1),
        "fvu": found.fvu,
        "l0": found.l0,
        "dead_fraction": float((found.fires == 0).float().mean()),
    }
    if recipe.seed > bench.settings.seed:
        return figures
    # For the first seed only: the model runs four times, which is dearer than a small training.
    spliced = splice(dictionary, bench.speaker(), text_of(bench.run, bench.shards), tokens=SPLICE_TOKENS)
    return {**figures, "ce_recovered": spliced.ce_recovered}


if __name__ == "__main__":
    main()
