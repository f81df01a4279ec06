"""The whole story on the embedded default: a small chat model, real text, a dictionary, an atlas, a steered answer."""

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from monoscope import building, measuring, presetting, stages, training
from monoscope.console import Board
from monoscope.core.artifact import read_json, write_json
from monoscope.core.progress import Progress
from monoscope.core.run import Run
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.model.transformer import load_model
from monoscope.showpiece import find_preset
from monoscope.train.recipes import Recipe

MODEL, SITE, NAME, PRESET = "smollm2-135m", "resid_post.15", "demo", "golden-gate"
QUESTION = "What is your physical form?"
FOCUS = ("Golden Gate Bridge", "San Francisco landmarks", "keeping a secret", "inner conflict")
STAGES = ("model", "text", "harvest", "train", "evaluate", "atlas", "presets")
# What was tried and what it gave stands in docs/lab_log.md.
TEXT = stages.TextRequest("demo", tokens=1_200_000, focus=FOCUS, focus_texts=64, answers=150, own_share=0.035)
RECIPE = Recipe(arch="batchtopk", latents=9216, k=32, tokens=4_000_000, learning_rate=1.2e-3, warmup_steps=100)


@dataclass
class _Clock:
    """How long each stage took and whether it had nothing to do. Mutable."""

    board: Board
    rows: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Any:
        began = time.perf_counter()
        row = {"name": name, "seconds": 0.0, "skipped": False}
        self.board.phase(name)
        yield row
        row["seconds"] = round(time.perf_counter() - began, 3)
        self.board.phase_over(name, skipped=row["skipped"])
        self.rows.append(row)


def tell_story(
    run: Run, board: Board, *, serve: bool, port: int | None, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Run every stage that is not finished yet; with `serve`, the explorer's address is printed first."""
    board.expect(STAGES)
    address = _open_explorer(run, board, port) if serve else None
    clock, listener = _Clock(board), stages.Stoppable(board, should_stop)
    with clock.stage("model") as row:
        row["skipped"] = bool(run.names("text", "manifest.json"))
        model = load_model(MODEL, dtype=stages.HARVEST_DTYPE)
    with clock.stage("text") as row:
        row["skipped"] = bool(run.names("text", "manifest.json"))
        stages.write_text(run, model, TEXT, name=NAME, progress=listener)
    with clock.stage("harvest") as row:
        found = stages.harvest(run, model, SITE, TEXT, name=NAME, progress=board, should_stop=should_stop)
        row["skipped"] = found["skipped"]
    with clock.stage("train") as row:
        found = training.train_dictionary(
            run, RECIPE, name=NAME, progress=board, should_stop=should_stop, measure=False
        )
        row["skipped"] = found["skipped"]
    with clock.stage("evaluate") as row:
        metrics = measuring.evaluate(run, name=NAME, progress=listener, model=model)
        row["skipped"] = metrics["skipped"]
    with clock.stage("atlas") as row:
        row["skipped"] = building.build(run, name=NAME, progress=listener, model=model, meaning=True)["skipped"]
    with clock.stage("presets") as row:
        pair, row["skipped"] = _presets(run, listener)
    return {"run": str(run.path), "stages": clock.rows, "metrics": metrics, **pair, "address": address}


def _open_explorer(run: Run, board: Board, port: int | None) -> Any:
    from monoscope.serve.app import start_in_background

    run.path.mkdir(parents=True, exist_ok=True)
    address = start_in_background(run.path, port)
    board.say(f"The explorer is at {address.url}  (it shows how far the work is, then the features)")
    return address


def _presets(run: Run, progress: Progress) -> tuple[dict[str, Any], bool]:
    """The golden-gate preset and the pair of answers that the home page opens with."""
    path, digest = run.path / "demo.json", dictionary_digest(run.dictionary(NAME))
    if path.is_file():
        found = read_json(path)
        if found.get("dictionary_digest") == digest:
            return _pair(found), True
    speaker = load_model(MODEL)
    dictionary = load_dictionary(run.dictionary(NAME))
    found = find_preset(run, NAME, speaker, dictionary, FOCUS[0], QUESTION, progress=progress)
    edits = tuple(found["edits"])
    presetting.save_preset(run, PRESET, edits, note=f"Features of {FOCUS[0]}, found by contrast.", name=NAME)
    write_json(path, {"version": 1, "dictionary_digest": digest, "preset": PRESET, "question": QUESTION, **found})
    return _pair(found), False


def _pair(found: dict[str, Any]) -> dict[str, Any]:
    return {"question": QUESTION, **{key: found[key] for key in ("baseline", "steered", "edits", "features", "seed")}}


def tell_demo(result: dict[str, Any]) -> str:
    """The end of the demo, for a terminal."""
    metrics = result["metrics"]
    took = sum(row["seconds"] for row in result["stages"])
    return "\n".join(
        [
            f"{result['run']}: {took:.0f} s, FVU {metrics['fvu']:.3f} at L0 {metrics['l0']:.1f}, "
            f"{100 * metrics['ce_recovered']:.1f} % of cross-entropy recovered, {metrics['dead']} dead",
            "",
            f"“{result['question']}”",
            f"  plain    {' '.join(result['baseline'].split())}",
            f"  steered  {' '.join(result['steered'].split())}",
            f"  preset {PRESET}: " + "; ".join(result["edits"]),
            *(f"  feature {item['feature']}: {item['label']}" for item in result["features"]),
        ]
    )
