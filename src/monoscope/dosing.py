"""A run, its atlas and its model joined to measure what edits do: doses, costs, and which features can steer."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monoscope.atlas.desk import Desk
from monoscope.atlas.outputs import outputs_of, save_outputs
from monoscope.atlas.query import Atlas
from monoscope.core.errors import BadRequest, FeatureNotFound
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.effect.battery import held_windows, run_battery
from monoscope.effect.dose import Bench, Settings, request_of
from monoscope.effect.kept import recommended_edit, with_doses
from monoscope.effect.output_score import output_scores
from monoscope.effect.shipped import questions
from monoscope.explore import open_atlas, open_pair
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import load_model
from monoscope.stages import HARVEST_DTYPE
from monoscope.steer.presets import load_preset
from monoscope.steer.prompt import Prompt
from monoscope.steer.resolve import resolve_all
from monoscope.text.files import file_documents

# A stopped `steerable` has lost no more than so many features.
_KEPT_EVERY = 512


def dose(
    run: Run,
    feature: int,
    *,
    mode: str = "add",
    scope: str = "all",
    prompts: Path | None = None,
    seed: int = 0,
    replacing_it: bool = False,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """The dose of a feature, kept on the desk of its atlas; one kept of the same settings is told again.

    Raises
        FeatureNotFound  there is no such feature, or it never fires.
        BadRequest       a setting makes no sense, or the dictionary is a transcoder.
        EmptyText        the feature's contexts share no word to listen for.
    """
    atlas = open_atlas(run, name)
    settings = Settings(mode, seed, questions() if prompts is None else read_prompts(prompts), scope=scope)
    check_living(atlas, feature)
    kept = None if replacing_it else kept_dose(atlas, feature, settings)
    if kept is not None:
        return {**kept, "skipped": True}
    return new_dose(open_bench(run, atlas, settings), feature, progress)


def kept_dose(atlas: Atlas, feature: int, settings: Settings) -> dict[str, Any] | None:
    """The record on the desk, if it was measured with these settings."""
    record = atlas.desk.doses().get(feature)
    return record if record is not None and record.get("settings") == request_of(settings, atlas) else None


def new_dose(bench: Bench, feature: int, progress: Progress = SILENT) -> dict[str, Any]:
    """Measure a dose and put it on the desk; raises like `dose`."""
    check_living(bench.atlas, feature)
    record = bench.dose(feature, progress)
    bench.atlas.desk.dose(feature, record)
    return {**record, "skipped": False}


def open_bench(run: Run, atlas: Atlas, settings: Settings) -> Bench:
    """Model and dictionary of an atlas, ready to measure any number of doses.

    Raises
        BadRequest  the dictionary is a transcoder.
    """
    dictionary = load_dictionary(run.dictionary(atlas.dictionary))
    if dictionary.transcodes:
        raise BadRequest(
            f"{dictionary.name} is a transcoder, which reads {dictionary.site} and writes {dictionary.target}; edits, "
            "and so doses, need a dictionary of one site."
        )
    return Bench(load_model(run.provenance(atlas.dictionary)["model"]), dictionary, atlas, settings)


def check_living(atlas: Atlas, feature: int) -> None:
    """Agree that a feature fires somewhere.

    Raises
        FeatureNotFound  there is no such feature, or it never fires.
    """
    atlas.check_feature(feature)
    if not atlas.rows("firings", [feature])[0]["firings"]:
        raise FeatureNotFound(
            f"Feature {feature} of {atlas.dictionary} never fires, so there is no concept to bring up."
        )


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a JSON-lines file: each a text to answer, or messages."""
    found: list[Prompt] = []
    for document in file_documents(str(path)):
        messages = tuple({"role": role, "content": content} for role, content in document.messages)
        found.append(messages or document.text)
    return tuple(found)


