"""From activations to dictionaries: one or several from one reading, from shards or straight from the model."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from monoscope.core.artifact import check_request, holding, read_json, replacing, sweep, write_json
from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run, checked_name, name_from
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary, save_dictionary
from monoscope.evaluate.fidelity import fidelity
from monoscope.evaluate.health import health
from monoscope.harvest.feed import BUFFER_ROWS, Batches, Feed, MixedFeed, Rows
from monoscope.harvest.live import LiveRows
from monoscope.harvest.pairs import PairedRows
from monoscope.harvest.read import Gate, calibrate
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.stages import HARVEST_DTYPE, TextRequest, activations_request, write_text
from monoscope.train.finish import finish
from monoscope.train.loop import Job, Learnt, train_all
from monoscope.train.memory import MemoryPlan, plan_memory
from monoscope.train.recipes import RULES, Recipe


@dataclass(frozen=True)
class Source:
    """What is learnt from.

    `activations` names a harvest, `target` a second one that a transcoder is to tell. `start` names a dictionary of the
    run to go on from; of the rows a share `keep` then comes from the activations it was trained on. `memory` is a
    budget in bytes.
    """

    activations: str | None = None
    target: str | None = None
    start: str | None = None
    keep: float = 0.0
    memory: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without reading.

        Raises
            BadRequest  `keep` is no share, or there is nothing to keep from.
        """
        if not 0 <= self.keep < 1:
            raise BadRequest(f"keep is {self.keep:g}; it is a share of each batch, from 0 to below 1.")
        if self.keep and not self.start:
            raise BadRequest(
                "--keep takes rows from the text that a dictionary was trained on; name that one with --from."
            )


@dataclass(frozen=True)
class LiveSource:
    """A model that runs while a dictionary learns, on a text that is tokenised but whose activations are not kept."""

    model: str
    site: str
    text: TextRequest
    name: str | None = None


def train_dictionary(
    run: Run, recipe: Recipe, *, name: str | None = None, activations: str | None = None, **how: Any
) -> dict[str, Any]:
    """One dictionary from shards; see `train_dictionaries`."""
    return train_dictionaries(run, [recipe], Source(activations), name=name, **how)[0]


def recipes_of(latents: Sequence[int], ks: Sequence[int], **settings: Any) -> list[Recipe]:
    """A recipe for each width and each k; the other settings are those of `Recipe`."""
    return [Recipe(latents=width, k=k, **settings) for width, k in product(latents, ks)]


def train_dictionaries(  # noqa: PLR0913  what a training needs
    run: Run,
    recipes: Sequence[Recipe],
    source: Source,
    *,
    live: LiveSource | None = None,
    name: str | None = None,
    replacing_it: bool = False,
    measure: bool = True,
    progress: Progress = SILENT,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _sentence: None,
) -> list[dict[str, Any]]:
    """Activations to dictionaries, or on from where it was stopped. `tell` hears what is planned and what looks wrong.

    Raises
        KeyboardInterrupt  `should_stop` said so; checkpoints were written.
    """
    names = _names(recipes, name)
    if source.start in names:
        raise BadRequest(f"{source.start} goes on under another name; give a --name, so that it is kept.")
    if live is None:
        run.choose_activations(source.activations)  # a refusal leaves nothing behind, no lock either
    with holding(run.path):
        rows = _open_source(run, recipes, source, live, progress)
        plan = None if source.memory is None else _plan(recipes, rows, source.memory, live)
        if plan is not None:
            tell(str(plan))
            recipes = [replace(recipe, tile_rows=plan.tile_rows) for recipe in recipes]
        work = _Work(run, source, rows, plan, progress, should_stop, tell)
        if source.start:
            _check_start(load_dictionary(run.dictionary(run.choose_dictionary(source.start))), recipes, rows)
        if replacing_it:
            for each in names:
                run.forget(run.dictionary(each))
        requests = [work.request(recipe) for recipe in recipes]
        done = [_is_done(run, each, request) for each, request in zip(names, requests, strict=True)]
        began = time.perf_counter()
        open_ones = [number for number, is_done in enumerate(done) if not is_done]
        work.train([(names[n], recipes[n], requests[n]) for n in open_ones])
        seconds = time.perf_counter() - began
        run.write_index()
    tokens = sum(recipes[n].tokens for n in open_ones)
    return [
        _told(run, each, recipe, rows, source, skipped=is_done, seconds=seconds, tokens=tokens, measure=measure)
        for each, recipe, is_done in zip(names, recipes, done, strict=True)
    ]


