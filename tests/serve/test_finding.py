"""The four ways to search, the filters, and the contrast of two sets of texts."""

import json

import pytest
import torch

from monoscope.atlas.search import Filters
from monoscope.core.errors import BadRequest
from monoscope.core.toy_text import toy_concepts
from monoscope.serve.lookup import find
from monoscope.serve.narrowing import Narrowing
from monoscope.serve.reading import read_text

from .client import Page


def results(client, **asked):
    answer = client.get("/api/v1/search", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_by_token_are_those_that_raise_it(client, books):
    found = results(client, q="Fox", by="token", limit=5)
    assert found
    for hit in found:
        assert "fox" in [token.strip().lower() for token, _ in books.atlas().feature(hit["feature"]).promoted]
    scores = [hit["score"] for hit in found]
    assert scores == sorted(scores, reverse=True)


def test_by_likeness_is_the_cosine_with_the_sum(client, books, feature):
    others = [int(one) for one in books.atlas().densities.nonzero()[0] if one != feature][:2]
    one, other = others
    rows = torch.nn.functional.normalize(books.dictionary().W_dec.float(), dim=1)
    wanted = torch.nn.functional.normalize(rows[feature] - rows[one] + rows[other], dim=0)
    found = results(client, q=f"{feature} - {one} + {other}", by="like", limit=3)
    assert found[0]["score"] == pytest.approx(float(rows[found[0]["feature"]] @ wanted), abs=1e-3)
    assert not {hit["feature"] for hit in found} & {feature, one, other}


def test_the_page_of_likeness_can_be_refined(client, feature):
    answer = client.get("/search", params={"q": f" {feature}", "by": "like"})
    found = Page(answer.text)
    found.check_policy()
    assert [a["value"] for a in found.all("input") if a.get("type") == "radio" and "checked" in a] == ["like"]
    more = next(a["href"] for a in found.all("a") if a.get("aria-label", "").startswith("More like"))
    further = Page(client.get(more).text)
    expression = next(a["value"] for a in further.all("input") if a.get("name") == "q")
    assert expression.startswith(f"{feature} + ") and expression.split()[-1].isdigit()
    assert f"/f/toy/{feature}" in [a["href"] for a in further.all("a")]


def test_filters_narrow_all_ways(client, books, feature):
    density = books.atlas().feature(feature).density
    for by, query in (("words", "fox bear ship"), ("prompt", "The fox sees a ship"), ("token", "fox"), ("like", "1")):
        free = results(client, q=query, by=by, limit=100)
        cut = sorted(books.atlas().densities[[hit["feature"] for hit in free]])[len(free) // 2]
        rare = results(client, q=query, by=by, limit=100, density_max=float(cut))
        assert len(rare) > 0
        assert all(books.atlas().densities[hit["feature"]] <= cut for hit in rare)
    percent = Narrowing(density_min=" 0.5 %", density_max=str(density), label_score="0.6").filters()
    assert percent == Filters(0.005, density, 0.6)


def test_filters_stand_in_the_address_and_on_the_page(client):
    found = Page(client.get("/search?q=fox&density_max=50+%25&label_score=&source=").text)
    assert [a for a in found.all("details") if "open" in a]
    assert "fires on at most 50 %" in found.text
    assert [a["value"] for a in found.all("input") if a.get("name") == "density_max"] == ["50 %"]
    told = json.loads(client.get(next(a["href"] for a in found.all("a") if a["href"].startswith("/api/"))).text)
    assert told["filters"] == {"density_max": "50 %"}
    assert not [a for a in Page(client.get("/search?q=fox").text).all("details") if "open" in a]


@pytest.mark.parametrize(
    ("asked", "says", "status"),
    [
        ({"q": "fox", "density_min": "much"}, "'much'", 400),
        ({"q": "fox", "density_max": "nan"}, "from 0 to 1", 400),
        ({"q": "fox", "density_max": "-1"}, "from 0 to 1", 400),
        ({"q": "fox", "label_score": "120 %"}, "label score", 400),
        ({"q": "fox", "density_min": "0.2", "density_max": "0.1"}, "above the largest", 400),
        ({"q": "fox", "source": "nowhere"}, "no source 'nowhere'", 400),
        ({"q": "fox", "language": "<b>"}, "no language", 400),
        ({"q": "fox", "source": "x" * 300}, "source", 400),
        ({"q": "12 + fox", "by": "like"}, "feature numbers", 400),
        ({"q": "5 - 5", "by": "like"}, "cancels", 400),
        ({"q": "+".join("1" * 40), "by": "like"}, "at most", 400),
        ({"q": "96", "by": "like"}, "no feature 96", 404),
        ({"q": "9" * 30, "by": "like"}, "no feature", 404),
        ({"q": "zzzz", "by": "token"}, "No token", 400),
        ({"q": "fox", "by": "magic"}, "magic", 400),
    ],
    ids=range(15),
)
def test_what_makes_no_sense_is_one_sentence(client, asked, says, status):
    answer = client.get("/api/v1/search", params=asked)
    assert answer.status_code == status and says in answer.json()["error"]
    page = client.get("/search", params=asked)
    assert page.status_code == status
    found = Page(page.text)
    found.check_policy()
    assert says in found.text
    if len(asked.get("source", "")) < 100:  # the form is still there, filled, to be mended
        assert [a["value"] for a in found.all("input") if a.get("name") == "q"] == [asked["q"]]


def test_a_search_without_a_way_is_refused(books):
    with pytest.raises(BadRequest, match="words, prompt, token or like"):
        find(books, None, "fox", by="")


ANIMALS, SHIPS = toy_concepts()["animals"], toy_concepts()["sea"]
POSITIVE = [f"The {word} sees a tree." for word in ANIMALS[:6]]
NEGATIVE = [f"The {word} sees a tree." for word in SHIPS[:6]]


def test_a_contrast_finds_what_was_planted(client, books):
    told = client.post("/api/v1/contrast", json={"positive": POSITIVE, "negative": NEGATIVE, "limit": 8}).json()
    assert (told["positive"], told["negative"], told["proved_on"]) == (6, 6, [3, 3])
    best = next(hit for hit in told["results"] if hit["direction"] > 0)
    assert best["auroc_heldout"] > 0.9 and best["rate_pos"] > 0.9 > 0.2 > best["rate_neg"]
    # The same by hand: the largest activation in each text, and the texts that did not choose against each other.
    largest = [
        [client.post("/api/v1/encode", json={"text": text, "feature": best["feature"]}).json()["max"] for text in texts]
        for texts in (POSITIVE, NEGATIVE)
    ]
    assert best["rate_pos"] == sum(value > 0 for value in largest[0]) / 6
    pairs = [(one > other) + (one == other) / 2 for one in largest[0][1::2] for other in largest[1][1::2]]
    assert best["auroc_heldout"] == pytest.approx(sum(pairs) / 9)
    other = next(hit for hit in told["results"] if hit["direction"] < 0)
    assert other["auroc_heldout"] < 0.2 and other["shown"]["label"] == other["label"]


def test_the_contrast_page_draws_the_same(client):
    fields = {"positive": "\r\n\r\n".join(POSITIVE), "negative": "\n".join(NEGATIVE) + "\n", "dictionary": "toy"}
    answer = client.post("/contrast", data=fields)
    found = Page(answer.text)
    found.check_policy()
    assert answer.status_code == 200 and "6 against 6 texts" in found.text and "held-out AUROC" in found.text
    assert "fires in 6 of 6 positive, 0 of 6 negative" in found.text
    assert len(Page(client.get("/contrast").text).all("textarea")) == 2


@pytest.mark.parametrize(
    ("positive", "negative", "says"),
    [
        (["a fox"], NEGATIVE, "There is 1 positive text;"),
        (POSITIVE, [], "There are 0 negative texts;"),
        (POSITIVE, ["a ship", "  "], "negative text 2 is empty"),
    ],
)
def test_sets_that_cannot_be_told_apart(client, positive, negative, says):
    answer = client.post("/api/v1/contrast", json={"positive": positive, "negative": negative})
    assert answer.status_code == 400 and says in answer.json()["error"]


def test_sets_that_are_too_large(client):
    for body in ({"positive": ["a fox"] * 41}, {"positive": ["x" * 601] * 2}, {"limit": 0}, {"limit": 1000}):
        answer = client.post("/api/v1/contrast", json={"positive": POSITIVE, "negative": NEGATIVE, **body})
        assert answer.status_code == 400 and answer.json()["error"]
    page = client.post("/contrast", data={"positive": "x" * 700 + "\nb", "negative": "a\nb"})
    assert page.status_code == 400 and "600 are read at most" in page.text


def test_the_unexplained_share_is_what_the_formula_says(client, books):
    text = "The fox sees a bear near the river."
    told = client.post("/api/v1/encode", json={"text": text}).json()["unexplained"]
    dictionary = books.dictionary()
    read = read_text(books.model(), dictionary, text)
    for share, x, kept in zip(told, read.x, read.kept, strict=True):
        assert (share is None) == (not kept)
        if share is None:
            continue
        code = dictionary.encode(x[None]).to_dense()[0]
        lost = x - (code @ dictionary.W_dec + dictionary.b_dec)
        whole = x - dictionary.stats.mean_vector
        assert share == pytest.approx(float(lost @ lost / (whole @ whole)), abs=1e-3)