def cost(
    run: Run,
    edits: tuple[str, ...],
    *,
    preset: str | None = None,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """What edits cost elsewhere: the battery without and with them.

    Raises
        BadRequest  there is no edit.
        BadEdit     one makes no sense.
    """
    began = time.monotonic()
    chosen = run.choose_dictionary(name)
    digest = dictionary_digest(run.dictionary(chosen))
    if preset is not None:
        edits = load_preset(run.path, preset, dictionary_digest=digest).edits + edits
    if not edits:
        raise BadRequest("There is no edit to cost anything; give --edit, as '8011 add 0.4r', or --preset.")
    edits = with_doses(Desk(run.atlas(chosen), digest), edits)
    moves = resolve_all(edits, {chosen: load_dictionary(run.dictionary(chosen))})
    origin = run.provenance(chosen)
    windows = held_windows(TokenStore.load(run.text(origin["text"])), seed=seed)
    figures = run_battery(load_model(origin["model"]), moves, windows, seed=seed, progress=progress)
    return {
        "edits": [str(move) for move in moves],
        "battery": [figure.to_json() for figure in figures],
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
    }


def steerable(
    run: Run,
    *,
    limit: int = 20,
    replacing_it: bool = False,
    name: str | None = None,
    progress: Progress = SILENT,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """The output score of every feature that fires, kept beside the atlas; the best `limit` are told.

    Raises
        BadRequest        the limit makes no sense, or the atlas knows no tokens that features raise.
        BadEdit           the dictionary is a transcoder.
        FeatureNotFound   no feature fires.
        InterruptedError  `should_stop` said so; what is finished is kept.
    """
    if limit < 1:
        raise BadRequest(f"--limit {limit} must be at least 1.")
    began = time.monotonic()
    atlas = open_atlas(run, name)
    living = np.flatnonzero(atlas.column("firings") > 0)
    if not len(living):
        raise FeatureNotFound(f"No feature of {atlas.dictionary} fires, so there is none to score.")
    found = None if replacing_it else outputs_of(atlas)
    scores = np.full(atlas.n_features, np.nan, np.float32) if found is None else found
    left = living[~np.isfinite(scores[living])]
    if len(left):
        _score(run, atlas, left, scores, progress, should_stop)
    best = living[np.argsort(-scores[living], kind="stable")][:limit].tolist()
    labels = atlas.labels_of(best)
    return {
        "features": len(living),
        "median": round(float(np.median(scores[living])), 5),
        "results": [
            {"feature": feature, "label": labels[feature], "output_score": round(float(scores[feature]), 4)}
            for feature in best
        ],
        "seconds": round(time.monotonic() - began, 1),
        "skipped": not len(left),
    }


def _score(
    run: Run, atlas: Atlas, left: np.ndarray, scores: np.ndarray, progress: Progress, should_stop: Callable[[], bool]
) -> None:
    model, dictionary = open_pair(run, atlas.dictionary, dtype=HARVEST_DTYPE)
    progress.start("output", len(left), "features")
    for first in range(0, len(left), _KEPT_EVERY):
        if should_stop():
            raise InterruptedError
        some = left[first : first + _KEPT_EVERY].tolist()
        promoted = [row["promoted"] for row in atlas.rows("promoted", some)]
        if not all(promoted):
            raise BadRequest(f"The atlas of {atlas.dictionary} knows no tokens that features raise; build it again.")
        scores[some] = output_scores(model, dictionary, some, torch.tensor(promoted), progress=progress).numpy()
        save_outputs(atlas.folder, atlas.digest, scores)
    progress.finish()


def effects_of(run: Run, feature: int, *, name: str | None = None) -> dict[str, Any]:
    """What is known of a feature's effect: its output score, and the edit that its dose recommends."""
    atlas = open_atlas(run, name)
    scores, record = outputs_of(atlas), atlas.desk.doses().get(feature)
    known = scores is not None and bool(np.isfinite(scores[feature]))
    found = record.get("recommended") if record is not None and recommended_edit(record) is not None else None
    return {"output_score": round(float(scores[feature]), 4) if scores is not None and known else None, "dose": found}
