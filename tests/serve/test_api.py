import json
import threading
import time

import pytest

from monoscope.serve.app import create_app
from monoscope.serve.library import Library
from monoscope.serve.steering import Ask, steer_events
from monoscope.steer.batcher import MOST_ROWS, MOST_WAITING
from monoscope.steer.request import Request

from .client import PORT, Client, events


def test_about(client, books):
    about = client.get("/api/v1/about").json()
    assert (about["dictionary"], about["features"], about["model"], about["site"]) == ("toy", 96, "toy", "resid_post.2")
    assert about["model_state"] == "ready" and about["dictionaries"] == ["toy"]


def test_a_feature_is_told_as_show_tells_it(client, feature, books):
    told = client.get(f"/api/v1/features/toy/{feature}").json()
    record = books.atlas().feature(feature)
    assert told["label"] == record.label and told["max_activation"] == record.max_activation
    assert sum(told["histogram"]["counts"]) == record.firings
    context = told["contexts"][0]
    assert max(context["activations"]) == pytest.approx(record.max_activation, rel=1e-5)
    strongest = max(context["units"], key=lambda unit: unit["v"])
    assert strongest["c"] == "p8" and "100 %" in strongest["h"]
    wrong = client.post("/api/v1/encode", json={"text": "a fox", "feature": True})
    assert wrong.status_code == 400
    brief = client.get(f"/api/v1/features/toy/{feature}?brief=true").json()
    assert set(brief) == {"feature", "label", "edit"} and brief["edit"] == f"{feature} add 0.4r"


def test_search_by_words_and_by_prompt(client):
    found = client.get("/api/v1/search", params={"q": "fox and bear", "limit": 5}).json()
    assert 1 <= len(found["results"]) <= 5
    assert all(hit["shown"]["label"] and hit["why"] for hit in found["results"])
    by_prompt = client.get("/api/v1/search", params={"q": "The fox sees a bear", "by": "prompt"}).json()
    on_fox = client.get("/api/v1/search", params={"q": "The fox sees a bear", "by": "prompt", "token": 1}).json()
    everything = {hit["feature"] for hit in by_prompt["results"]}
    assert on_fox["results"] and {hit["feature"] for hit in on_fox["results"]} <= everything
    assert all("fox" in hit["why"] for hit in on_fox["results"])


def test_encode_finds_the_same_activation_with_and_without_naming_the_feature(client):
    text = "The fox sees a bear near the river."
    whole = client.post("/api/v1/encode", json={"text": text, "top": 64}).json()
    assert len(whole["codes"]) == len(whole["units"])
    feature, value = max((pair for row in whole["codes"] for pair in row), key=lambda pair: pair[1])
    one = client.post("/api/v1/encode", json={"text": text, "feature": int(feature)}).json()
    assert one["max"] == pytest.approx(value, abs=1e-3)
    shown = "".join(text for unit in one["units"] for _, text in unit["p"])
    assert shown.replace("·", " ") == text  # a space that fires is shown as a dot