def _names(recipes: Sequence[Recipe], name: str | None) -> list[str]:
    if name is not None and len(recipes) == 1:
        names = [name]
    else:
        names = [f"{name or recipe.arch}-{recipe.latents}-{_sparsity(recipe)}" for recipe in recipes]
    if len(set(names)) < len(names):
        raise BadRequest(f"Two dictionaries would be called {max(names, key=names.count)}; ask for each only once.")
    return [checked_name(each) for each in names]


def _sparsity(recipe: Recipe) -> str:
    return f"k{recipe.wanted_l0:g}" if recipe.penalty is None else f"penalty{recipe.penalty:g}"


def _is_done(run: Run, name: str, request: dict[str, Any]) -> bool:
    path = run.dictionary(name) / "monoscope.json"
    if not path.is_file():
        return False
    check_request(f"The dictionary in {path.parent}", read_json(path)["request"], request)
    return True


def _open_source(
    run: Run, recipes: Sequence[Recipe], source: Source, live: LiveSource | None, progress: Progress
) -> Rows:
    two = RULES[recipes[0].arch].two_sites
    if two and (live or not source.target):
        raise BadRequest(
            f"A {recipes[0].arch} reads one site and tells another: harvest both and name the second with --target."
        )
    if source.target and not two:
        raise BadRequest(f"{recipes[0].arch} tells what it reads; --target is for transcoders.")
    if live is not None:
        return _open_live(run, live, progress)
    reads = ShardStore.load(run.activations(run.choose_activations(source.activations)))
    if not two:
        return reads
    return PairedRows(reads, ShardStore.load(run.activations(run.choose_activations(source.target))))


def _open_live(run: Run, live: LiveSource, progress: Progress) -> LiveRows:
    speaker, site = load_model(live.model, dtype=HARVEST_DTYPE), Site.parse(live.site)
    speaker.check_site(site)
    name = checked_name(live.name or name_from(live.text.text))
    store = write_text(run, speaker, live.text, name=name, progress=progress)
    return live_rows(run, speaker, store, site, name, live.text.seed)


def live_rows(run: Run, speaker: LanguageModel, store: TokenStore, site: Site, name: str, seed: int) -> LiveRows:
    """Rows straight from the model. The gate is learnt once and kept beside the text."""
    path = run.text(name) / f"gate-{site}.json"
    if not path.is_file():
        write_json(path, asdict(calibrate(speaker, store, site, seed=seed)))
    request = activations_request(speaker, site, name, store, seed)
    return LiveRows(speaker, store, site, Gate(**read_json(path)), request=request)


def rows_of(run: Run, name: str, *, model: LanguageModel | None = None, reads_only: bool = False) -> Rows:
    """The rows a dictionary was trained on, from shards or, where it was trained without, from the model."""
    origin = run.provenance(name)
    if origin.get("live"):
        speaker = model or load_model(origin["model"], dtype=HARVEST_DTYPE)
        store = TokenStore.load(run.text(origin["text"]))
        return live_rows(run, speaker, store, Site.parse(origin["site"]), origin["text"], origin["seed"])
    reads = ShardStore.load(run.activations(origin["activations"]))
    if reads_only or not origin.get("target"):
        return reads
    return PairedRows(reads, ShardStore.load(run.activations(origin["target"])))


def _plan(recipes: Sequence[Recipe], rows: Rows, budget: int, live: LiveSource | None) -> MemoryPlan:
    model_bytes = 0 if live is None else rows.model_bytes  # type: ignore[attr-defined]  live rows have it
    return plan_memory(
        recipes,
        d_in=rows.d_in,
        d_model=rows.d_model,
        rows=rows.rows("train"),
        budget=budget,
        model_bytes=model_bytes,
    )


