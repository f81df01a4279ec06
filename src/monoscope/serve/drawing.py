"""Templates filled: one place that knows what every page has in common."""

from collections.abc import Mapping
from pathlib import Path as Folder
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monoscope.core.errors import BadRequest, MonoscopeError
from monoscope.core.site import Site
from monoscope.render.tokens import plain_text
from monoscope.serve.examples import example_queries
from monoscope.serve.library import About, Library
from monoscope.serve.present import card_view
from monoscope.serve.quality import blind_spots

HIGHLIGHTS = 12
_MOST_FIELDS = 8

_environment = Environment(
    loader=FileSystemLoader(Folder(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["plain"] = plain_text
_environment.filters["address"] = lambda text: quote(str(text), safe="")


class Pages:
    """Draws pages from a library. Mutable: it remembers the costly parts of the first page."""

    def __init__(self, books: Library) -> None:
        self.books = books
        self._home: dict[str, tuple[str, dict[str, Any]]] = {}

    def draw(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """One page."""
        about = _about(self.books)
        common = {
            "about": about,
            "here": "",
            "query": "",
            "by": "words",
            "dictionary": about.dictionary if about else "",
            "status": status,
        }
        return HTMLResponse(_environment.get_template(template).render({**common, **values}), status)

    def home(self, name: str) -> dict[str, Any]:
        """The highlights, queries and blind spots of a dictionary's first page."""
        atlas = self.books.atlas(name)
        held = self._home.get(name)
        if held is None or held[0] != atlas.digest:
            cards = [card_view(record) for record in atlas.highlights(HIGHLIGHTS)]
            found = {"cards": cards, "examples": example_queries(atlas), "blind": blind_spots(atlas)}
            held = self._home[name] = atlas.digest, found
        return held[1]


def error_page(
    books: Library, request: Request, status: int, sentence: str, headers: Mapping[str, str] | None = None
) -> Response:
    """One sentence, and where to go from here."""
    page = Pages(books).draw("error.html", status=status, sentence=sentence, again=request.method == "GET")
    page.headers.update(headers or {})
    return page


async def form_of(request: Request) -> dict[str, str]:
    """What a form has sent; line breaks, which it sends as two characters, as one, and no half characters.

    Raises
        BadRequest  it has more fields than any page here.
    """
    text = (await request.body()).decode("utf-8", "replace")
    try:
        found = parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise BadRequest("The form has more fields than any page here; send it from its page.") from error
    return {key: values[0].replace("\r\n", "\n") for key, values in found.items()}


def layer_of(site: str) -> str:
    """The layer of a site, or the site where it names none."""
    try:
        return str(Site.parse(site).layer)
    except MonoscopeError:
        return site


def model_name(source: str) -> str:
    """A model's source as people call it; never a folder of this machine."""
    return plain_text(source.rstrip("/").rpartition("/")[2] or source)[:80]


def _about(books: Library) -> About | None:
    try:
        return books.about()
    except MonoscopeError:
        return None
