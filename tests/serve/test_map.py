"""The map: its points as bytes, its groups by level, its page with and without a picture, and the command for it."""

import json
import shutil
import struct

import pytest

from monoscope.cli import run_command
from monoscope.serve.app import create_app
from monoscope.serve.library import Library

from .client import PORT, Client, Page


def test_points_are_ten_bytes_each(client, books):
    about = client.get("/api/v1/map/toy").json()
    answer = client.get(f"/api/v1/map/toy/points?v={about['version']}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "immutable" in answer.headers["cache-control"]
    assert len(answer.content) == 10 * about["features"] == 960
    # Feature 17 lies in column 5 of 12 and row 1 of 8: left, above.
    assert struct.unpack_from("<IHHH", answer.content, 170) == (17, 5 * 65_535 // 11, 65_535 // 7, 0)
    assert struct.unpack_from("<IHHH", answer.content, 950) == (95, 65_535, 65_535, 3)
    assert "no-store" in client.get("/api/v1/map/toy/points").headers["cache-control"]
    assert "no-store" in client.get("/api/v1/map/toy/points?v=old").headers["cache-control"]


def test_groups_know_what_they_lie_in(client):
    coarse, middle, fine = client.get("/api/v1/map/toy").json()["levels"]
    assert [one["name"] for one in coarse] == ["animals", "bridges"] and "parent" not in coarse[0]
    assert [one["parent"] for one in middle] == [0, 1] and [one["parent"] for one in fine] == [0, 0, 1, 1]


def test_the_page_without_script(client):
    answer = client.get("/map?q=fox&f=17")
    found = Page(answer.text)
    found.check_policy()
    assert answer.status_code == 200 and "96 features" in found.text
    assert "/search?q=animals&dictionary=toy" in [a["href"] for a in found.all("a")]
    assert "/search?q=bridges%20middle&dictionary=toy" in [a["href"] for a in found.all("a")]
    lit = [a["data-hit"] for a in found.all("li") if "data-hit" in a]
    best = client.get("/api/v1/search?q=fox&limit=60").json()["results"]
    assert lit == [str(hit["feature"]) for hit in best if hit["score"] >= 0.3 * best[0]["score"]]
    assert "is ringed" in found.text
    assert [a for a in found.all("noscript")] and [a for a in found.all("canvas") if a.get("tabindex") == "0"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/map?f=96", 404),
        ("/map?f=x", 400),
        ("/map?q=%21%21", 400),
        ("/map?dictionary=other", 404),
        ("/api/v1/map/other", 404),
        ("/api/v1/map/toy/points?v=" + "x" * 100, 400),
    ],
)
def test_bad_addresses(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    if not path.startswith("/api/"):
        Page(answer.text).check_policy()


def test_a_map_that_is_absent_says_how_it_is_made(run, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(run, folder)
    (folder / "atlas" / "toy" / "clusters.json").unlink()
    client = Client(create_app(folder, library=Library(folder), port=PORT))
    page = client.get("/map")
    assert page.status_code == 200 and "monoscope map RUN" in page.text and "folder of bare" in page.text
    answer = client.get("/api/v1/map/toy")
    assert answer.status_code == 404 and "monoscope map RUN" in answer.json()["error"]
    assert client.get("/api/v1/map/toy/points").status_code == 404
    assert "On the map" not in client.get("/f/toy/3").text


def test_the_command_leaves_a_finished_map_as_it_is(run, capsys):
    before = (run / "atlas" / "toy" / "map.npz").stat().st_mtime_ns
    assert run_command(["map", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["features"], told["skipped"]) == ("toy", 96, True)
    assert told["clusters"][0] == {"level": 0, "name": "animals", "features": 48} and len(told["clusters"]) == 8
    assert run_command(["map", str(run)]) == 0
    assert "96 features of toy on the map, in 8 named groups (was there already)" in capsys.readouterr().out
    assert (run / "atlas" / "toy" / "map.npz").stat().st_mtime_ns == before