def test_steering_streams_both_answers_and_the_proof(client, feature):
    body = {"prompt": "The fox", "chat": False, "edits": [f"{feature} add 0.5r"], "max_tokens": 12, "seed": 3}
    answer = client.post("/api/v1/steer", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    heard = events(answer.text)
    assert heard[-1][0] == "done"
    done = heard[-1][1]
    for pane in ("baseline", "steered"):
        assert "".join(data["text"] for name, data in heard if name == pane) == done[pane]
    (proof,) = done["edits"]
    assert proof["positions_edited"] > 0 and proof["realised_activation"] > proof["mean_activation_before"]
    assert proof["mean_norm_change"] == pytest.approx(0.5 * done["mean_residual_norm"], rel=1e-3)
    assert done["shaded"] == feature and len(done["units"]) == 2
    first = [data["n"] - 1 for name, data in heard if name == "steered" and data["first"]]
    assert first == [] or first == [done["first_difference"]]


def test_without_an_edit_the_answers_are_one(client):
    heard = events(client.post("/api/v1/steer", json={"prompt": "The fox", "max_tokens": 8}).text)
    done = heard[-1][1]
    assert done["baseline"] == done["steered"] and done["first_difference"] is None and done["edits"] == []


def test_leaving_frees_the_model(books, feature):
    batcher, ask = books.batcher(), Ask("The fox", (f"{feature} add 0.5r",), chat=False, max_tokens=300)
    for records_read in (0, 3):
        records = steer_events(batcher, books.model(), books.dictionary(), ask)
        for _ in range(records_read):
            next(records)
        records.close()
        until_free(batcher)


def until_free(batcher):
    deadline = time.monotonic() + 5
    while batcher.counts()["active"] + batcher.counts()["waiting"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert batcher.counts()["active"] == batcher.counts()["waiting"] == 0


def test_a_full_queue_says_so(client, books):
    batcher = books.batcher()
    others = batcher.submit(None, [Request((1, 2), max_tokens=400, stop_ids=frozenset())] * MOST_ROWS)
    assert others[0].get(10) is not None
    others += batcher.submit(None, [Request((1, 2))] * MOST_WAITING)
    try:
        answer = client.post("/api/v1/steer", json={"prompt": "The fox", "max_tokens": 4})
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert client.get("/api/v1/about").status_code == 200
    finally:
        for ticket in others:
            ticket.cancel()
    until_free(batcher)


def test_while_the_model_is_being_loaded(run):
    library = Library(run)
    gate = threading.Event()
    library._loader = threading.Thread(target=gate.wait, daemon=True)
    library._loader.start()
    client = Client(create_app(run, library=library, port=PORT))
    try:
        answer = client.post("/api/v1/encode", json={"text": "a fox"})
        assert answer.status_code == 503 and "being loaded" in answer.json()["error"] and answer.headers["retry-after"]
        assert "being loaded" in client.post("/prompt", data={"text": "a fox"}).text
        assert client.get("/search?q=fox").status_code == 200
    finally:
        gate.set()


def test_presets_are_kept_and_forgotten(client, feature):
    edits = [f"{feature} add 0.4r", "3 clamp 2.0 @generated"]
    assert client("PUT", "/api/v1/presets/mine", json={"edits": edits}).status_code == 200
    kept = {preset["name"]: preset for preset in client.get("/api/v1/presets").json()["presets"]}
    assert kept["mine"]["edits"] == [f"{feature} add 0.4r", "3 clamp 2 @generated"]
    page = client.get("/steer?preset=mine").text
    assert "3 clamp 2 @generated" in page and 'data-strength="0.4"' in page
    assert client("DELETE", "/api/v1/presets/mine").status_code == 200
    assert client("DELETE", "/api/v1/presets/mine").status_code == 404


HUGE = 10**30
ODD = [
    ("POST", "/api/v1/steer", {"prompt": ""}),
    ("POST", "/api/v1/steer", {"prompt": "a", "max_tokens": 10**9}),
    ("POST", "/api/v1/steer", {"prompt": "a", "max_tokens": 0}),
    ("POST", "/api/v1/steer", {"prompt": "a", "temperature": 1e308}),
    ("POST", "/api/v1/steer", {"prompt": "a", "seed": -1}),
    ("POST", "/api/v1/steer", {"prompt": "a", "edits": ["1 add 0.4r"] * 100_00}),
    ("POST", "/api/v1/steer", {"prompt": "a", "edits": ["nonsense"]}),
    ("POST", "/api/v1/steer", {"prompt": "a", "edits": ["1 add nan"]}),
    ("POST", "/api/v1/steer", {"prompt": "a", "edits": ["1 add 1 @5:900"]}),
    ("POST", "/api/v1/steer", {"prompt": "a", "unknown": 1}),
    ("POST", "/api/v1/steer", {"prompt": "word " * 1500}),
    ("POST", "/api/v1/steer", []),
    ("POST", "/api/v1/encode", {"text": "x" * 9000}),
    ("POST", "/api/v1/encode", {"text": "a b " * 2000}),
    ("POST", "/api/v1/encode", {"text": "  "}),
    ("POST", "/api/v1/encode", {"text": "a", "feature": -1}),
    ("POST", "/api/v1/encode", {"text": "a", "feature": HUGE}),
    ("POST", "/api/v1/encode", {"text": "a", "top": 10**6}),
    ("GET", "/api/v1/search?q=", None),
    ("GET", f"/api/v1/search?q={'x' * 3000}", None),
    ("GET", "/api/v1/search?q=a&limit=1000000", None),
    ("GET", "/api/v1/search?q=a&by=magic", None),
    ("GET", "/api/v1/search?q=fox&by=prompt&token=99", None),
    ("GET", "/api/v1/features/toy/-1", None),
    ("GET", f"/api/v1/features/toy/{2**63}", None),
    ("GET", "/f/toy/abc", None),
    ("GET", "/steer?add=x", None),
    ("GET", "/api/v1/features/..%2F..%2Fetc/1", None),
    ("PUT", "/api/v1/presets/..%2Fx", {"edits": ["1 add 1"]}),
]


@pytest.mark.parametrize(("method", "path", "body"), ODD, ids=range(len(ODD)))
def test_odd_requests_get_one_sentence(client, run, method, path, body):
    answer = client(method, path, json=body) if body is not None else client(method, path)
    assert answer.status_code in (400, 404, 405), answer.text
    assert str(run.parent) not in answer.text and "Traceback" not in answer.text
    if path.startswith("/api/"):
        assert 0 < len(answer.json()["error"]) < 600


@pytest.mark.parametrize("feature", [96, 2**40])
def test_features_outside_are_not_found(client, feature):
    assert client.get(f"/api/v1/features/toy/{feature}").status_code == 404
    assert client.post("/api/v1/encode", json={"text": "a", "feature": feature}).status_code == 404
    body = {"prompt": "a", "edits": [f"{feature} add 1"]}
    assert client.post("/api/v1/steer", json=body).status_code == 404
    assert client.get("/api/v1/features/other/1").status_code == 404


@pytest.mark.parametrize(
    "text", ["\ud800", "\x00", "\ufeff\u202e", "👩\u200d💻", "a" + "\u0301" * 500, "مرحبا", "\\x1b"]
)
def test_odd_texts_are_read_or_refused(client, text):
    raw = json.dumps({"text": text + " fox"})
    answer = client.post("/api/v1/encode", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400), answer.text
    steered = json.dumps({"prompt": text + " fox", "max_tokens": 2})
    answer = client.post("/api/v1/steer", content=steered, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400) and "Something went wrong" not in answer.text


@pytest.mark.parametrize("body", [b"{", b"[" * 20_000, b"nul", b'{"text": NaN}', b"\xff\xfe", b""])
def test_what_is_not_json_is_refused(client, body):
    answer = client.post("/api/v1/encode", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]


def test_the_interface_is_described(client):
    described = client.get("/api/v1/openapi.json").json()["paths"]
    assert {"/api/v1/about", "/api/v1/search", "/api/v1/features/{dictionary}/{feature}", "/api/v1/encode",
            "/api/v1/steer", "/api/v1/presets", "/api/v1/progress"} <= set(described)  # fmt: skip
    assert all(one.get("description") for path in described.values() for one in path.values())
