"""How fast a TopK dictionary is trained, beside SAELens and sparsify, and how far that is from what the machine can do.

Every tool is a process with its own environment; all have the same activations and take turns of some steps, so they
are warm and meet the same disturbances. Each runs its own training loop: ours with its feed and log, SAELens'
`SAETrainer.fit` with autocast, sparsify's `Trainer.fit` with its own optimiser. The first turn is not counted.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, bench_cache, say, shards_of, show, spread, study
from environments import PeerMissing, environment, pinned
from limits import StepLimit
from safetensors.torch import save_file
from workers import Worker, WorkerLost

from monoscope.harvest.shards import ShardStore

HELD_ROWS = 8192
MOST_ROWS = 300_000
COLUMNS = (
    "tool",
    "batch_rows",
    "latents",
    "k",
    "tokens_per_second",
    "min",
    "max",
    "of_limit",
    "fvu",
    "l0",
    "dead_fraction",
)
GOALS = {"sae-lens": 4.0, "sparsify": 2.0}


@dataclass(frozen=True)
class Entrant:
    """One tool at one batch size."""

    tool: str
    batch: int
    script: str
    words: tuple[str, ...] = ()
    peer: tuple[str, str, str] | None = None  # requirements, module, package

    @property
    def name(self) -> str:
        return f"{self.tool}-{self.batch}"


def entrants(batch: int, small: int) -> list[Entrant]:
    """Ours at two batch sizes, the others at the larger one."""
    ours = [
        Entrant(f"monoscope {arch}", size, "monoscope_train.py", ("--arch", arch))
        for arch in ("topk", "batchtopk")
        for size in (small, batch)
    ]
    return [
        *ours,
        Entrant("sae-lens topk autocast", batch, "saelens_train.py", peer=("saelens", "sae_lens", "sae-lens")),
        Entrant("sparsify topk", batch, "sparsify_train.py", peer=("sparsify", "sparsify", "eai-sparsify")),
    ]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, nargs="+", default=[9216])
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4096, help="rows of a step; ours also runs at half of it")
    parser.add_argument("--steps", type=int, default=10, help="steps of this batch in one turn")
    parser.add_argument("--turns", type=int, default=6, help="turns that count; one more goes before")
    parser.add_argument("--only", nargs="+", default=[], help="run the tools whose names hold one of these words")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    results = Results("train", settings, keys=("tool", "latents", "k", "batch_rows", "cpu"))
    shards = shards_of(study(settings.run, settings.study_tokens))
    with tempfile.TemporaryDirectory(dir=bench_cache(), prefix="rows-") as scratch:
        rows = Path(scratch) / "rows.safetensors"
        for latents in settings.latents:
            wanted = {
                "latents": latents,
                "k": settings.k,
                "turns": settings.turns,
                "turn_rows": settings.steps * settings.batch,
                "only": settings.only,
            }
            if results.done(**wanted):
                say(f"{latents:,} latents were measured at this commit; --again measures them again")
                continue
            if not rows.is_file():
                write_rows(rows, shards, settings.seed)
            found, limit = race(settings, latents, shards, rows)
            results.limit[str(latents)] = limit.tokens_per_second()
            results.limit_terms[str(latents)] = limit.terms()
            results.put([{**row, **wanted} for row in found])
    show([row for row in results.rows if row["latents"] in settings.latents], COLUMNS)
    verdict(results, settings)


def write_rows(path: Path, shards: ShardStore, seed: int) -> None:
    """Training rows, shuffled, and held rows, for tools that cannot read shards."""
    train = torch.cat([block.x for block in shards.blocks("train")])
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]
    held = torch.cat([block.x for block in shards.blocks("held")])[:HELD_ROWS]
    save_file({"train": train[order], "held": held}, path)


def race(settings: Any, latents: int, shards: ShardStore, rows: Path) -> tuple[list[dict[str, Any]], StepLimit]:
    """All tools at one width. A tool that fails has a row with the reason, and the others go on."""
    turn_rows = settings.steps * settings.batch
    limit = StepLimit(latents=latents, width=shards.d_model, k=settings.k, batch=settings.batch, seed=settings.seed)
    lost: dict[str, str] = {}
    workers: dict[Entrant, Worker] = {}
    chosen = [
        entrant
        for entrant in entrants(settings.batch, settings.batch // 2)
        if not settings.only or any(word in entrant.tool for word in settings.only)
    ]
    for entrant in chosen:
        try:
            workers[entrant] = start(entrant, settings, latents, shards, rows)
        except (PeerMissing, WorkerLost) as error:
            lost[entrant.name] = str(error)
    rates: dict[Entrant, list[float]] = {entrant: [] for entrant in workers}
    for turn in range(settings.turns + 1):
        line = list(workers) if turn % 2 else list(reversed(workers))
        for entrant in line:
            try:
                found = workers[entrant].ask(steps=turn_rows // entrant.batch)["rows_per_second"]
                rates[entrant].append(found)
                say(f"turn {turn}: {entrant.name} {found:,.0f} tokens a second")
            except WorkerLost as error:
                lost[entrant.name] = str(error)
                workers.pop(entrant).stop()
        limit.measure()
    table = []
    for entrant in chosen:
        row = {"tool": entrant.tool, "batch_rows": entrant.batch, "version": version(entrant)}
        if entrant in workers:
            try:
                row |= figures(rates[entrant][1:], limit) | workers[entrant].ask()
                row["times"] = ratios(entrant, rates)
            except WorkerLost as error:
                row["reason"] = str(error)
            workers[entrant].stop()
        else:
            row["reason"] = lost[entrant.name]
            say(f"{entrant.name} is missing: {lost[entrant.name]}")
        table.append(row)
    return table, limit


def start(entrant: Entrant, settings: Any, latents: int, shards: ShardStore, rows: Path) -> Worker:
    """A worker that is ready for its first turn."""
    python = Path(sys.executable) if entrant.peer is None else environment(*entrant.peer[:2])
    tokens = settings.steps * settings.batch * (settings.turns + 1)
    words = [str(rows), *entrant.words] if entrant.peer else [str(shards.folder), str(rows), *entrant.words]
    numbers = {
        "latents": latents,
        "k": settings.k,
        "batch": entrant.batch,
        "tokens": tokens,
        "seed": settings.seed,
        "threads": settings.threads,
    }
    words += [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
    say(f"starting {entrant.name}")
    worker = Worker(entrant.name.replace(" ", "-"), python, entrant.script, words, threads=settings.threads)
    worker.hear()
    return worker


def version(entrant: Entrant) -> str | None:
    """The version of somebody else's tool; ours is the commit."""
    return pinned(entrant.peer[0], entrant.peer[2]) if entrant.peer else None


