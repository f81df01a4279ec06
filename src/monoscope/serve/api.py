"""Everything the explorer shows, as JSON under /api/v1, and steering as a stream of server-sent events."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import iterate_in_threadpool

from monoscope.atlas.values import hit_values
from monoscope.effect.kept import default_edits
from monoscope.render.tokens import display_units, units_json
from monoscope.serve.contrasting import MOST_TEXT, MOST_TEXTS, tell_apart
from monoscope.serve.errors import spoken
from monoscope.serve.library import Library
from monoscope.serve.lookup import MOST_QUERY, find, labels_of
from monoscope.serve.mapping import levels_of, map_of, points, version_of
from monoscope.serve.narrowing import Narrowing, narrowing
from monoscope.serve.notes import FeatureId
from monoscope.serve.present import feature_with_units, shown_values
from monoscope.serve.reading import MOST_CHARACTERS, read_text
from monoscope.serve.steering import MOST_ANSWER_TOKENS, Ask, Record, check_ask, steer_events
from monoscope.steer.edits import parse_edit
from monoscope.steer.presets import Preset, delete_preset, save_preset

_TOP_FEATURES = 5
# Of a stream of events, the schema tells of one.
_EVENT = {"type": "object", "required": ["event", "data"]}
_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": _EVENT}}}}


class EncodeBody(BaseModel):
    """A text to read. With `feature`, its activation on each token; without, the strongest features of each."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str = Field(max_length=MOST_CHARACTERS)
    feature: int | None = Field(None, ge=0, le=2**53)
    dictionary: str | None = Field(None, max_length=100)
    top: int = Field(_TOP_FEATURES, ge=1, le=64)


class ContrastBody(BaseModel):
    """Two sets of texts; half of each chooses features, the other half proves them."""

    model_config = ConfigDict(extra="forbid", strict=True)
    positive: list[Annotated[str, Field(max_length=MOST_TEXT)]] = Field(max_length=MOST_TEXTS)
    negative: list[Annotated[str, Field(max_length=MOST_TEXT)]] = Field(max_length=MOST_TEXTS)
    limit: int = Field(20, ge=1, le=100)
    dictionary: str | None = Field(None, max_length=100)


