"""The safety page of a model: every concept through one run, kept one by one, and told as HTML and JSON."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monoscope.core.artifact import digest_of, holding, read_json, replacing, write_json
from monoscope.core.errors import BadRequest, MonoscopeError, SourceNotFound
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.monitoring import Pair, labels_for, open_reader, ordinary_texts
from monoscope.safety.audit_page import audit_html
from monoscope.safety.concept_audit import Scene, audit_concept, concept_values
from monoscope.safety.examples import SUITES, Example, labelled_lines, suite
from monoscope.safety.reading import read_examples

VERSION = 1


def audit(  # noqa: PLR0913
    run: Run,
    *,
    concepts: Sequence[str] = (),
    own: Sequence[Path] = (),
    replacing_it: bool = False,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Audit some or all shipped concepts and a user's own, and write RUN/audits/<dictionary>/.

    A stopped audit goes on with the next concept. `own` are JSON-lines files with `label`, `group` and maybe `hard`,
    each a concept named after its file.

    Raises
        BadRequest        a concept is unknown, or a file has too few texts.
        SourceNotFound    a file is not there.
        InterruptedError  `should_stop` said so; finished concepts are kept.
    """
    began = time.monotonic()
    wanted = _wanted(concepts, own)
    chosen = run.choose_dictionary(name)
    folder = run.path / "audits" / chosen
    with holding(run.path):
        pair = open_reader(run, chosen)
        request = {"version": VERSION, "dictionary": pair.digest, "model": pair.model.digest, "seed": seed}
        kept = {} if replacing_it else _kept(folder, request, wanted)
        left = [each for each in wanted if each not in kept]
        ordinary_fvu = _ordinary_fvu(folder, request) if kept and not left else None
        if left:
            ordinary_fvu = _audit_each(run, pair, folder, request, left, wanted, kept, seed, progress, should_stop)
        found = [kept[each] for each in wanted]
        result = {
            "concepts": found,
            "dictionary": chosen,
            "model": pair.source,
            "site": str(pair.dictionary.site),
            "latents": pair.dictionary.n_latents,
            "fvu_ordinary": ordinary_fvu,
            "headlines": headlines(found),
            "seed": seed,
            "seconds": round(time.monotonic() - began, 1),
            "skipped": not left,
            "report": str(folder / "audit.html"),
        }
        write_json(folder / "audit.json", result)
        with replacing(folder / "audit.html") as aside:
            aside.write_text(audit_html(result), encoding="utf-8")
    return result


def _wanted(concepts: Sequence[str], own: Sequence[Path]) -> dict[str, list[Example]]:
    unknown = [each for each in concepts if each not in SUITES]
    if unknown:
        raise BadRequest(f"There is no concept {unknown[0]!r}; there are {', '.join(SUITES)}, or --examples FILE.")
    for path in own:
        if not path.is_file():
            raise SourceNotFound(f"There is no file {path}.")
    shipped = concepts or (() if own else SUITES)
    return {each: suite(each) for each in shipped} | {path.stem: labelled_lines(path) for path in own}


def _audit_each(  # noqa: PLR0913
    run: Run,
    pair: Pair,
    folder: Path,
    request: dict[str, Any],
    left: Sequence[str],
    wanted: dict[str, list[Example]],
    kept: dict[str, dict[str, Any]],
    seed: int,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> float:
    """Audit the concepts that are left, each on the disk before the next begins; the FVU of ordinary text."""
    ordinary = read_examples(pair.model, pair.dictionary, ordinary_texts(run, pair.name), progress=progress)
    scene = Scene(pair.model, pair.dictionary, ordinary, seed)
    fvu = round(ordinary.fvu, 4)
    progress.start("audit", len(wanted), "concepts", already=len(kept))
    for each in left:
        if should_stop():
            raise InterruptedError
        concept = audit_concept(scene, each, wanted[each])
        features = [feature for feature, _ in concept.features]
        kept[each] = concept_values(concept, labels_for(run, pair.name, [*features, concept.leading]))
        value = {"request": _request_of(request, wanted[each]), "fvu_ordinary": fvu, "concept": kept[each]}
        write_json(folder / "concepts" / f"{each}.json", value)
        progress.advance(1)
    progress.finish()
    return fvu


def _kept(folder: Path, request: dict[str, Any], wanted: dict[str, list[Example]]) -> dict[str, dict[str, Any]]:
    """Concepts that were audited before with this very request on these very texts."""
    found = {}
    for each, examples in wanted.items():
        try:
            value = read_json(folder / "concepts" / f"{each}.json")
        except MonoscopeError:
            continue
        if value.get("request") == json.loads(json.dumps(_request_of(request, examples))):
            found[each] = value["concept"]
    return found


def _ordinary_fvu(folder: Path, request: dict[str, Any]) -> float | None:
    for path in sorted((folder / "concepts").glob("*.json")):
        value = read_json(path)
        if all(value["request"].get(key) == found for key, found in request.items()):
            return value["fvu_ordinary"]
    return None


def _request_of(request: dict[str, Any], examples: Sequence[Example]) -> dict[str, Any]:
    return {**request, "texts": digest_of(list(examples))}


def headlines(concepts: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader must know first: where features lose, and where nothing was found."""
    found = [each for each in concepts if each["found"]]
    lose = [each["name"] for each in concepts if not each["beats_words"]]
    probe = [each["name"] for each in concepts if each["auroc_heldout"] < each["baseline"]["probe"] - 0.005]
    nothing = [each["name"] for each in concepts if not each["found"]]
    moves = [each["name"] for each in concepts if each["leading"]["moves"]]
    count = len(concepts)
    lines = []
    if lose:
        lines.append(
            f"A bag of words does better than the readable features on {len(lose)} of {count}: {_listed(lose)}."
        )
    if nothing:
        lines.append(f"We found nothing beyond chance on {len(nothing)} of {count}: {_listed(nothing)}.")
    if probe:
        lines.append(
            f"A dense linear probe does better than the readable features on {len(probe)} of {count}: {_listed(probe)}."
        )
    lines.append(f"Readable features tell the texts apart beyond chance on {len(found)} of {count}.")
    lines.append(
        f"Turning the leading feature up makes texts of its concept likelier, beyond a random push of equal length, on "
        f"{len(moves)} of {count}" + (f": {_listed(moves)}." if moves else ".")
    )
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)
