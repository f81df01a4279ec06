"""The first steps of the story over one run folder, from text to activations; `training` and `measuring` go on.

Each takes settings, leaves an artefact, and tells what it did.

A finished artefact of the same request is left as it is and the step says so; a half-finished one is continued.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from monoscope.core.artifact import check_request, digest_of, holding, plain, read_json, replacing
from monoscope.core.errors import ArtifactNotFound, BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run, checked_name, name_from
from monoscope.core.runtime import fast_bfloat16
from monoscope.core.site import Site
from monoscope.harvest.focus import answer_prompts, write_about
from monoscope.harvest.read import TEMPLATE_SHARE
from monoscope.harvest.shards import ShardStore, repair, write_shards
from monoscope.harvest.token_store import TokenStore
from monoscope.harvest.tokenise import write_store
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.text.corpus import Document, Part
from monoscope.text.inputs import inputs_of
from monoscope.text.sources import open_mix, parse_mix

HARVEST_DTYPE = "bfloat16" if fast_bfloat16() else "float32"
FOCUS_TEXTS = 80
_NOT_OF_THE_TEXT = ("tokens", "context", "seed", "template_share")
# A little above the 200,000 that figures are to rest on, because sinks and thinned template tokens are not stored.
HELD_TOKENS = 212_000


@dataclass(frozen=True)
class TextRequest:
    """What to read: a source string or a mix of them, how many tokens, and what the model itself adds.

    Each concept of `focus` gets `focus_texts` texts written by the model; `answers` counts its answers to everyday
    prompts. `own_share` is the share of the tokens kept for those.
    """

    text: str
    tokens: int
    focus: tuple[str, ...] = ()
    focus_texts: int = FOCUS_TEXTS
    answers: int = 0
    own_share: float = 0.03
    context: int = 256
    seed: int = 0
    template_share: float = TEMPLATE_SHARE

    def __post_init__(self) -> None:
        """Check what can be checked without reading.

        Raises
            BadRequest  naming the field.
        """
        if self.tokens < 1000:
            raise BadRequest(f"{self.tokens} tokens are too few to learn from; ask for at least 1,000.")
        if not 0 < self.template_share < 1:
            raise BadRequest(f"--template-share {self.template_share:g} must lie between 0 and 1, as 0.05.")


def harvest(
    run: Run,
    model: str | LanguageModel,
    site: str,
    wanted: TextRequest,
    *,
    name: str | None = None,
    replacing_it: bool = False,
    progress: Progress = SILENT,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Text through the model to shards."""
    place, name = Site.parse(site), checked_name(name or name_from(wanted.text))
    progress = Stoppable(progress, should_stop)
    parse_mix(wanted.text)
    folder = run.activations(f"{place}@{name}")
    with holding(run.path):
        began = time.perf_counter()
        speaker = load_model(model, dtype=HARVEST_DTYPE) if isinstance(model, str) else model
        speaker.check_site(place)
        if replacing_it:
            run.forget(folder)
            run.forget(run.text(name))
        store = write_text(run, speaker, wanted, name=name, progress=progress)
        request = activations_request(speaker, place, name, store, wanted.seed)
        if wanted.template_share != TEMPLATE_SHARE:
            request["template_share"] = wanted.template_share
        skipped = (folder / "manifest.json").is_file()
        if skipped:
            check_request(f"The harvest in {folder}", read_json(folder / "request.json"), request)
            shards = ShardStore.load(folder)
        else:
            shards = write_shards(
                folder,
                speaker,
                store,
                place,
                request=request,
                seed=wanted.seed,
                progress=progress,
            )
        run.write_index()
    manifest, seconds = shards.manifest, time.perf_counter() - began
    return {
        "text": name,
        "activations": folder.name,
        "tokens": manifest["tokens"],
        "rows": manifest["rows"],
        "documents": store.n_documents,
        "shards": len(manifest["shards"]),
        "bytes": sum(shard["bytes"] for shard in manifest["shards"]),
        "held_tokens": shards.rows("held"),
        "dropped_share": manifest["sinks"] / max(1, manifest["tokens"]),
        "thinned_share": manifest["thinned"] / max(1, manifest["tokens"]),
        "tokens_per_second": 0.0 if skipped else manifest["tokens"] / max(seconds, 1e-9),
        "seconds": seconds,
        "skipped": skipped,
    }


