"""What all benchmarks share: the machine, results on disk, timing, and the run that they measure on."""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from monoscope.core.artifact import write_json
from monoscope.core.progress import SILENT
from monoscope.core.run import Run
from monoscope.core.wheels import cache_folder
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore
from monoscope.stages import TextRequest, harvest
from monoscope.train.recipes import Recipe
from monoscope.training import train_dictionary

HERE = Path(__file__).resolve().parent
MODEL, SITE, TEXT = "smollm2-135m", "resid_post.15", "wiki-en"
STUDY_TOKENS = 250_000
_PACKAGES = ("monoscope", "torch", "transformers", "numpy", "numba", "duckdb", "safetensors")


def arguments(about: str) -> argparse.ArgumentParser:
    """The settings that every benchmark has."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder to measure on; without one a small study is made")
    parser.add_argument("--study-tokens", type=int, default=STUDY_TOKENS, help="size of that small study")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="measure again what the results file already has")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the results")
    return parser


def say(text: str) -> None:
    """Tell a person what happens now."""
    print(text, file=sys.stderr, flush=True)


# --- the run that is measured on -------------------------------------------------------------------------------------


def bench_cache() -> Path:
    """Environments, studies and scratch of the benchmarks."""
    folder = cache_folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def study(given: Path | None, tokens: int) -> Run:
    """The run that was given if it has activations; else a small one of encyclopedia articles, kept in the cache."""
    if given is not None and Run(given).names("activations", "manifest.json"):
        return Run(given)
    if given is not None:
        say(f"{given} has no activations; measuring on a study of {tokens:,} tokens of {TEXT} instead")
    run = Run(bench_cache() / f"study-{tokens}")
    found = harvest(run, MODEL, SITE, TextRequest(TEXT, tokens))
    if not found["skipped"]:
        say(f"harvested {found['rows']:,} rows for the study in {run.path}")
    return run


def shards_of(run: Run) -> ShardStore:
    """The activations of a run; the first by name where it has several."""
    return ShardStore.load(run.activations(run.names("activations", "manifest.json")[0]))


def text_of(run: Run, shards: ShardStore) -> TokenStore:
    """The text that the activations come from."""
    return TokenStore.load(run.text(shards.manifest["request"]["text"]))


def dictionary_of(run: Run, name: str | None, *, latents: int, k: int) -> str:
    """The named dictionary, or the first with enough latents; a quick one is trained where a study has none."""
    names = run.names("dictionaries", "monoscope.json")
    if name is not None:
        return run.choose_dictionary(name)
    if names:
        return names[0]
    if bench_cache() not in run.path.parents:
        raise SystemExit(f"{run.path} has no dictionary; train one first, or measure without --run.")
    say(f"training a quick dictionary of {latents:,} latents for the study")
    return train_dictionary(run, Recipe(latents=latents, k=k, tokens=400_000), progress=SILENT)["name"]


# --- timing ----------------------------------------------------------------------------------------------------------


def spread(values: Iterable[float]) -> dict[str, float]:
    """Minimum, median, maximum and how many there are."""
    found = [float(value) for value in values]
    return {"min": min(found), "median": statistics.median(found), "max": max(found), "n": len(found)}


# --- results ---------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "load_average": list(os.getloadavg()),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    """Versions of what matters here."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """The commit as this program began, and a digest of what was changed since where the tree is not clean."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        places = ("--", "src", "benchmarks", ":!benchmarks/results")
        changed = _git("diff", "HEAD", *places) + _git("ls-files", "--others", "--exclude-standard", *places)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed else head


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE.parent, capture_output=True, text=True, check=True).stdout


class Results:
    """One file of results. Rows are appended as they are measured, so that a stopped run goes on where it was.

    A row is known by the values of `keys`; rows measured with the same keys, at the same commit, on the same kind of
    machine count as done.
    """

    def __init__(self, name: str, settings: argparse.Namespace, keys: Sequence[str]) -> None:
        self.path, self.keys = settings.results / f"{name}.json", tuple(keys)
        self._stamp = {"commit": commit(), "cpu": f"{_cpu_name()} x {os.cpu_count()}"}
        self._again, self._seed = settings.again, settings.seed
        old = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.rows: list[dict[str, Any]] = old.get("rows", [])
        self.limit: dict[str, Any] = old.get("limit", {})
        self.limit_terms: dict[str, Any] = old.get("limit_terms", {})

    def done(self, **wanted: Any) -> bool:
        """Whether rows with these values were measured already, none of them missing; never with --again."""
        wanted |= self._stamp
        found = [row for row in self.rows if all(row.get(name) == value for name, value in wanted.items())]
        return not self._again and bool(found) and not any("reason" in row for row in found)

    def put(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows, in place of older ones with the same keys, and write the file."""
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for row in rows:
            fresh = {**row, **self._stamp, "date": date, "command": _command()}
            key = [fresh.get(name) for name in self.keys]
            self.rows = [old for old in self.rows if [old.get(name) for name in self.keys] != key]
            self.rows.append(fresh)
        write_json(
            self.path,
            {
                "machine": machine(),
                "versions": versions(),
                "command": _command(),
                "seed": self._seed,
                "commit": self._stamp["commit"],
                "date": date,
                "rows": self.rows,
                **({"limit": self.limit, "limit_terms": self.limit_terms} if self.limit else {}),
            },
        )


def _command() -> str:
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as a table; a spread shows as its median with minimum and maximum behind it."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[place]) for line in [list(columns), *cells]) for place in range(len(columns))]
    for line in [list(columns), ["-" * width for width in widths], *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{_cell(value['median'])} ({_cell(value['min'])} to {_cell(value['max'])})"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
