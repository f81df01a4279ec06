"""The pages on which features are found: search in its four ways, contrast of two sets of texts, and the map."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from monoscope.atlas.query import Atlas
from monoscope.atlas.ways import WAYS
from monoscope.core.errors import BadRequest, MonoscopeError, NotFound, Unavailable
from monoscope.render.tokens import units_html
from monoscope.serve.contrasting import FEWEST_TEXTS, MOST_TEXT, MOST_TEXTS, Told, lines_of, tell_apart
from monoscope.serve.drawing import Pages, form_of
from monoscope.serve.errors import sentence_of, status_of
from monoscope.serve.lookup import MOST_QUERY, Found, find, labels_of, terms_of
from monoscope.serve.mapping import levels_of, outline_of, version_of
from monoscope.serve.narrowing import Narrowing, choices, narrowing
from monoscope.serve.present import card_view

# Of the hits of a query those are lit that answer it at least this much as well as the best one.
_ON_MAP, _LIT_SHARE = 60, 0.3
_CONTRASTED = 20


def add_finding(routes: APIRouter, pages: Pages) -> None:
    """Add the routes of these pages."""
    _add_search(routes, pages)
    _add_contrast(routes, pages)
    _add_map(routes, pages)


def _add_search(routes: APIRouter, pages: Pages) -> None:
    books = pages.books

    @routes.get("/search")
    def search(
        narrow: Annotated[Narrowing, Depends(narrowing)],
        q: Annotated[str, Query(max_length=MOST_QUERY)] = "",
        by: str = "words",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        token: Annotated[int | None, Query(ge=0, le=100_000)] = None,
        dictionary: str | None = None,
    ) -> HTMLResponse:
        name = books.choose(dictionary)
        atlas = books.atlas(name)
        base = {"q": q, "by": by, "dictionary": name, "limit": limit, **narrow.given}
        values: dict[str, Any] = {
            "here": "search", "query": q, "by": by if by in WAYS else "words", "dictionary": name, "token": token,
            "narrow": narrow, "choices": choices(atlas), "cards": [], "terms": [], "units_html": "", "seconds": 0.0,
            "like": "", "number": _number(q, atlas), "json": f"/api/v1/search?{urlencode(base)}", "sentence": "",
            "wider": f"/search?{urlencode({'q': q, 'by': by, 'dictionary': name})}",
        }  # fmt: skip
        try:
            filters = narrow.filters()
            if not q.strip():
                return pages.draw("search.html", **values)
            found = find(books, name, q, by=by, limit=limit, token=token, filters=filters)
        except (BadRequest, NotFound) as error:
            return pages.draw(
                "search.html", status=status_of(error), **{**values, "sentence": sentence_of(error, books.run.path)}
            )
        return pages.draw("search.html", **values | _answered(pages, name, atlas, q, found, base, token))


def _answered(  # noqa: PLR0913
    pages: Pages, name: str, atlas: Atlas, query: str, found: Found, base: Mapping[str, Any], token: int | None
) -> dict[str, Any]:
    records = atlas.features([hit.feature for hit in found.hits])
    cards = [card_view(record, score=hit.score, why=hit.why) for record, hit in zip(records, found.hits, strict=True)]
    terms = []
    if base["by"] == "like":
        parsed = terms_of(query)
        labels = labels_of(pages.books, name, {feature for feature, _ in parsed})
        terms = [
            {"sign": "−" if sign < 0 else "+", "feature": feature, "label": labels[feature]} for feature, sign in parsed
        ]
    links = f"/search?{urlencode(base)}&token="
    rest = {key: value for key, value in base.items() if key != "q"}
    return {
        "cards": cards,
        "terms": terms,
        "like": f"/search?{urlencode({**rest, 'q': query.strip() + ' '})}" if terms else "",
        "units_html": units_html(found.units, 0.0, links=links, chosen=token),
        "seconds": found.seconds,
    }


def _number(query: str, atlas: Atlas) -> int | None:
    """The feature that a query of digits may mean."""
    text = query.strip().lstrip("#")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        return None
    return int(text) if int(text) < atlas.n_features else None


def _add_contrast(routes: APIRouter, pages: Pages) -> None:
    @routes.get("/contrast")
    def contrast(dictionary: str | None = None) -> HTMLResponse:
        return _contrast_page(pages, "", "", dictionary)

    @routes.post("/contrast")
    async def contrasted(request: Request) -> HTMLResponse:
        form = await form_of(request)
        sets = form.get("positive", ""), form.get("negative", "")
        return await run_in_threadpool(_contrast_page, pages, *sets, form.get("dictionary") or None)


def _contrast_page(pages: Pages, positive: str, negative: str, dictionary: str | None) -> HTMLResponse:
    books = pages.books
    name = books.choose(dictionary)
    values: dict[str, Any] = {
        "here": "contrast", "dictionary": name, "positive": positive, "negative": negative, "told": None, "cards": [],
        "sentence": "", "fewest": FEWEST_TEXTS, "most": MOST_TEXTS, "longest": MOST_TEXT,
    }  # fmt: skip
    sets = lines_of(positive), lines_of(negative)
    if not any(sets):
        return pages.draw("contrast.html", **values)
    try:
        told = tell_apart(books, name, *sets, limit=_CONTRASTED)
    except (BadRequest, Unavailable) as error:
        return pages.draw(
            "contrast.html", status=status_of(error), **{**values, "sentence": sentence_of(error, books.run.path)}
        )
    cards = _contrast_cards(books.atlas(name), told)
    return pages.draw("contrast.html", **{**values, "told": told, "cards": cards})


def _contrast_cards(atlas: Atlas, told: Told) -> list[dict[str, Any]]:
    records = atlas.features([hit.feature for hit in told.hits])
    return [
        {
            **card_view(record),
            "auroc": f"{hit.auroc_heldout:.2f}",
            "side": "positive" if hit.direction > 0 else "negative",
            "rate_pos": f"{hit.rate_pos * told.positive:.0f} of {told.positive}",
            "rate_neg": f"{hit.rate_neg * told.negative:.0f} of {told.negative}",
        }
        for record, hit in zip(records, told.hits, strict=True)
    ]


def _add_map(routes: APIRouter, pages: Pages) -> None:
    books = pages.books

    @routes.get("/map")
    def feature_map(
        q: Annotated[str, Query(max_length=MOST_QUERY)] = "",
        f: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        dictionary: str | None = None,
    ) -> HTMLResponse:
        name = books.choose(dictionary)
        atlas = books.atlas(name)
        values: dict[str, Any] = {
            "here": "map", "query": q, "dictionary": name, "run": books.run.path.resolve().name, "outline": [],
            "features": 0, "version": "", "chosen": None, "hits": [], "sentence": "",
        }  # fmt: skip
        found = atlas.map
        if found is None:
            return pages.draw("map.html", **values)
        values |= {
            "outline": outline_of(levels_of(found)), "features": len(found.features), "version": version_of(found),
        }  # fmt: skip
        if f is not None:
            atlas.check_feature(f)
            values["chosen"] = {"feature": f, "label": labels_of(books, name, {f})[f], "there": found.of(f) is not None}
        try:
            hits = find(books, name, q, limit=_ON_MAP).hits if q.strip() else []
        except MonoscopeError as error:
            return pages.draw(
                "map.html", status=status_of(error), **{**values, "sentence": sentence_of(error, books.run.path)}
            )
        hits = [hit for hit in hits if hit.score >= _LIT_SHARE * hits[0].score]
        labels = labels_of(books, name, {hit.feature for hit in hits})
        values["hits"] = [{"feature": hit.feature, "label": labels[hit.feature]} for hit in hits]
        return pages.draw("map.html", **values)
