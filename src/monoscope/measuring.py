"""The figures of a dictionary: what it explains, and what the model loses with it, on text it has not seen."""

from typing import Any

from monoscope.core.artifact import read_json, write_json
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.evaluate.fidelity import fidelity
from monoscope.evaluate.report import report
from monoscope.evaluate.splice import splice
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import load_model
from monoscope.stages import HARVEST_DTYPE
from monoscope.training import rows_of


def evaluate(
    run: Run, *, name: str | None = None, replacing_it: bool = False, progress: Progress = SILENT, model: Any = None
) -> dict[str, Any]:
    """Fidelity, splice and health on the held-out split; kept in metrics.json."""
    name = run.choose_dictionary(name)
    folder = run.dictionary(name)
    origin = run.provenance(name)
    rows = rows_of(run, name, model=model)
    request = {"dictionary": dictionary_digest(folder), "activations": rows.digest}
    path = folder / "metrics.json"
    if path.is_file() and not replacing_it:
        found = read_json(path)
        if found.get("request") == request:
            return {**found["metrics"], "name": name, "skipped": True}
    dictionary = load_dictionary(folder)
    store = TokenStore.load(run.text(origin["text"]))
    speaker = model or load_model(origin["model"], dtype=HARVEST_DTYPE)
    metrics = report(fidelity(dictionary, rows, progress), splice(dictionary, speaker, store, progress=progress))
    write_json(path, {"version": 1, "request": request, "metrics": metrics})
    return {**metrics, "name": name, "skipped": False}
