"""The pages: drawn on the server, complete without script wherever that can be."""

from collections.abc import Mapping
from pathlib import Path as Folder
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool

from monoscope.core.errors import MonoscopeError, Unavailable
from monoscope.core.site import Site
from monoscope.render.tokens import parts_html, plain_text, text_parts, units_html
from monoscope.serve.controls import controls_of
from monoscope.serve.examples import example_queries
from monoscope.serve.library import About, Library
from monoscope.serve.lookup import MOST_QUERY, find, labels_of
from monoscope.serve.present import card_view, feature_view, pointed_tokens
from monoscope.serve.prompts import prompt_view
from monoscope.steer.edits import parse_edit

HIGHLIGHTS = 12
FIGURES = (
    ("fvu", "FVU", "variance left unexplained", "sum |x - reconstruction|² / sum |x - mean|²; 0 is perfect"),
    ("l0", "L0", "features a token uses", "mean number of features above 0 on a token"),
    (
        "ce_recovered", "CE recovered", "of the model's loss kept when reconstructions replace activations",
        "(CE with the mean - CE spliced) / (CE with the mean - CE clean), 1 is perfect",
    ),
)  # fmt: skip

_environment = Environment(
    loader=FileSystemLoader(Folder(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["plain"] = plain_text
_environment.filters["address"] = lambda text: quote(str(text), safe="")


def page_routes(books: Library) -> APIRouter:
    """The routes, reading from one library."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    pages = Pages(books)
    _add_home(routes, pages)
    _add_features(routes, pages)
    _add_model_pages(routes, pages)
    return routes


class Pages:
    """Draws pages from a library. Mutable: it remembers the costly parts of the first page."""

    def __init__(self, books: Library) -> None:
        self.books = books
        self._home: dict[str, dict[str, Any]] = {}

    def draw(self, template: str, **values: Any) -> HTMLResponse:
        """One page."""
        about = _about(self.books)
        common = {
            "about": about,
            "here": "",
            "query": "",
            "by": "words",
            "dictionary": about.dictionary if about else "",
        }
        return HTMLResponse(_environment.get_template(template).render({**common, **values}))

    def home(self, name: str) -> dict[str, Any]:
        """The highlights and queries of a dictionary's first page."""
        if name not in self._home:
            atlas = self.books.atlas(name)
            cards = [card_view(record) for record in atlas.highlights(HIGHLIGHTS)]
            self._home[name] = {"cards": cards, "examples": example_queries(atlas)}
        return self._home[name]


def error_page(
    books: Library, request: Request, status: int, sentence: str, headers: Mapping[str, str] | None = None
) -> Response:
    """One sentence, and where to go from here."""
    page = Pages(books).draw("error.html", status=status, sentence=sentence, again=request.method == "GET")
    page.status_code = status
    page.headers.update(headers or {})
    return page


def _about(books: Library) -> About | None:
    try:
        return books.about()
    except MonoscopeError:
        return None


def _add_home(routes: APIRouter, pages: Pages) -> None:
    books = pages.books

    @routes.get("/")
    def home() -> HTMLResponse:
        if not books.ready:
            return pages.draw("making.html", progress=books.progress(), run=books.run.path.resolve().name)
        books.start_model()
        about = books.about()
        demo = books.demo()
        return pages.draw(
            "home.html",
            **pages.home(about.dictionary),
            layer=_layer(about.site),
            model_name=model_name(about.model),
            figures=_figures(about),
            demo=demo and _demo_view(books, about.dictionary, demo),
        )


def _figures(about: About) -> list[dict[str, str]]:
    found = []
    for key, name, meaning, formula in FIGURES:
        value = about.metrics.get(key)
        if isinstance(value, (int, float)):
            digits = 1 if key == "l0" else 3
            found.append({"name": name, "value": f"{value:.{digits}f}", "meaning": meaning, "formula": formula})
    return found


def _demo_view(books: Library, name: str, demo: dict[str, Any]) -> dict[str, Any]:
    edits = [edit for edit in demo.get("edits", []) if isinstance(edit, str)]
    preset = demo.get("preset")
    wanted = {"preset": preset} if isinstance(preset, str) else {"edit": edits}
    return {
        "question": plain_text(demo["question"]),
        "baseline_html": parts_html(text_parts(demo["baseline"].strip())),
        "steered_html": parts_html(text_parts(demo["steered"].strip())),
        "edits": _named_edits(books, name, edits),
        "address": f"/steer?{urlencode(wanted, doseq=True)}",
    }


def _named_edits(books: Library, name: str, edits: list[str]) -> list[dict[str, Any]]:
    """Edits with the labels of their features; none where they are not this dictionary's."""
    try:
        parsed = [parse_edit(edit) for edit in edits]
        labels = labels_of(books, name, {edit.feature for edit in parsed})
        return [{"text": str(edit), "feature": edit.feature, "label": labels[edit.feature]} for edit in parsed]
    except (MonoscopeError, KeyError):
        return []


def _layer(site: str) -> str:
    try:
        return str(Site.parse(site).layer)
    except MonoscopeError:
        return site


def model_name(source: str) -> str:
    """A model's source as people call it; never a folder of this machine."""
    return plain_text(source.rstrip("/").rpartition("/")[2] or source)[:80]


def _add_features(routes: APIRouter, pages: Pages) -> None:
    books = pages.books

    @routes.get("/search")
    def search(
        q: Annotated[str, Query(max_length=MOST_QUERY)] = "",
        by: str = "words",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        token: Annotated[int | None, Query(ge=0, le=100_000)] = None,
        dictionary: str | None = None,
    ) -> HTMLResponse:
        name = books.choose(dictionary)
        values: dict[str, Any] = {"query": q, "by": by, "dictionary": name, "here": "search", "token": token}
        if not q.strip():
            return pages.draw("search.html", **values, cards=[], units_html="", seconds=0.0, number=None, json="")
        found = find(books, name, q, by=by, limit=limit, token=token)
        records = books.atlas(name).features([hit.feature for hit in found.hits])
        cards = [
            card_view(record, score=hit.score, why=hit.why) for record, hit in zip(records, found.hits, strict=True)
        ]
        base = {"q": q, "by": by, "dictionary": name, "limit": limit}
        return pages.draw(
            "search.html",
            **values,
            cards=cards,
            units_html=units_html(found.units, 0.0, links=f"/search?{urlencode(base)}&token=", chosen=token),
            seconds=found.seconds,
            number=_number(q, books, name),
            json=f"/api/v1/search?{urlencode(base)}",
        )

    @routes.get("/f/{dictionary}/{feature}")
    def feature(dictionary: str, feature: Annotated[int, Path(ge=0, le=2**53)]) -> HTMLResponse:
        atlas = books.atlas(dictionary)
        about = books.about(dictionary)
        view = feature_view(atlas.feature(feature), pointed_tokens(atlas, feature))
        return pages.draw(
            "feature.html",
            here="search",
            dictionary=dictionary,
            view=view,
            layer=_layer(about.site),
            tokens=about.tokens,
            before=feature - 1 if feature > 0 else None,
            after=feature + 1 if feature + 1 < atlas.n_features else None,
        )


def _number(query: str, books: Library, name: str) -> int | None:
    """The feature that a query of digits may mean."""
    text = query.strip().lstrip("#")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        return None
    return int(text) if int(text) < books.atlas(name).n_features else None


def _add_model_pages(routes: APIRouter, pages: Pages) -> None:
    books = pages.books

    @routes.get("/prompt")
    def prompt(text: Annotated[str, Query(max_length=MOST_QUERY)] = "", dictionary: str | None = None) -> HTMLResponse:
        return _prompt_page(pages, text, dictionary)

    @routes.post("/prompt")
    async def prompt_sent(request: Request) -> HTMLResponse:
        form = parse_qs((await request.body()).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=8)
        text, name = (form.get(key, [""])[0] for key in ("text", "dictionary"))
        # A form sends line breaks as two characters.
        return await run_in_threadpool(_prompt_page, pages, text.replace("\r\n", "\n"), name or None)

    @routes.get("/steer")
    def steer(
        preset: str | None = None,
        add: Annotated[list[int] | None, Query(max_length=16)] = None,
        edit: Annotated[list[str] | None, Query(max_length=16)] = None,
        prompt: Annotated[str, Query(max_length=MOST_QUERY)] = "",
        dictionary: str | None = None,
    ) -> HTMLResponse:
        name = books.choose(dictionary)
        books.start_model()
        found = controls_of(books, name, preset=preset, add=add or [], edits=edit or [])
        demo = books.demo() or {}
        return pages.draw(
            "steer.html",
            here="steer",
            dictionary=name,
            controls=found,
            presets=[each.name for each in books.presets(name)],
            preset=preset or "",
            prompt=prompt or plain_text(str(demo.get("question", ""))) or "Tell me about yourself.",
            model_state=books.model_state,
            demo=None if not demo else _demo_view(books, name, demo),
        )


def _prompt_page(pages: Pages, text: str, dictionary: str | None) -> HTMLResponse:
    books = pages.books
    name = books.choose(dictionary)
    values: dict[str, Any] = {"here": "prompt", "dictionary": name, "text": text, "view": None, "waiting": ""}
    if not text.strip():
        return pages.draw("prompt.html", **values)
    try:
        values["view"] = prompt_view(books, name, text)
    except Unavailable as error:
        values["waiting"] = str(error)
    return pages.draw("prompt.html", **values)