@dataclass(frozen=True)
class _Work:
    """What all dictionaries of one call have in common."""

    run: Run
    source: Source
    rows: Rows
    plan: MemoryPlan | None
    progress: Progress
    should_stop: Callable[[], bool]
    tell: Callable[[str], None]

    def request(self, recipe: Recipe) -> dict[str, Any]:
        """All that the result depends on."""
        found = self.rows.manifest["request"]
        request = {
            **{name: value for name, value in asdict(recipe).items() if name != "read_l0" or value is not None},
            "activations": f"{found['site']}@{found['text']}",
            "activations_digest": self.rows.digest,
        }
        if self.plan is not None:
            request["buffer_rows"] = self.plan.buffer_rows
        if self.source.target:
            request["target"] = self.source.target
        if self.source.start:
            digest = dictionary_digest(self.run.dictionary(self._start_name))
            request |= {"from": self.source.start, "from_digest": digest, "keep": self.source.keep}
        return request

    @property
    def _start_name(self) -> str:
        return self.run.choose_dictionary(self.source.start)

    def train(self, wanted: list[tuple[str, Recipe, dict[str, Any]]]) -> None:
        """Those that are not there yet, all at once."""
        if not wanted:
            return
        start = load_dictionary(self.run.dictionary(self._start_name)) if self.source.start else None
        jobs = []
        for name, recipe, request in wanted:
            folder = self.run.dictionary(name)
            sweep(folder)
            jobs.append(Job(recipe, folder / "checkpoint", request, start))
        feed = self._feed([recipe for _, recipe, _ in wanted])
        found = train_all(feed, jobs, progress=self.progress, should_stop=self.should_stop)
        if found is None:
            raise KeyboardInterrupt
        for learnt, (name, recipe, request) in zip(found, wanted, strict=True):
            for sentence in learnt.warnings:
                self.tell(f"{name}: {sentence}")
            self._keep(name, recipe, request, learnt)

    def _feed(self, recipes: list[Recipe]) -> Batches:
        seed, batch = recipes[0].seed, recipes[0].batch_rows
        size = BUFFER_ROWS if self.plan is None else self.plan.buffer_rows
        if not self.source.keep:
            return Feed(self.rows, batch_rows=batch, seed=seed, buffer_rows=size)
        kept = round(batch * self.source.keep)
        parts = [(rows_of(self.run, self._start_name), kept), (self.rows, batch - kept)]
        return MixedFeed([Feed(rows, batch_rows=count, seed=seed, buffer_rows=size // 2) for rows, count in parts])

    def _keep(self, name: str, recipe: Recipe, request: dict[str, Any], learnt: Learnt) -> None:
        folder = self.run.dictionary(name)
        with replacing(folder / "training.parquet") as aside:
            pq.write_table(pa.Table.from_pylist(learnt.log), aside)
        learnt.learner.release()
        dictionary, probe = finish(learnt.learner, learnt.spaces, recipe, self.rows, name=name, progress=self.progress)
        harvested = self.rows.manifest["request"]
        origin = {key: harvested[key] for key in ("model", "model_digest", "text", "text_digest", "site", "seed")}
        provenance = {
            **origin,
            "activations": request["activations"],
            "target": self.source.target,
            "live": isinstance(self.rows, LiveRows),
            "from": self.source.start,
            "context": TokenStore.load(self.run.text(origin["text"])).context,
            "warnings": list(learnt.warnings),
        }
        save_dictionary(folder, dictionary, probe=probe, request=request, provenance=provenance)


def _check_start(start: Dictionary, recipes: Sequence[Recipe], rows: Rows) -> None:
    """Agree, before anything is written or removed, that all recipes can go on from a dictionary."""
    pairs = [("width", rows.d_in, start.d_in)]
    pairs += [("site", str(rows.site), str(start.site)), ("target", str(rows.target), str(start.target))]
    for recipe in recipes:
        pairs += [("--arch", recipe.arch, start.settings.get("trained_as"))]
        pairs += [("--latents", recipe.latents, start.n_latents)]
    for what, wanted, found in pairs:
        if wanted != found:
            raise BadRequest(f"{start.name} has {what} {found}, not {wanted}; a dictionary goes on as what it is.")


def _told(  # noqa: PLR0913  what is told
    run: Run,
    name: str,
    recipe: Recipe,
    rows: Rows,
    source: Source,
    *,
    skipped: bool,
    seconds: float,
    tokens: int,
    measure: bool,
) -> dict[str, Any]:
    speed = 0.0 if skipped else tokens / max(seconds, 1e-9)
    about = read_json(run.dictionary(name) / "monoscope.json")
    told = {
        "name": name,
        "tokens": recipe.tokens,
        "seconds": seconds,
        "tokens_per_second": speed,
        "skipped": skipped,
        "warnings": about["provenance"].get("warnings", []),
    }
    if not measure:
        return told
    dictionary = load_dictionary(run.dictionary(name))
    told |= held_out_figures(dictionary, rows)
    if source.start:
        told["continued"] = dict(_before_and_after(run, dictionary, rows, source.start))
    return told


def held_out_figures(dictionary: Dictionary, rows: Rows) -> dict[str, float]:
    """FVU, L0 and the dead share on held-out rows."""
    found = fidelity(dictionary, rows)
    return {"fvu": found.fvu, "l0": found.l0, "dead_fraction": health(found.fires, found.tokens).dead_fraction}


def _before_and_after(run: Run, dictionary: Dictionary, rows: Rows, start: str) -> Iterator[tuple[str, dict]]:
    """Both dictionaries on both texts: what going on has gained, and what it has cost."""
    old = load_dictionary(run.dictionary(start))
    for text, some in (("old_text", rows_of(run, start)), ("new_text", rows)):
        yield text, {"before": held_out_figures(old, some), "after": held_out_figures(dictionary, some)}
