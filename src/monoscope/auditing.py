"""The safety page of a model: every concept through one run, kept one by one, and told as HTML and JSON."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monoscope.core.artifact import digest_of, holding, read_json, replacing, write_json
from monoscope.core.errors import BadRequest, MonoscopeError, SourceNotFound
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.pairing import Pair, labels_for, open_reader, ordinary_texts
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
    with holding(run.path):
        desk = _Desk(run, open_reader(run, chosen), wanted, seed)
        kept = {} if replacing_it else desk.kept()
        left = [each for each in wanted if each not in kept]
        kept |= desk.audit(left, progress, should_stop) if left else {}
        found = [kept[each] for each in wanted]
        pair = desk.pair
        result = {
            "concepts": found,
            "dictionary": chosen,
            "model": pair.source,
            "site": str(pair.dictionary.site),
            "latents": pair.dictionary.n_latents,
            "fvu_ordinary": found[0]["fvu_ordinary"],
            "headlines": headlines(found),
            "seed": seed,
            "seconds": round(time.monotonic() - began, 1),
            "skipped": not left,
            "report": str(desk.folder / "audit.html"),
        }
        write_json(desk.folder / "audit.json", result)
        with replacing(desk.folder / "audit.html") as aside:
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


@dataclass(frozen=True)
class _Desk:
    """Where the concepts of one audit are worked at, one file each."""

    run: Run
    pair: Pair
    wanted: dict[str, list[Example]]
    seed: int

    @property
    def folder(self) -> Path:
        return self.run.path / "audits" / self.pair.name

    def kept(self) -> dict[str, dict[str, Any]]:
        """Concepts that were audited before with this very request on these very texts."""
        found = {}
        for each in self.wanted:
            with contextlib.suppress(MonoscopeError):
                value = read_json(self._file(each))
                if value.get("request") == self._request(each):
                    found[each] = value["concept"]
        return found

    def audit(
        self, left: Sequence[str], progress: Progress, should_stop: Callable[[], bool]
    ) -> dict[str, dict[str, Any]]:
        """Audit some concepts; each is on the disk before the next begins."""
        pair, found = self.pair, {}
        ordinary = read_examples(pair.model, pair.dictionary, ordinary_texts(self.run, pair.name), progress=progress)
        scene = Scene(pair.model, pair.dictionary, ordinary, self.seed)
        progress.start("audit", len(self.wanted), "concepts", already=len(self.wanted) - len(left))
        for each in left:
            if should_stop():
                raise InterruptedError
            concept = audit_concept(scene, each, self.wanted[each])
            features = [feature for feature, _ in concept.features]
            labels = labels_for(self.run, pair.name, [*features, concept.leading])
            found[each] = {**concept_values(concept, labels), "fvu_ordinary": round(ordinary.fvu, 4)}
            write_json(self._file(each), {"request": self._request(each), "concept": found[each]})
            progress.advance(1)
        progress.finish()
        return found

    def _file(self, concept: str) -> Path:
        return self.folder / "concepts" / f"{concept}.json"

    def _request(self, concept: str) -> dict[str, Any]:
        return {
            "version": VERSION,
            "dictionary": self.pair.digest,
            "model": self.pair.model.digest,
            "seed": self.seed,
            "texts": digest_of(self.wanted[concept]),
        }


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
