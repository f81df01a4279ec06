"""The ways to ask an atlas for features, by name; a prompt is read by a model first, and by who holds one."""

from collections.abc import Callable

from monoscope.atlas.likeness import search_like, search_token
from monoscope.atlas.query import Atlas
from monoscope.atlas.search import ALL, Filters, SearchHit, search_words
from monoscope.core.errors import BadRequest
from monoscope.dictionary.base import Dictionary

WAYS = ("words", "prompt", "token", "like")


def check_question(query: str, by: str) -> None:
    """Agree that something is asked in a known way.

    Raises
        BadRequest  the way is unknown, or the query is empty.
    """
    if by not in WAYS:
        raise BadRequest(f"Search by {', '.join(WAYS[:-1])} or {WAYS[-1]}, not by {by[:40]!r}.")
    if not query.strip():
        raise BadRequest("The query is empty; say what to look for.")


def search_by(
    atlas: Atlas,
    dictionary: Callable[[], Dictionary],
    query: str,
    by: str,
    *,
    limit: int = 10,
    filters: Filters = ALL,
) -> list[SearchHit]:
    """Features that answer a query by words, a token they raise, or likeness, for which alone the dictionary is opened.

    Raises
        as `search_words`, `search_token` and `search_like`.
    """
    if by == "words":
        return search_words(atlas, query, limit, filters)
    if by == "token":
        return search_token(atlas, query, limit, filters)
    return search_like(atlas, dictionary(), query, limit, filters)