def activations_request(model: LanguageModel, site: Site, text: str, store: TokenStore, seed: int) -> dict[str, Any]:
    """All that activations depend on."""
    return {
        "model": model.source,
        "model_digest": model.digest,
        "site": str(site),
        "text": text,
        "text_digest": store.digest,
        "dtype": str(model.dtype).removeprefix("torch."),
        "seed": seed,
    }


class Stoppable:
    """A listener that ends the work by KeyboardInterrupt when asked to; finished shards stay."""

    def __init__(self, progress: Progress, should_stop: Callable[[], bool]) -> None:
        self._progress, self._should_stop = progress, should_stop
        self.start, self.finish = progress.start, progress.finish

    def advance(self, amount: int, **facts: float) -> None:
        """Pass on, then stop if asked."""
        self._progress.advance(amount, **facts)
        if self._should_stop():
            raise KeyboardInterrupt


def write_text(
    run: Run, model: LanguageModel, wanted: TextRequest, *, name: str, progress: Progress = SILENT
) -> TokenStore:
    """The token store of a text request; what the model writes itself is kept and written once."""
    parts = open_mix(wanted.text, seed=wanted.seed, extra=_own_parts(run, model, wanted, progress))
    request = {key: value for key, value in asdict(wanted).items() if key not in _NOT_OF_THE_TEXT}
    if not (wanted.focus or wanted.answers):
        request["own_share"] = 0.0  # it says nothing where the model writes nothing
    request["inputs"] = inputs_of(wanted.text)
    return write_store(
        run.text(name),
        parts,
        model,
        name=name,
        tokens=wanted.tokens,
        context=wanted.context,
        held_min=HELD_TOKENS,
        seed=wanted.seed,
        request=request,
        progress=progress,
    )


def _own_parts(run: Run, model: LanguageModel, wanted: TextRequest, progress: Progress) -> list[Part]:
    jobs: list[tuple[str, int, Callable[[], Iterator[Document]]]] = []
    for concept in wanted.focus:
        jobs.append(
            (
                f"focus-{name_from(concept)}",
                wanted.focus_texts,
                lambda concept=concept: write_about(
                    model, concept, texts=wanted.focus_texts, seed=wanted.seed, progress=progress
                ),
            )
        )
    if wanted.answers:
        answers = lambda: answer_prompts(model, count=wanted.answers, seed=wanted.seed, progress=progress)  # noqa: E731
        jobs.append(("answers", wanted.answers, answers))
    total = sum(count for _, count, _ in jobs)
    return [
        Part(name, wanted.own_share * count / total, _kept(run, model, name, count, wanted.seed, write))
        for name, count, write in jobs
    ]


def _kept(  # noqa: PLR0913
    run: Run, model: LanguageModel, name: str, count: int, seed: int, write: Callable[[], Iterator[Document]]
) -> Iterator[Document]:
    key = digest_of({"name": name, "count": count, "seed": seed, "model": model.digest})[:16]
    path = run.written() / f"{name}-{key}.jsonl"
    if not path.is_file():
        documents = list(write())
        with replacing(path) as aside:
            aside.write_text("".join(json.dumps(plain(document), ensure_ascii=False) + "\n" for document in documents))
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        fields["messages"] = tuple((role, content) for role, content in fields["messages"])
        yield Document(**fields)


def repair_run(run: Run) -> dict[str, Any]:
    """Look at every byte of the activations; damaged shards are removed so that harvest makes them again."""
    if not run.path.is_dir():
        raise ArtifactNotFound(f"There is no run folder {run.path}; make one with monoscope harvest or demo.")
    redone = []
    with holding(run.path):
        for name in run.names("activations", "manifest.json"):
            redone += [str(path.relative_to(run.path)) for path in repair(run.activations(name))]
    return {"damaged": redone, "next": "run the same harvest command again" if redone else ""}
