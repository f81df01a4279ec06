"""What visitors put down on the desk of an atlas: notes, a label of their own, lists of features."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from monoscope.core.errors import ArtifactNotFound, BadRequest
from monoscope.serve.library import Library

MOST_NOTE, MOST_NOTES = 2_000, 500
MOST_LISTED, MOST_LISTS = 10_000, 1_000
PERSON = "person"
# Nobody has measured it, so it is never shown in place of a label that was.
_UNMEASURED = 0.5

FeatureId = Annotated[int, Path(ge=0, le=2**53)]
ListName = Annotated[str, Path(min_length=1, max_length=100)]


class TextBody(BaseModel):
    """A note or a label."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str = Field(max_length=MOST_NOTE)


class ListBody(BaseModel):
    """Features to keep under a name, in this order."""

    model_config = ConfigDict(extra="forbid", strict=True)
    features: list[Annotated[int, Field(ge=0, le=2**53)]] = Field(max_length=MOST_LISTED)
    dictionary: str | None = Field(None, max_length=100)


def note_routes(books: Library) -> APIRouter:
    """The routes, writing to the desks of one library."""
    routes = APIRouter(prefix="/api/v1", tags=["desk"])
    _add_notes(routes, books)
    _add_lists(routes, books)
    return routes


def keep_note(books: Library, dictionary: str, feature: int, text: str) -> list[str]:
    """Add a note; the feature's notes come back, the oldest first.

    Raises
        BadRequest       it is empty or too long, or there are very many.
        FeatureNotFound  there is no such feature.
    """
    atlas = books.atlas(dictionary)
    atlas.check_feature(feature)
    if len(text) > MOST_NOTE:
        raise BadRequest(f"The note has {len(text):,} characters; {MOST_NOTE:,} are kept at most.")
    if len(atlas.desk.notes(feature)) >= MOST_NOTES:
        raise BadRequest(f"Feature {feature} has {MOST_NOTES} notes already; no more are kept.")
    atlas.desk.note(feature, _whole(text))
    return atlas.desk.notes(feature)


def keep_label(books: Library, dictionary: str, feature: int, text: str) -> str:
    """Keep a visitor's label beside the measured one; an older one is replaced. Raises like `keep_note`."""
    atlas = books.atlas(dictionary)
    atlas.check_feature(feature)
    label = " ".join(_whole(text).split())
    atlas.desk.label(feature, label, score=_UNMEASURED, method=PERSON)
    return label


def _whole(text: str) -> str:
    """The text without half characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode()


def _add_notes(routes: APIRouter, books: Library) -> None:
    @routes.get("/features/{dictionary}/{feature}/notes")
    def notes(dictionary: str, feature: FeatureId) -> dict[str, Any]:
        """The notes on a feature, the oldest first."""
        atlas = books.atlas(dictionary)
        atlas.check_feature(feature)
        return {"feature": feature, "notes": atlas.desk.notes(feature)}

    @routes.post("/features/{dictionary}/{feature}/notes")
    def add_note(dictionary: str, feature: FeatureId, body: TextBody) -> dict[str, Any]:
        """Add a note to a feature."""
        return {"feature": feature, "notes": keep_note(books, dictionary, feature, body.text)}

    @routes.put("/features/{dictionary}/{feature}/label")
    def put_label(dictionary: str, feature: FeatureId, body: TextBody) -> dict[str, Any]:
        """Keep a label of your own beside the measured one."""
        return {"feature": feature, "label": keep_label(books, dictionary, feature, body.text), "method": PERSON}


def _add_lists(routes: APIRouter, books: Library) -> None:
    @routes.get("/lists")
    def lists(dictionary: str | None = None) -> dict[str, Any]:
        """All lists of features, by name."""
        return {"lists": books.atlas(dictionary).desk.lists()}

    @routes.get("/lists/{name}")
    def one_list(name: ListName, dictionary: str | None = None) -> dict[str, Any]:
        """The features of a list."""
        return {"name": name, "features": _listed(books, name, dictionary)}

    @routes.put("/lists/{name}")
    def put_list(name: ListName, body: ListBody) -> dict[str, Any]:
        """Keep features under a name, in place of a list of the same name."""
        atlas = books.atlas(body.dictionary)
        for feature in body.features:
            atlas.check_feature(feature)
        kept, there = " ".join(_whole(name).split()), atlas.desk.lists()
        if kept not in there and len(there) >= MOST_LISTS:
            raise BadRequest(f"There are {MOST_LISTS:,} lists already; remove one first.")
        atlas.desk.put_list(kept, body.features)
        return {"name": kept, "features": _listed(books, kept, body.dictionary)}

    @routes.delete("/lists/{name}")
    def delete_list(name: ListName, dictionary: str | None = None) -> dict[str, Any]:
        """Remove a list."""
        _listed(books, name, dictionary)
        books.atlas(dictionary).desk.delete_list(name)
        return {"name": name}


def _listed(books: Library, name: str, dictionary: str | None) -> list[int]:
    found = books.atlas(dictionary).desk.lists()
    if name not in found:
        raise ArtifactNotFound(f"There is no list named {name[:100]!r}.")
    return found[name]