class SteerBody(BaseModel):
    """A prompt, and edits in the edit grammar such as `8011 add 0.4r`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    prompt: str = Field(max_length=MOST_CHARACTERS)
    edits: list[Annotated[str, Field(max_length=300)]] = Field(default_factory=list, max_length=64)
    chat: bool = True
    seed: int = Field(0, ge=0, le=2**53)
    temperature: float = Field(0.7, ge=0, le=10, allow_inf_nan=False)
    max_tokens: int = Field(80, ge=1, le=MOST_ANSWER_TOKENS)
    shade: int | None = Field(None, ge=0, le=2**53)
    dictionary: str | None = Field(None, max_length=100)


class PresetBody(BaseModel):
    """Edits to keep under a name."""

    model_config = ConfigDict(extra="forbid", strict=True)
    edits: list[Annotated[str, Field(max_length=300)]] = Field(min_length=1, max_length=64)
    note: str = Field("", max_length=2000)
    dictionary: str | None = Field(None, max_length=100)


def api_routes(books: Library) -> APIRouter:
    """The routes, reading from one library."""
    routes = APIRouter(prefix="/api/v1", tags=["explorer"])
    _add_reading(routes, books)
    _add_finding(routes, books)
    _add_map(routes, books)
    _add_steering(routes, books)
    _add_presets(routes, books)
    return routes


def _add_reading(routes: APIRouter, books: Library) -> None:
    @routes.get("/about")
    def about(dictionary: str | None = None) -> dict[str, Any]:
        """What is loaded: model, dictionary, atlas, and the figures of `evaluate`."""
        found = books.about(dictionary)
        return {**vars(found), "dictionaries": list(found.dictionaries), "version": 1}

    @routes.get("/progress")
    def progress() -> dict[str, Any]:
        """How far the making of the run is."""
        return books.progress()

    @routes.get("/features/{dictionary}/{feature}")
    def feature(dictionary: str, feature: FeatureId, brief: bool = False) -> dict[str, Any]:
        """One feature with its evidence; `brief` gives its number, the label to show and the edit to begin with."""
        atlas = books.atlas(dictionary)
        atlas.check_feature(feature)
        if brief:
            label = labels_of(books, dictionary, {feature})[feature]
            return {"feature": feature, "label": label, "edit": default_edits(atlas.desk, [feature])[0]}
        return {**feature_with_units(atlas.feature(feature)), "notes": atlas.desk.notes(feature)}

    @routes.post("/encode")
    def encode(body: EncodeBody) -> dict[str, Any]:
        """Which features fire on each token of a text, and what share of its variance they leave unexplained."""
        return encoded(books, body)


def _add_finding(routes: APIRouter, books: Library) -> None:
    @routes.get("/search")
    def search(
        narrow: Annotated[Narrowing, Depends(narrowing)],
        q: Annotated[str, Query(max_length=MOST_QUERY)],
        by: str = "words",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        token: Annotated[int | None, Query(ge=0, le=100_000)] = None,
        dictionary: str | None = None,
    ) -> dict[str, Any]:
        """Features that answer a query: by words, by a prompt on which they fire, by a token that they raise, or like
        others (`12 - 45 + 67`)."""
        found = find(books, dictionary, q, by=by, limit=limit, token=token, filters=narrow.filters())
        name = books.choose(dictionary)
        results = _shown(books, name, [(hit_values(hit), hit.why) for hit in found.hits])
        return {
            "query": q,
            "by": by,
            "filters": narrow.given,
            "dictionary": name,
            "seconds": found.seconds,
            "results": results,
        }

    @routes.post("/contrast")
    def contrast(body: ContrastBody) -> dict[str, Any]:
        """Features that tell two sets of texts apart, with figures from texts that did not choose them."""
        name = books.choose(body.dictionary)
        told = tell_apart(books, name, body.positive, body.negative, limit=body.limit)
        labels = labels_of(books, name, {hit.feature for hit in told.hits})
        hits = [({**vars(hit), "label": labels[hit.feature]}, "") for hit in told.hits]
        return {
            "dictionary": name,
            "positive": told.positive,
            "negative": told.negative,
            "proved_on": list(told.proved_on),
            "seconds": told.seconds,
            "results": _shown(books, name, hits),
        }


def _shown(books: Library, name: str, hits: list[tuple[dict[str, Any], str]]) -> list[dict[str, Any]]:
    """Results with the cards that a script draws of them; each comes with why it is there."""
    records = books.atlas(name).features([values["feature"] for values, _ in hits])
    return [{**values, "shown": shown_values(record, why)} for (values, why), record in zip(hits, records, strict=True)]


def _add_map(routes: APIRouter, books: Library) -> None:
    @routes.get("/map/{dictionary}")
    def clusters(dictionary: str) -> dict[str, Any]:
        """The named clusters of the map, by level from coarse to fine; places lie between 0 and 1."""
        found = map_of(books.atlas(dictionary))
        return {
            "dictionary": dictionary,
            "features": len(found.features),
            "version": version_of(found),
            "levels": levels_of(found),
        }

    @routes.get("/map/{dictionary}/points", response_class=Response)
    def map_points(dictionary: str, v: Annotated[str, Query(max_length=64)] = "") -> Response:
        """The points, ten bytes each, little-endian: feature (4), x (2), y (2), fine cluster (2).

        With the version of the map as `v` the answer may be kept for ever.
        """
        found = map_of(books.atlas(dictionary))
        kept = "private, max-age=31536000, immutable" if v == version_of(found) else "no-store"
        return Response(points(found), media_type="application/octet-stream", headers={"cache-control": kept})


def encoded(books: Library, body: EncodeBody) -> dict[str, Any]:
    """The answer of `encode`."""
    dictionary, model = books.dictionary(body.dictionary), books.model()
    if body.feature is not None:
        dictionary.check_feature(body.feature)
    with books.queue.turn():
        read = read_text(model, dictionary, body.text)
        if body.feature is not None:
            values = read.activations(dictionary, body.feature)
            most = float(dictionary.stats.max[body.feature])
            units = display_units(read.tokens, values, special=read.special)
            return {"feature": body.feature, "units": units_json(units, most), "max": max(values), "largest": most}
        found = read.encoded(dictionary)
    units = display_units(read.tokens, special=read.special)
    shown = [row[: body.top] for row in found.codes]
    labels = labels_of(books, body.dictionary, {feature for row in shown for feature, _ in row})
    return {
        "units": units_json(units, 0.0),
        "codes": [[[feature, round(value, 4)] for feature, value in row] for row in shown],
        "unexplained": found.unexplained,
        "labels": {str(feature): label for feature, label in labels.items()},
    }


def _add_steering(routes: APIRouter, books: Library) -> None:
    @routes.post("/steer", response_class=StreamingResponse, responses=_EVENTS)
    def steer(body: SteerBody) -> StreamingResponse:
        """The answer with and without edits, as events `queue`, `baseline`, `steered` and at the end `done`."""
        dictionary, model = books.dictionary(body.dictionary), books.model()
        ask = Ask(
            body.prompt.encode("utf-8", "replace").decode(), tuple(body.edits), body.chat, body.seed, body.temperature,
            body.max_tokens, body.shade,
        )  # fmt: skip
        check_ask(ask, model, dictionary)
        records = steer_events(books.batcher(), model, dictionary, ask)
        return StreamingResponse(_events(records, books), media_type="text/event-stream")


async def _events(records: Any, books: Library) -> AsyncIterator[str]:
    """Records as server-sent events. When the client leaves, the generator is closed, and with it the generation."""
    try:
        async for record in iterate_in_threadpool(records):
            yield _event(record)
    except Exception as error:
        yield _event(("error", {"error": spoken(error, books.run.path)}))
    finally:
        records.close()


def _event(record: Record) -> str:
    name, data = record
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _add_presets(routes: APIRouter, books: Library) -> None:
    @routes.get("/presets")
    def presets(dictionary: str | None = None) -> dict[str, Any]:
        """The presets made for a dictionary."""
        return {"presets": [_preset_values(preset) for preset in books.presets(dictionary)]}

    @routes.put("/presets/{name}")
    def keep(name: str, body: PresetBody) -> dict[str, Any]:
        """Keep edits under a name, in place of a preset of the same name."""
        chosen = books.choose(body.dictionary)
        dictionary = books.dictionary(chosen)
        for edit in body.edits:
            dictionary.check_feature(parse_edit(edit).feature)
        preset = Preset(name, chosen, books.digest(chosen), tuple(body.edits), body.note)
        save_preset(books.run.path, preset)
        return _preset_values(preset)

    @routes.delete("/presets/{name}")
    def forget(name: str) -> dict[str, Any]:
        """Remove a preset."""
        delete_preset(books.run.path, name)
        return {"name": name}


def _preset_values(preset: Preset) -> dict[str, Any]:
    return {"name": preset.name, "dictionary": preset.dictionary, "edits": list(preset.edits), "note": preset.note}
