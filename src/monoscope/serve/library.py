"""What the server knows of a run: its atlases and dictionaries, opened when first asked for, and its model.

The model is loaded in the background, so that pages which need none answer at once. A run that is still being made has
no atlas yet; then there is progress to show instead.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monoscope.atlas.query import Atlas
from monoscope.core.artifact import digest_of, read_json
from monoscope.core.errors import ArtifactNotFound, MonoscopeError, Unavailable
from monoscope.core.run import Run, checked_name
from monoscope.core.runtime import passing_computation, release_threads
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.safety.patrol import Patrol
from monoscope.serve.queue import Queue
from monoscope.serve.shelf import Shelf, Stamp, stamp_of
from monoscope.steer.batcher import Batcher
from monoscope.steer.edits import parse_edit, parse_feature
from monoscope.steer.presets import Preset, list_presets, load_preset

_STALE_SECONDS = 120.0


@dataclass(frozen=True)
class About:
    """What is loaded, for the first page. `metrics` are those of `evaluate`, or nothing."""

    run: str
    dictionary: str
    dictionaries: tuple[str, ...]
    model: str
    note: str
    site: str
    features: int
    alive: int
    tokens: int
    text: str
    metrics: dict[str, Any]
    model_state: str


class Library:
    """The parts of one run. Mutable: it opens things once and keeps them. Safe to use from several threads.

    All that the model writes goes through one batcher, and so past the monitors of `patrol`.
    """

    def __init__(self, run: Path, name: str | None = None, patrol: Patrol | None = None) -> None:
        self.run = Run(Path(run))
        self.patrol = patrol or Patrol([])
        self.queue = Queue()
        self._wanted = name
        self._lock = threading.RLock()
        self._shelf = Shelf()
        self._dictionaries: dict[str, tuple[Stamp, Dictionary]] = {}
        self._model: LanguageModel | None = None
        self._model_error = ""
        self._loader: threading.Thread | None = None
        self._batcher: Batcher | None = None

    def names(self) -> list[str]:
        """The dictionaries that have an atlas, the wanted one first."""
        found = self.run.names("atlas", "manifest.json")
        if self._wanted is not None:
            found.sort(key=lambda name: (name != self._wanted, name))
        return found

    @property
    def ready(self) -> bool:
        """Whether there is an atlas to look at."""
        names = self.names()
        return bool(names) and (self._wanted is None or names[0] == self._wanted)

    def choose(self, name: str | None = None) -> str:
        """The dictionary that is meant; without a name the wanted one, or the first.

        Raises
            ArtifactNotFound  there is no atlas of this name, or none at all yet.
        """
        names = self.names()
        if name is not None and (checked_name(name) not in names):
            raise ArtifactNotFound(f"There is no atlas named {name}; there are: {', '.join(names) or 'none yet'}.")
        if not self.ready:
            raise ArtifactNotFound("There is no atlas yet; the first page shows how far it is.")
        return name or names[0]

    def atlas(self, name: str | None = None) -> Atlas:
        """An atlas as it lies on the disk now; any number of readers may use it."""
        return self._shelf.get(self.run.atlas(self.choose(name)))

    def dictionary(self, name: str | None = None) -> Dictionary:
        """The weights of a dictionary as they lie on the disk now."""
        name = self.choose(name)
        stamp = stamp_of(self.run.dictionary(name), ("monoscope.json",))
        with self._lock:
            held = self._dictionaries.get(name)
            if held is None or held[0] != stamp:
                with passing_computation():
                    held = self._dictionaries[name] = stamp, load_dictionary(self.run.dictionary(name))
            return held[1]

    def dictionaries_for(self, lines: Iterable[str], name: str | None = None) -> dict[str, Dictionary]:
        """The dictionaries that some edits or features `[DICTIONARY/]ID` speak of, the one meant without a name first.

        Raises
            ArtifactNotFound  there is no atlas of a name.
            BadEdit           a line is neither an edit nor a feature.
        """
        default = self.choose(name)
        named = [found for line in lines for found in _dictionaries_named(line)]
        return {each: self.dictionary(each) for each in dict.fromkeys([default, *named])}

    def batcher(self) -> Batcher:
        """What runs the model for everybody.

        Raises
            Unavailable  the model is still being loaded, or could not be.
        """
        model = self.model()
        with self._lock:
            if self._batcher is None or self._batcher.failed:
                self.patrol.reads(model.decode)
                self._batcher = Batcher(model, watchers=self.patrol.watchers)
            return self._batcher

    @property
    def running_batcher(self) -> Batcher | None:
        """The same if it runs already; for those who only look."""
        return self._batcher

    def close(self) -> None:
        """End what runs in the background."""
        with self._lock:
            batcher, self._batcher = self._batcher, None
        if batcher is not None:
            batcher.close()
        self.patrol.close()

    def start_model(self) -> None:
        """Begin to load the model, unless that has begun already."""
        with self._lock:
            if self._model is None and not self._model_error and (self._loader is None or not self._loader.is_alive()):
                self._loader = threading.Thread(target=self._load, name="model loader", daemon=True)
                self._loader.start()

    def give_model(self, model: LanguageModel) -> None:
        """Use a model that is in memory already, and that the caller computes with no more."""
        release_threads()
        with self._lock:
            self._model = model

    @property
    def model_state(self) -> str:
        """ready, loading, failed or absent (nobody has asked for it yet)."""
        if self._model is not None:
            return "ready"
        if self._model_error:
            return "failed"
        return "loading" if self._loader is not None and self._loader.is_alive() else "absent"

    def model(self) -> LanguageModel:
        """The model, in float32.

        Raises
            Unavailable  it is still being loaded, or could not be.
        """
        if self._model is None:
            self.start_model()
        if self._model_error:
            raise Unavailable(f"The model could not be loaded: {self._model_error}")
        if self._model is None:
            raise Unavailable("The model is being loaded; this takes a few seconds.")
        return self._model

    def wait_for_model(self, seconds: float = 120.0) -> LanguageModel:
        """The model, waited for; raises like `model`."""
        self.start_model()
        if self._loader is not None:
            self._loader.join(seconds)
        return self.model()

    def _load(self) -> None:
        try:
            name = self.choose()
            self.dictionary(name)
            model = load_model(self.run.provenance(name)["model"])
            model.vocabulary  # noqa: B018  made now, so that the first visitor does not wait for it
            self._model = model
        except MonoscopeError as error:
            self._model_error = str(error)
        except Exception as error:
            self._model_error = f"{type(error).__name__} while loading it"

    def about(self, name: str | None = None) -> About:
        """What is loaded."""
        name = self.choose(name)
        summary = self.atlas(name).summary()
        origin = self._provenance(name)
        return About(
            run=self.run.path.resolve().name,
            dictionary=name,
            dictionaries=tuple(self.names()),
            model=str(origin.get("model", "")),
            note=self._model.note if self._model is not None else "",
            site=str(origin.get("site", "")),
            features=int(summary["features"]),
            alive=int(summary["alive"]),
            tokens=int(summary["tokens"]),
            text=str(origin.get("text", "")),
            metrics=self._metrics(name),
            model_state=self.model_state,
        )

    def _provenance(self, name: str) -> dict[str, Any]:
        try:
            about = read_json(self.run.dictionary(name) / "monoscope.json")
        except MonoscopeError:
            return {}
        return {"site": about.get("site", ""), **about.get("provenance", {})}

    def _metrics(self, name: str) -> dict[str, Any]:
        try:
            return dict(read_json(self.run.dictionary(name) / "metrics.json").get("metrics", {}))
        except (MonoscopeError, TypeError):
            return {}

    def demo(self) -> dict[str, Any] | None:
        """The pair of answers kept with the demo, or None."""
        try:
            found = read_json(self.run.path / "demo.json")
        except MonoscopeError:
            return None
        return found if all(isinstance(found.get(key), str) for key in ("question", "baseline", "steered")) else None

    def presets(self, name: str | None = None) -> list[Preset]:
        """The presets made for a dictionary; those that cannot be read or belong to another are left out."""
        name = self.choose(name)
        found = []
        for preset in list_presets(self.run.path):
            with contextlib.suppress(MonoscopeError):
                loaded = load_preset(self.run.path, preset)
                if loaded.dictionary == name and loaded.dictionary_digest == self.digest(name):
                    found.append(loaded)
        return found

    def digest(self, name: str) -> str:
        """Depends on every byte of a dictionary's weights and statistics."""
        return digest_of(read_json(self.run.dictionary(name) / "monoscope.json")["digests"])

    def progress(self) -> dict[str, Any]:
        """How far the making of the run is. `alive` says whether somebody is still at work."""
        try:
            found = json.loads((self.run.path / "progress.json").read_text())
            stages, updated = list(found["stages"]), float(found["updated"])
        except (OSError, ValueError, KeyError, TypeError):
            stages, updated, found = [], 0.0, {}
        process = found.get("process")
        alive = _is_alive(process) if isinstance(process, int) else time.time() - updated < _STALE_SECONDS
        return {"ready": self.ready, "alive": alive, "updated": updated, "stages": stages}


def _dictionaries_named(line: str) -> list[str]:
    """The dictionaries that an edit or a feature names."""
    if " " not in line.strip():
        name, _ = parse_feature(line.strip())
        return [name] if name else []
    edit = parse_edit(line)
    names = (edit.dictionary, edit.condition.dictionary if edit.condition else None)
    return [name for name in names if name]


def _is_alive(process: int) -> bool:
    if process <= 1:
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
