"""Queries offered on the first page: only such as are known to find something."""

from monoscope.atlas.query import Atlas
from monoscope.atlas.search import search_words
from monoscope.core.errors import MonoscopeError

# Tried in this order; the demo's own concepts first.
CANDIDATES = (
    "Golden Gate Bridge", "keeping a secret", "Python", "music", "football", "chemistry", "rivers", "French", "animals",
    "bridges", "secrets", "numbers",
)  # fmt: skip
OFFERED = 3
# A feature that fires on the query's words scores above this; one that only stands near one of several does not.
_GOOD = 0.1


def example_queries(atlas: Atlas) -> list[str]:
    """Three queries that find a labelled feature; labels of highlights where the usual ones find nothing."""
    found = []
    for query in CANDIDATES:
        try:
            hits = search_words(atlas, query, limit=1)
        except MonoscopeError:
            hits = []
        if hits and hits[0].score >= _GOOD:
            found.append(query)
        if len(found) == OFFERED:
            return found
    labels = [record.label for record in atlas.highlights(OFFERED) if record.label]
    return [*found, *labels][:OFFERED]