def figures(rates: list[float], limit: StepLimit) -> dict[str, Any]:
    """Tokens a second: the median turn, the slowest and the fastest, and the median as a share of the bound."""
    found = spread(rates)
    median = found.pop("median")
    return {"tokens_per_second": median, **found, "of_limit": median / limit.tokens_per_second()}


def ratios(entrant: Entrant, rates: dict[Entrant, list[float]]) -> dict[str, dict[str, float]]:
    """How many times as fast as each other tool: ratios within a turn, so that a disturbance hits both."""
    return {
        other.tool: spread(mine / yours for mine, yours in zip(rates[entrant][1:], theirs[1:], strict=False))
        for other, theirs in rates.items()
        if other.peer and other.tool != entrant.tool and len(theirs) > 1
    }


def verdict(results: Results, settings: Any) -> None:
    """Say what the goals are and whether they are met; a goal without a measurement is not."""
    print()
    for latents in settings.latents:
        bound = results.limit.get(str(latents))
        if bound:
            print(f"{latents:,} latents: physical limit {bound:,.0f} tokens a second")
        for row in results.rows:
            if row["latents"] != latents or not row["tool"].startswith("monoscope"):
                continue
            for other, found in row.get("times", {}).items():
                goal = next(goal for word, goal in GOALS.items() if other.startswith(word))
                met = "met" if found["median"] >= goal else "NOT met"
                print(
                    f"  {row['tool']} at {row['batch_rows']}: {found['median']:.2f} times {other} "
                    f"({found['min']:.2f} to {found['max']:.2f}); goal {goal:g} {met}"
                )


if __name__ == "__main__":
    main()
