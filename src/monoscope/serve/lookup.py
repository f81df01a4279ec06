"""Searches as pages and interface both ask them."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from monoscope.atlas.likeness import parse_expression
from monoscope.atlas.search import ALL, Filters, SearchHit, search_prompt
from monoscope.atlas.ways import check_question, search_by
from monoscope.core.errors import BadRequest
from monoscope.core.pieces import token_pieces
from monoscope.core.runtime import passing_computation
from monoscope.render.tokens import Unit, display_units
from monoscope.serve.library import Library
from monoscope.serve.present import label_of
from monoscope.serve.reading import ReadText, read_text

MOST_QUERY = 2_000
MOST_TERMS = 32


@dataclass(frozen=True)
class Found:
    """Hits, best first. `units` are the prompt's, when it was searched by prompt."""

    hits: list[SearchHit]
    seconds: float
    units: tuple[Unit, ...] = ()


def find(  # noqa: PLR0913
    books: Library,
    name: str | None,
    query: str,
    *,
    by: str = "words",
    limit: int = 20,
    token: int | None = None,
    filters: Filters = ALL,
) -> Found:
    """Features that answer a query. `token` narrows a prompt to one of its tokens.

    Raises
        BadRequest       the query is empty, too long or not understood, or the way is unknown.
        FeatureNotFound  likeness is asked with a number that no feature has.
        Unavailable      a prompt needs the model, which is not loaded yet.
    """
    check_question(query, by)
    if len(query) > MOST_QUERY:
        raise BadRequest(f"The query has {len(query):,} characters; {MOST_QUERY:,} are read at most.")
    began = time.perf_counter()
    if by == "prompt":
        hits, units = _by_prompt(books, name, query, limit, token, filters)
        return Found(hits, time.perf_counter() - began, units)
    if by == "like":
        terms_of(query)
    with passing_computation():
        hits = search_by(books.atlas(name), lambda: books.dictionary(name), query, by, limit=limit, filters=filters)
    return Found(hits, time.perf_counter() - began)


def terms_of(query: str) -> list[tuple[int, float]]:
    """The features and signs of a search by likeness.

    Raises
        BadRequest  it is no such expression, or a long one.
    """
    terms = parse_expression(query)
    if len(terms) > MOST_TERMS:
        raise BadRequest(f"There are {len(terms)} features in this search; {MOST_TERMS} are added up at most.")
    return terms


def _by_prompt(  # noqa: PLR0913
    books: Library, name: str | None, query: str, limit: int, token: int | None, filters: Filters
) -> tuple[list[SearchHit], tuple[Unit, ...]]:
    atlas, dictionary, model = books.atlas(name), books.dictionary(name), books.model()
    with books.queue.turn():
        read = read_text(model, dictionary, query)
    units = display_units(read.tokens, special=read.special)
    rows = [row for row, kept in enumerate(read.kept) if kept]
    wanted = None if token is None else _row_of(read, token)
    if wanted is not None and wanted not in rows:
        return [], units
    pieces = token_pieces(read.tokens)
    place = None if wanted is None else rows.index(wanted)
    kept = [pieces[i] for i in rows]
    with passing_computation():
        hits = search_prompt(atlas, dictionary, read.x[rows], kept, token=place, limit=limit, filters=filters)
    return hits, units


def labels_of(books: Library, name: str | None, features: Collection[int]) -> dict[int, str]:
    """Labels of some features."""
    labels = books.atlas(name).labels_of(sorted(features)) if features else {}
    return {feature: label_of(feature, label) for feature, label in labels.items()}


def _row_of(read: ReadText, token: int) -> int:
    """The token that is asked about; of several that make one character, the last, which completes it."""
    if token >= len(read.tokens):
        raise BadRequest(f"The prompt has {len(read.tokens)} tokens; there is no token {token}.")
    units = display_units(read.tokens, special=read.special)
    unit = next(unit for unit in units if unit.first <= token < unit.first + len(unit.values))
    return unit.first + len(unit.values) - 1
