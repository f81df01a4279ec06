import html
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

import monoscope.serve
from monoscope.atlas.records import Context, Near
from monoscope.serve.app import create_app
from monoscope.serve.drawing import Pages
from monoscope.serve.evidence import PointedTokens, desk_view, feature_view
from monoscope.serve.library import Library
from monoscope.serve.narrowing import Narrowing, choices
from monoscope.serve.present import card_view

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


def words(client, path):
    """The text of a page, each piece apart."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", client.get(path).text)).split())


def test_the_first_page(client, books):
    found = page(client, "/")
    assert "Look inside toy" in found.text and "96 features of layer 2" in found.text
    search = [field for field in found.all("input") if field.get("name") == "q"]
    assert len(search) == 1 and "autofocus" in search[0]
    queries = [a["href"] for a in found.all("a") if a["href"].startswith("/search?q=")]
    assert queries
    for query in queries:
        assert client.get(query).text.count("data-item") >= 1
    # Which features of the toy are worth showing first depends on the processor it was trained on.
    verbs = [a["href"] for a in found.all("a") if a.get("href", "").startswith("/steer?add=")]
    shown = [str(each.feature) for each in books.atlas().highlights()]
    assert shown
    assert [re.findall(r"add=(\d+)", verb)[0] for verb in verbs] == shown


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
        client = Client(create_app(run, library=books, port=PORT))
        opened = page(client, "/steer")
        assert "recorded pair" in opened.text and "<b>fox</b>" in opened.text
        assert [(row["data-feature"], row["data-strength"]) for row in opened.all("li") if "data-feature" in row] == [
            ("1", "0.4")
        ]
        assert "recorded pair" in page(client, "/steer?edit=1+add+0.4r").text
        for other in ("/steer?edit=1+add+0.3r", "/steer?add=2", "/steer?edit=1+add+0.4r&add=3"):
            shown = page(client, other).text
            assert "recorded pair" not in shown and "<b>fox</b>" not in shown
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
    dead = (books.atlas().densities == 0).nonzero()[0].tolist()
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
    assert "<h1" in answer.text and str(run.parent) not in answer.text and "Traceback" not in answer.text


def test_the_first_page_tells_how_good_the_features_are(client, books):
    quality = books.atlas().manifest["quality"]
    told = words(client, "/")
    assert "How good is this" in told
    assert f"these labels {quality['labels']['score_median']:.2f}" in told
    assert f"shuffled {quality['labels']['shuffled_median']:.2f}" in told
    assert f"random directions {quality['random_dictionary']['score_median']:.2f}" in told
    assert f"{100 * quality['dark']['mean']:.0f} % on average" in told


def test_the_evidence_of_a_feature(client, feature, books):
    atlas = books.atlas()
    record = max(atlas.features(range(atlas.n_features)), key=lambda one: len(one.silent) * one.firings)
    found = page(client, f"/f/toy/{record.feature}")
    told = words(client, f"/f/toy/{record.feature}")
    assert f"label score {record.label_score:.2f} · shuffled {record.label_control:.2f}" in told
    assert "Silent: its typical token without it" in told
    assert told.index("Silent: its") > told.index("Interval")
    # In a silent context nothing is shaded, and the token on which it might have fired is marked.
    assert len([a for a in found.all("span") if a.get("class") == "here"]) == len(record.silent)
    for near in record.neighbours:
        assert f"{near.cosine:.2f} {near.correlation:.2f} {near.label}" in told
    assert "Nearest" in told and "cosine correl. feature" in told
    assert f"{100 * record.typical_share:.0f} % of its peaks" in told
    assert f"/search?by=like&q={record.feature}&dictionary=toy" in [a["href"] for a in found.all("a")]
    assert f"/search?by=like&q=-{record.feature}&dictionary=toy" in [a["href"] for a in found.all("a")]
    told = client.get(f"/api/v1/features/toy/{record.feature}").json()
    assert [one["quantile"] for one in told["contexts"]].count("silent") == len(record.silent)


def test_what_fires_together_and_what_repeats_another(books, feature):
    record = books.atlas().feature(feature)
    together = (Near(3, "third", 0.123, 0.456, 41.7), Near(4, "fourth", 0.1, 0.2, 2.25))
    marked = replace(record, cofiring=together, duplicate_of=3, absorbed_into=4)
    view = feature_view(marked, PointedTokens((), ()), {3: "third", 4: "fourth"})
    assert [(one["lift"], one["correlation"], one["cosine"]) for one in view["cofiring"]] == [
        ("42", "0.46", "0.12"), ("2.2", "0.20", "0.10"),
    ]  # fmt: skip
    assert [(flag["says"], flag["label"]) for flag in view["flags"]] == [
        ("Repeats", "third"), ("May lose tokens to", "fourth"),
    ]  # fmt: skip
    rates = replace(record, sources={"a": 0.02, "b": 0.0, "c": 0.01}, languages={"en": 0.01}, density=0.01, firings=9)
    (by_source,) = feature_view(rates, PointedTokens((), ()), {})["rates"]
    assert [(row["name"], row["rate"]) for row in by_source["rows"]] == [("a", "2 %"), ("c", "1 %"), ("b", "0 %")]
    assert 'width="120.0"' in by_source["rows"][0]["bar_html"] and "M60.0 " in by_source["rows"][0]["bar_html"]


def test_what_is_unexplained_stands_under_each_token(client):
    answer = client.post("/prompt", data={"text": "The fox sees a bear", "dictionary": "toy"})
    found = Page(answer.text)
    links = [a for a in found.all("a") if re.fullmatch("u[1-4]", a.get("class") or "")]
    assert [a["href"] for a in links] == [f"#t{n}" for n in range(5)]
    assert all("unexplained" in a["data-h"] for a in links) and "on average:" in found.text
    told = client.post("/api/v1/encode", json={"text": "The fox sees a bear"}).json()["unexplained"]
    assert [f"{100 * share:.0f} % unexplained" in a["data-h"] for share, a in zip(told, links, strict=True)] == [
        True
    ] * 5


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_labels_and_tokens_stay_text(books, text):
    record = books.atlas().feature(0)
    raw = text.encode()
    context = Context((text, "x"), (raw, b"x"), (2.0, 1.0), 0, "top", 0, text, text, "en", 0)
    near = (Near(1, text, 0.5, 0.25, 3.0),)
    silent = (replace(context, quantile="silent"),)
    bad = replace(record, label=text, label_kind=f"judge:{text}", contexts=(context,), silent=silent,
                  neighbours=near, cofiring=near, sources={text: 0.1, "b": 0.2}, languages={text: 0.1, "b": 0.2},
                  duplicate_of=1, absorbed_into=2, firings=5, max_activation=2.0)  # fmt: skip
    pages = Pages(books)
    card = card_view(bad, why=text)
    sided = {**card, "auroc": "0.50", "side": "negative", "rate_pos": "1 of 2", "rate_neg": "1 of 2"}
    pointed = PointedTokens(((raw, 1.0),), ((raw, -1.0),), raw)
    atlas = books.atlas()
    desk = {**desk_view(atlas, 0), "label": text, "notes": [text], "lists": [text]}
    feature_values = {"view": feature_view(bad, pointed, {1: text, 2: text}), "desk": desk, "random_score": 0.5,
                      "layer": "1", "tokens": 1, "before": None, "after": None}  # fmt: skip
    search_values = {"cards": [card], "units_html": "", "seconds": 0.0, "number": None, "json": "", "token": None,
                     "narrow": Narrowing(source=text), "choices": choices(atlas), "sentence": "", "wider": "/search",
                     "like": "/search?q=1", "terms": [{"sign": "+", "feature": 1, "label": text}]}  # fmt: skip
    cluster = {"name": text, "x": 0.5, "y": 0.5, "features": 3, "inside": [{"name": text, "features": 2}]}
    map_values = {"outline": [cluster], "features": 3, "version": "1", "hits": [{"feature": 1, "label": text}],
                  "chosen": {"feature": 1, "label": text, "there": True}, "run": text, "sentence": ""}  # fmt: skip
    sets = {"positive": text, "negative": text, "fewest": 2, "most": 40, "longest": 600}
    drawn = [
        pages.draw("feature.html", dictionary="toy", **feature_values),
        pages.draw("search.html", query=text, by="words", dictionary="toy", **search_values),
        pages.draw("search.html", query=text, by="words", dictionary="toy", **{**search_values, "sentence": text}),
        pages.draw("map.html", query=text, dictionary="toy", **map_values),
        pages.draw("map.html", query=text, dictionary="toy", **{**map_values, "outline": []}),
        pages.draw("contrast.html", dictionary="toy", told=None, cards=[sided], sentence=text, **sets),
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
    assert sum(path.stat().st_size for path in (SERVE / "static").glob("*.js")) < 60_000


def test_no_page_loads_more_script_than_it_should():
    for template in (SERVE / "templates").glob("*.html"):
        waiting = {"app.js", *re.findall(r'src="/static/([\w]+\.js)"', template.read_text())}
        loaded = set()
        while waiting:
            script = waiting.pop()
            loaded.add(script)
            waiting |= set(re.findall(r'from "\./([\w]+\.js)"', (SERVE / "static" / script).read_text())) - loaded
        assert sum((SERVE / "static" / script).stat().st_size for script in loaded) < 36_000, template.name


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
