import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

import monoscope.serve
from monoscope.atlas.query import Context
from monoscope.serve.app import create_app
from monoscope.serve.library import Library
from monoscope.serve.pages import Pages
from monoscope.serve.present import PointedTokens, card_view, feature_view

from .client import PORT, Client, Page

SERVE = Path(monoscope.serve.__file__).parent
FORBIDDEN = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser", "Function(")
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7*7 }}{% raw %}",
    "</textarea></title><iframe src=//evil.test>",
    "<!--<style>*{}</style>",
    "\u202egnp.exe\x00\x1b[31m",
    "&lt;b&gt;&#x202e;",
    "a" * 5000,
]


def page(client, path, status=200):
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert "\u202e" not in answer.text and "\x00" not in answer.text
    found = Page(answer.text)
    found.check_policy()
    assert ("html", {"lang": "en"}) in found.tags
    return found


def test_the_first_page(client, books):
    found = page(client, "/")
    assert "Look inside toy" in found.text and "96 features of layer 2" in found.text
    search = [field for field in found.all("input") if field.get("name") == "q"]
    assert len(search) == 1 and "autofocus" in search[0]
    queries = [a["href"] for a in found.all("a") if a["href"].startswith("/search?q=")]
    assert queries
    for query in queries:
        assert client.get(query).text.count("data-item") >= 1
    assert found.text.count("Steer") > 2


def test_the_stored_pair_and_the_figures(run, books):
    (run / "demo.json").write_text(
        json.dumps(
            {
                "question": "Who are <you>?",
                "baseline": "A model.",
                "steered": "A \u202e<b>fox</b>.",
                "edits": ["1 add 0.4r"],
                "preset": "first",
            }
        )  # fmt: skip
    )
    metrics = run / "dictionaries" / "toy" / "metrics.json"
    metrics.write_text(json.dumps({"metrics": {"fvu": 0.1234, "l0": 3.96, "ce_recovered": 0.95}}))
    try:
        found = page(Client(create_app(run, library=books, port=PORT)), "/")
        assert "Who are <you>?" in found.text and "<b>fox</b>" in found.text and "⟨RLO⟩" in found.text
        assert "0.123" in found.text and "4.0" in found.text
        assert any("reconstruction|²" in abbr["title"] for abbr in found.all("abbr"))
        assert "/steer?preset=first" in [a["href"] for a in found.all("a")]
    finally:
        (run / "demo.json").unlink()
        metrics.unlink()


def test_search_shows_each_result_with_its_shaded_snippet(client):
    found = page(client, "/search?q=fox")
    cards = [attrs for _, attrs in found.tags if "data-item" in attrs]
    assert cards and re.search(r"\d+ features? ·", found.text)
    assert len([a for a in found.all("p") if a.get("class") == "tokens snippet"]) == len(cards)
    assert any(re.fullmatch("p[1-8]", span.get("class") or "") for span in found.all("span"))
    assert "Nothing matches" in page(client, "/search?q=zzzzqqq").text
    assert "/f/toy/7" in [a["href"] for a in page(client, "/search?q=7").all("a")]


def test_a_prompt_can_be_narrowed_to_a_token(client):
    found = page(client, "/search?q=The+fox+sees+a+bear&by=prompt")
    links = [a["href"] for a in found.all("a") if "token=" in a["href"]]
    assert len(links) == 5
    narrowed = page(client, links[1])
    assert [a for a in narrowed.all("a") if a.get("aria-current") == "true"]
    assert len([1 for _, attrs in narrowed.tags if "data-item" in attrs]) > 0


def test_the_feature_page(client, feature, books):
    record = books.atlas().feature(feature)
    found = page(client, f"/f/toy/{feature}")
    assert record.label in found.text and "Top activations" in found.text and "Interval" in found.text
    assert found.all("svg")[0]["role"] == "img" and f"{record.firings:,} firings" in found.text
    promoted = record.promoted[0][0].strip()
    assert promoted in found.text and "Raises" in found.text and "−" in found.text
    assert [a["href"] for a in found.all("a") if a.get("rel") == "next"] == [f"/f/toy/{feature + 1}"]
    assert len(found.tags) < 3000


def test_the_ends_of_the_list_and_dead_features(client, books):
    assert not [a for a in page(client, "/f/toy/0").all("a") if a.get("rel") == "prev"]
    assert not [a for a in page(client, "/f/toy/95").all("a") if a.get("rel") == "next"]
    dead = [line.feature for line in books.atlas().lines if line.density == 0]
    if dead:
        assert "Never fired" in page(client, f"/f/toy/{dead[0]}").text


def test_a_text_token_by_token(client):
    answer = client.post("/prompt", data={"text": "The fox sees\u202e a bear", "dictionary": "toy"})
    found = Page(answer.text)
    found.check_policy()
    assert answer.status_code == 200 and "⟨RLO⟩" in found.text
    rows = [attrs["id"] for attrs in found.all("tr") if "id" in attrs]
    assert rows[:2] == ["t0", "t1"]
    assert [a for a in found.all("a") if a.get("class") == "hit"]
    assert page(client, "/prompt").all("textarea")


