"""Notes, labels and lists: kept, shown as text, refused where they make no sense."""

import json
import shutil

import pytest

from monoscope.serve.app import create_app
from monoscope.serve.library import Library

from .client import PORT, Client, Page

HOSTILE = "<img src=x onerror=alert(1)>\u202e</textarea><script>alert(2)</script>"


@pytest.fixture
def desk(run, toy, tmp_path):
    """A client of a run whose desk is empty."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "atlas" / "toy" / "desk.sqlite").unlink(missing_ok=True)
    library = Library(folder)
    library.give_model(toy)
    client = Client(create_app(folder, library=library, port=PORT))
    client.atlas = library.atlas()
    return client


def test_notes_by_form_and_by_interface(desk):
    sent = desk.post("/f/toy/3/notes", data={"text": "first line\r\nsecond"})
    assert sent.status_code == 303 and sent.headers["location"] == "/f/toy/3#notes"
    told = desk.post("/api/v1/features/toy/3/notes", json={"text": HOSTILE}).json()
    assert told["notes"] == ["first line\nsecond", HOSTILE]
    assert desk.get("/api/v1/features/toy/3/notes").json()["notes"] == told["notes"]
    assert desk.get("/api/v1/features/toy/3").json()["notes"] == told["notes"]
    answer = desk.get("/f/toy/3")
    found = Page(answer.text)
    found.check_policy()
    assert "first line\nsecond" in found.text and "<img src=x onerror=alert(1)>⟨RLO⟩" in found.text
    assert "\u202e" not in answer.text and not found.all("img")


def test_a_label_by_hand_stands_beside_the_measured_one(desk):
    measured = desk.atlas.feature(5).label
    desk("PUT", "/api/v1/features/toy/5/label", json={"text": "  my \n own "})
    assert desk.atlas.desk.labels()[5].text == "my own" and desk.atlas.desk.labels()[5].method == "person"
    page = desk.get("/f/toy/5").text
    assert "my own" in Page(page).text and measured in Page(page).text.split("Nearest")[0]
    assert desk.post("/f/toy/5/label", data={"text": HOSTILE}).status_code == 303
    page = desk.get("/f/toy/5").text
    Page(page).check_policy()
    assert "your label: <img src=x" in Page(page).text and "<img src=x" not in page


def test_lists(desk):
    put = desk("PUT", "/api/v1/lists/to%20read", json={"features": [3, 1, 3]})
    assert put.json() == {"name": "to read", "features": [3, 1]}
    assert desk.get("/api/v1/lists").json() == {"lists": {"to read": [3, 1]}}
    assert desk.get("/api/v1/lists/to%20read?dictionary=toy").json()["features"] == [3, 1]
    assert "to read" in Page(desk.get("/f/toy/3").text).text
    assert desk("DELETE", "/api/v1/lists/to%20read").status_code == 200
    for method in ("GET", "DELETE"):
        answer = desk(method, "/api/v1/lists/to%20read")
        assert answer.status_code == 404 and "no list named 'to read'" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/v1/features/toy/3/notes", {"text": "  "}, 400),
        ("POST", "/api/v1/features/toy/3/notes", {"text": "x" * 2001}, 400),
        ("POST", "/api/v1/features/toy/3/notes", {}, 400),
        ("POST", "/api/v1/features/toy/96/notes", {"text": "a"}, 404),
        ("POST", "/api/v1/features/other/3/notes", {"text": "a"}, 404),
        ("GET", "/api/v1/features/toy/96/notes", None, 404),
        ("PUT", "/api/v1/features/toy/3/label", {"text": ""}, 400),
        ("PUT", "/api/v1/features/toy/3/label", {"text": "x" * 300}, 400),
        ("PUT", "/api/v1/features/toy/-1/label", {"text": "a"}, 400),
        ("PUT", "/api/v1/lists/a", {"features": [96]}, 404),
        ("PUT", "/api/v1/lists/a", {"features": [-1]}, 400),
        ("PUT", "/api/v1/lists/a", {"features": "all"}, 400),
        ("PUT", f"/api/v1/lists/{'a' * 101}", {"features": [1]}, 400),
        ("PUT", "/api/v1/lists/%20", {"features": [1]}, 400),
    ],
    ids=range(14),
)
def test_refusals_write_nothing(desk, method, path, body, status):
    answer = desk(method, path, json=body) if body is not None else desk(method, path)
    assert answer.status_code == status and 0 < len(answer.json()["error"]) < 600
    assert not desk.atlas.desk.path.exists()


def test_half_characters_are_kept_whole(desk):
    raw = json.dumps({"text": "a \ud800 b"})
    answer = desk.post("/api/v1/features/toy/3/notes", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400)
    assert desk.get("/f/toy/3").status_code == 200


def test_another_site_cannot_write(desk):
    for path in ("/f/toy/3/notes", "/f/toy/3/label"):
        answer = desk.post(path, data={"text": "a"}, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403
    assert desk.post("/f/toy/3/notes", data={"text": "a"}, headers={"origin": "http://evil.test"}).status_code == 403
    assert not desk.atlas.desk.path.exists()


def test_forms_that_cannot_be_kept_get_a_page(desk):
    answer = desk.post("/f/toy/3/notes", data={"text": " "})
    assert answer.status_code == 400 and "A note has 1 to" in answer.text
    assert desk.post("/f/toy/96/label", data={"text": "a"}).status_code == 404
