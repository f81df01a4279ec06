"""How long a step of generation takes by how long waiting threads look out, alone and beside a busy loop.

`GOMP_SPINCOUNT` says it to GNU OpenMP, about a hundred thousand to the millisecond; `monoscope.core.waiting` sets what
commands use. Where torch computes with another OpenMP this tells nothing.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import Results, arguments, bench_cache, say, show, spread, study
from serve_race import OURS, Entrant, Found, start_worker
from serve_scene import Scene

COLUMNS = ("spins", "beside", "streams", "milliseconds")
ALONE, BUSY = "nothing", "a busy loop"
BATCHER = Entrant(OURS, "float32", "monoscope_generate.py", ("none",))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--dictionary", help="the dictionary; without it the first of the run")
    parser.add_argument("--latents", type=int, default=9216, help="of the quick dictionary of a small study")
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--spins", type=int, nargs="+", default=[0, 1_000, 10_000, 300_000])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=24, help="tokens of a reply")
    parser.add_argument("--turns", type=int, default=4)
    settings = parser.parse_args()
    results = Results("waiting", settings, keys=("spins", "beside", "streams", "cpu"))
    scene = Scene.of(study(settings.run, settings.study_tokens), settings)
    with tempfile.TemporaryDirectory(dir=bench_cache(), prefix="scene-") as scratch:
        tensors = Path(scratch) / "scene.safetensors"
        scene.write(tensors)
        for spins in settings.spins:
            results.put(list(rows_of(spins, scene, tensors, settings)))
    show(results.rows, COLUMNS)


def rows_of(spins: int, scene: Scene, tensors: Path, settings: Any) -> Iterator[dict[str, Any]]:
    """The times of one setting, each the median of a few replies divided by their tokens."""
    # A worker takes the environment of this program, which has its threads already.
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(spins)}
    worker = start_worker(BATCHER, scene, tensors, settings.threads, Found())
    try:
        for beside in (ALONE, BUSY):
            for streams in settings.streams:
                with busy_loop() if beside == BUSY else contextlib.nullcontext():
                    answers = [
                        worker.ask(streams=streams, edits="none", tokens=settings.new) for _ in range(settings.turns)
                    ]
                told = spread(1000 * answer["seconds"] / settings.new for answer in answers)
                say(f"{spins} spins beside {beside}, {streams} streams: {told['median']:.1f} ms a step")
                yield {"spins": spins, "beside": beside, "streams": streams, "milliseconds": told}
    finally:
        worker.stop()


@contextlib.contextmanager
def busy_loop() -> Iterator[None]:
    """A neighbour that never rests."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


if __name__ == "__main__":
    main()