def test_the_steering_page_fills_its_rows(client, feature):
    found = page(client, f"/steer?add={feature}&edit=5+clamp+2+@last")
    rows = [attrs for attrs in found.all("li") if "data-feature" in attrs]
    assert [(row["data-feature"], row["data-strength"], row["data-fixed"]) for row in rows] == [
        (str(feature), "0.4", ""),
        ("5", "", "5 clamp 2 @last"),
    ]
    assert page(client, "/steer?preset=first").all("li")
    page(client, "/steer?preset=none", 404)
    page(client, "/steer?add=96", 404)


@pytest.mark.parametrize(
    "path", ["/nope", "/f/toy/96", "/f/other/1", "/f/toy/x", "/search?q=a&limit=0", "/search?q=a&by=x"]
)
def test_errors_are_pages_of_one_sentence(client, run, path):
    answer = client.get(path)
    assert answer.status_code in (400, 404)
    Page(answer.text).check_policy()
    assert "<h1>" in answer.text and str(run.parent) not in answer.text and "Traceback" not in answer.text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_labels_and_tokens_stay_text(books, text):
    record = books.atlas().feature(0)
    raw = text.encode()
    context = Context((text, "x"), (raw, b"x"), (2.0, 1.0), 0, "top", 0, text, text, "en", 0)
    bad = replace(record, label=text, contexts=(context,), promoted=((text, 1.0),), suppressed=((text, -1.0),),
                  neighbours=((1, 0.5, text),), max_activation=2.0)  # fmt: skip
    pages = Pages(books)
    card = card_view(bad, why=text)
    pointed = PointedTokens(((raw, 1.0),), ((raw, -1.0),))
    feature_values = {"view": feature_view(bad, pointed), "layer": "1", "tokens": 1, "before": None, "after": None}
    search_values = {"cards": [card], "units_html": "", "seconds": 0.0, "number": None, "json": "", "token": None}
    drawn = [
        pages.draw("feature.html", dictionary="toy", **feature_values),
        pages.draw("search.html", query=text, by="words", dictionary="toy", **search_values),
        pages.draw("error.html", status=404, sentence=text, again=True),
        pages.draw("prompt.html", dictionary="toy", text=text, view=None, waiting=text),
    ]
    for one in drawn:
        body = one.body.decode()
        found = Page(body)
        found.check_policy()
        assert "alert(1)" not in "".join(str(attrs) for tag, attrs in found.tags if tag in ("script", "svg", "img"))


def test_hostile_queries_stay_text(client):
    for text in HOSTILE[:-1]:
        answer = client.get("/search", params={"q": text})
        assert answer.status_code in (200, 400)
        Page(answer.text).check_policy()


def test_templates_pass_only_escaped_html():
    for template in (SERVE / "templates").glob("*.html"):
        for name in re.findall(r"\{\{\s*([\w.]+)\s*\|\s*safe", template.read_text()):
            assert name.split(".")[-1].endswith("html"), (template.name, name)


def test_scripts_build_nodes_from_text_only():
    for script in (SERVE / "static").glob("*.js"):
        text = script.read_text()
        assert len(text.splitlines()) < 200, script.name
        for word in FORBIDDEN:
            assert word not in text, (script.name, word)
    assert sum(path.stat().st_size for path in (SERVE / "static").iterdir()) < 300_000
    assert sum(path.stat().st_size for path in (SERVE / "static").glob("*.js")) < 40_000


def progress(stages, process=1, updated=None):
    return json.dumps({"stages": stages, "updated": updated or time.time(), "process": process})


def test_a_run_that_is_being_made_shows_how_far_it_is(tmp_path, run, toy):
    folder = tmp_path / "new"
    folder.mkdir()
    library = Library(folder)
    client = Client(create_app(folder, library=library, port=PORT))
    assert "make demo" in page(client, "/").text
    stage = {
        "name": "harvest <b>",
        "state": "running",
        "done": 30,
        "total": 120,
        "unit": "tokens",
        "rate": 3.0,
        "seconds_left": 30.0,
    }
    (folder / "progress.json").write_text(progress([stage, {**stage, "name": "train", "state": "waiting", "done": 0}]))
    found = page(client, "/")
    assert "harvest <b>" in found.text and "0.25" in [bar["value"] for bar in found.all("progress")]
    told = client.get("/api/v1/progress").json()
    assert told["ready"] is False and told["stages"][0]["done"] == 30
    assert client.get("/search?q=a").status_code == 404
    (folder / "progress.json").write_text("{ half")
    assert client.get("/").status_code == 200
    for part in ("atlas", "dictionaries"):
        (folder / part).symlink_to(run / part)
    library.give_model(toy)
    assert "Look inside toy" in page(client, "/").text
    assert client.get("/api/v1/progress").json()["ready"] is True
