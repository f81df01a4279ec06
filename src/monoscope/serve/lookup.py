"""Searches as pages and interface both ask them."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from monoscope.atlas.search import SearchHit, search_prompt, search_words
from monoscope.core.errors import BadRequest
from monoscope.core.pieces import token_pieces
from monoscope.render.tokens import Unit, display_units
from monoscope.serve.library import Library
from monoscope.serve.present import label_of
from monoscope.serve.reading import ReadText, read_text

MOST_QUERY = 2_000
WAYS = ("words", "prompt")


@dataclass(frozen=True)
class Found:
    """Hits, best first. `units` are the prompt's, when it was searched by prompt."""

    hits: list[SearchHit]
    seconds: float
    units: tuple[Unit, ...] = ()


def find(
    books: Library, name: str | None, query: str, *, by: str = "words", limit: int = 20, token: int | None = None
) -> Found:
    """Features that answer a query. `token` narrows a prompt to one of its tokens.

    Raises
        BadRequest   the query is empty, too long, or the way is unknown.
        Unavailable  a prompt needs the model, which is not loaded yet.
    """
    if by not in WAYS:
        raise BadRequest(f"Search by words or by prompt, not by {by[:40]!r}.")
    if not query.strip():
        raise BadRequest("The query is empty; say what to look for.")
    if len(query) > MOST_QUERY:
        raise BadRequest(f"The query has {len(query):,} characters; {MOST_QUERY:,} are read at most.")
    began = time.perf_counter()
    atlas = books.atlas(name)
    if by == "words":
        return Found(search_words(atlas, query, limit=limit), time.perf_counter() - began)
    dictionary, model = books.dictionary(name), books.model()
    with books.queue.turn():
        read = read_text(model, dictionary, query)
    rows = [row for row, kept in enumerate(read.kept) if kept]
    wanted = None if token is None else _row_of(read, token)
    if wanted is not None and wanted not in rows:
        hits = []
    else:
        pieces = token_pieces(read.tokens)
        place = None if wanted is None else rows.index(wanted)
        hits = search_prompt(atlas, dictionary, read.x[rows], [pieces[i] for i in rows], token=place, limit=limit)
    units = display_units(read.tokens, special=read.special)
    return Found(hits, time.perf_counter() - began, units)


def labels_of(books: Library, name: str | None, features: Collection[int]) -> dict[int, str]:
    """Labels of some features."""
    rows = books.atlas(name).rows("feature, label", sorted(features)) if features else []
    return {row["feature"]: label_of(row["feature"], row["label"]) for row in rows}


def _row_of(read: ReadText, token: int) -> int:
    """The token that is asked about; of several that make one character, the last, which completes it."""
    if token >= len(read.tokens):
        raise BadRequest(f"The prompt has {len(read.tokens)} tokens; there is no token {token}.")
    units = display_units(read.tokens, special=read.special)
    unit = next(unit for unit in units if unit.first <= token < unit.first + len(unit.values))
    return unit.first + len(unit.values) - 1
