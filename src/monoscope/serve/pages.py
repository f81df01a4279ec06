"""The pages: drawn on the server, complete without script wherever that can be."""

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from monoscope.core.errors import MonoscopeError, Unavailable
from monoscope.render.tokens import parts_html, plain_text, text_parts
from monoscope.serve.controls import controls_of
from monoscope.serve.drawing import Pages, form_of, layer_of, model_name
from monoscope.serve.evidence import desk_view, feature_view, pointed_tokens
from monoscope.serve.finding import add_finding
from monoscope.serve.library import About, Library
from monoscope.serve.lookup import MOST_QUERY, labels_of
from monoscope.serve.notes import FeatureId, keep_label, keep_note
from monoscope.serve.prompts import prompt_view
from monoscope.serve.quality import label_figures, random_score, unexplained_figures
from monoscope.steer.edits import parse_edit

FIGURES = (
    ("fvu", "FVU", "variance left unexplained", "sum |x - reconstruction|² / sum |x - mean|²; 0 is perfect"),
    ("l0", "L0", "features a token uses", "mean number of features above 0 on a token"),
    (
        "ce_recovered", "CE recovered", "of the model's loss kept when reconstructions replace activations",
        "(CE with the mean - CE spliced) / (CE with the mean - CE clean), 1 is perfect",
    ),
)  # fmt: skip


def page_routes(books: Library) -> APIRouter:
    """The routes, reading from one library."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    pages = Pages(books)
    _add_home(routes, pages)
    _add_features(routes, pages)
    add_finding(routes, pages)
    _add_model_pages(routes, pages)
    return routes


def _add_home(routes: APIRouter, pages: Pages) -> None:
    books = pages.books

    @routes.get("/")
    def home() -> HTMLResponse:
        if not books.ready:
            return pages.draw("making.html", progress=books.progress(), run=books.run.path.resolve().name)
        books.start_model()
        about = books.about()
        demo = books.demo()
        manifest = books.atlas(about.dictionary).manifest
        return pages.draw(
            "home.html",
            **pages.home(about.dictionary),
            layer=layer_of(about.site),
            model_name=model_name(about.model),
            figures=_figures(about),
            label_figures=label_figures(manifest),
            unexplained=unexplained_figures(manifest),
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


def _add_features(routes: APIRouter, pages: Pages) -> None:
    books = pages.books

    @routes.get("/f/{dictionary}/{feature}")
    def feature(dictionary: str, feature: FeatureId) -> HTMLResponse:
        atlas = books.atlas(dictionary)
        about = books.about(dictionary)
        record = atlas.feature(feature)
        flagged = [other for other in (record.duplicate_of, record.absorbed_into) if other is not None]
        return pages.draw(
            "feature.html",
            here="search",
            dictionary=dictionary,
            view=feature_view(record, pointed_tokens(atlas, feature), labels_of(books, dictionary, flagged)),
            desk=desk_view(atlas, feature),
            random_score=random_score(atlas.manifest),
            layer=layer_of(about.site),
            tokens=about.tokens,
            before=feature - 1 if feature > 0 else None,
            after=feature + 1 if feature + 1 < atlas.n_features else None,
        )

    @routes.post("/f/{dictionary}/{feature}/notes")
    async def note(dictionary: str, feature: FeatureId, request: Request) -> RedirectResponse:
        text = (await form_of(request)).get("text", "")
        await run_in_threadpool(keep_note, books, dictionary, feature, text)
        return _back_to(dictionary, feature, "notes")

    @routes.post("/f/{dictionary}/{feature}/label")
    async def label(dictionary: str, feature: FeatureId, request: Request) -> RedirectResponse:
        text = (await form_of(request)).get("text", "")
        await run_in_threadpool(keep_label, books, dictionary, feature, text)
        return _back_to(dictionary, feature, "notes")


def _back_to(dictionary: str, feature: int, part: str) -> RedirectResponse:
    return RedirectResponse(f"/f/{quote(dictionary, safe='')}/{feature}#{part}", 303)


def _add_model_pages(routes: APIRouter, pages: Pages) -> None:
    books = pages.books

    @routes.get("/prompt")
    def prompt(text: Annotated[str, Query(max_length=MOST_QUERY)] = "", dictionary: str | None = None) -> HTMLResponse:
        return _prompt_page(pages, text, dictionary)

    @routes.post("/prompt")
    async def prompt_sent(request: Request) -> HTMLResponse:
        form = await form_of(request)
        return await run_in_threadpool(_prompt_page, pages, form.get("text", ""), form.get("dictionary") or None)

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
        demo = books.demo()
        told = _demo_view(books, name, demo) if demo else None
        recorded = [each["text"] for each in told["edits"]] if told else []
        nothing_asked = not (preset or add or edit)
        found = controls_of(books, name, preset=preset, add=add or [], edits=recorded if nothing_asked else edit or [])
        return pages.draw(
            "steer.html",
            here="steer",
            dictionary=name,
            controls=found,
            presets=[each.name for each in books.presets(name)],
            preset=preset or "",
            prompt=prompt or (told["question"] if told else "Tell me about yourself."),
            model_state=books.model_state,
            # The recorded pair stands only beside the edits that made it.
            demo=told if recorded and [row.line for row in found] == recorded else None,
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
