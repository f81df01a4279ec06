"""Making the atlas of a run: the pass over its text, then the caches that the first visitor would wait for."""

import contextlib
from typing import Any

import numpy as np

from monoscope.atlas.build import build_atlas, is_finished
from monoscope.atlas.layout import lay_out
from monoscope.atlas.meaning import Meaning
from monoscope.atlas.query import Atlas
from monoscope.atlas.search import search_words
from monoscope.atlas.word_index import all_evidence
from monoscope.core.artifact import holding
from monoscope.core.errors import SourceNotFound, Unavailable
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.explore import open_atlas
from monoscope.harvest.token_store import TokenStore
from monoscope.model.embedder import load_embedder
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.stages import HARVEST_DTYPE
from monoscope.training import rows_of


def build(
    run: Run,
    *,
    name: str | None = None,
    replacing_it: bool = False,
    progress: Progress = SILENT,
    model: LanguageModel | None = None,
    meaning: bool = False,
) -> dict[str, Any]:
    """One pass over the whole text fills the atlas of a dictionary; with `meaning`, search goes by meaning too."""
    name = run.choose_dictionary(name)
    origin = run.provenance(name)
    with holding(run.path):
        shards = rows_of(run, name, model=model, reads_only=True)
        request = {
            "dictionary": name,
            "dictionary_digest": dictionary_digest(run.dictionary(name)),
            "activations_digest": shards.digest,
            "text_digest": origin["text_digest"],
            "model": origin["model"],
        }
        done = not replacing_it and is_finished(run.atlas(name))
        speaker = None if done else (model or load_model(origin["model"], dtype=HARVEST_DTYPE))
        store = TokenStore.load(run.text(origin["text"]))
        summary = build_atlas(
            run.atlas(name),
            shards.blocks("all"),
            load_dictionary(run.dictionary(name)),
            store,
            unembedding=None if speaker is None else speaker.unembedding(),
            request=request,
            progress=progress,
            replace=replacing_it,
        )
        run.write_index()
    if not done:
        _warm(run, name, progress, meaning=meaning)
    return {
        "name": name,
        "features": summary.features,
        "alive": summary.alive,
        "tokens": summary.tokens,
        "seconds": summary.seconds,
        "bytes": summary.bytes,
        "skipped": done,
    }


def _warm(run: Run, name: str, progress: Progress, *, meaning: bool) -> None:
    """Make the caches that the first visitor would otherwise wait for: word index, opening features, map, meanings."""
    atlas = open_atlas(run, name)
    search_words(atlas, "first", limit=1)
    atlas.highlights(12)
    with contextlib.suppress(Unavailable):
        draw_map(run, name, progress)
    if meaning:
        with contextlib.suppress(SourceNotFound):
            learn_meaning(atlas, progress)


def learn_meaning(atlas: Atlas, progress: Progress = SILENT) -> None:
    """Make the table by which word search finds words of like meaning.

    Raises
        SourceNotFound  the embedding model cannot be fetched; search stays by spelling.
    """
    embedder = load_embedder()
    progress.start("meaning", atlas.n_features, "features")
    Meaning.make(all_evidence(atlas), atlas.n_features, embedder).save(atlas.folder, atlas.digest)
    progress.advance(atlas.n_features)
    progress.finish()


def draw_map(run: Run, name: str | None = None, progress: Progress = SILENT) -> dict[str, Any]:
    """Lay the living features out in the plane and name the clusters; a finished map is left as it is.

    Raises
        Unavailable  the library for it is not installed.
    """
    name = run.choose_atlas(name)
    atlas = open_atlas(run, name)
    found, done = atlas.map, True
    if found is None:
        done = False
        alive = np.flatnonzero(atlas.column("firings") > 0)
        progress.start("map", len(alive), "features")
        rows = load_dictionary(run.dictionary(name)).W_dec.float().numpy()
        labels = atlas.labels
        found = lay_out(rows[alive], alive, [labels[feature] for feature in alive.tolist()])
        found.save(atlas.folder, atlas.digest)
        progress.advance(len(alive))
        progress.finish()
    names = [{"level": one.level, "name": one.name, "features": one.features} for one in found.clusters]
    return {"name": name, "features": len(found.features), "clusters": names, "skipped": done}
