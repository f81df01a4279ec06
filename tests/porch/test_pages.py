"""The static export as files: what is in them, and what never is."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import Damaged
from monoscope.porch.checking import Rounding
from monoscope.porch.export import export_atlas
from monoscope.porch.origin import credits_of
from monoscope.porch.page_values import feature_values, pieces_of
from monoscope.porch.pages import read_script
from monoscope.render.tokens import display_units

from .conftest import LABELLED


@pytest.fixture(scope="module")
def out(origin, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "out"
    found = export_atlas(origin, "static", folder)
    assert 0 < found.max_error <= 0.0005 + 1e-9
    return folder


def shards(out, kind):
    count = len(list((out / "data").glob(f"{kind}-*.js")))
    found = [read_script(out / "data" / f"{kind}-{number}.js") for number in range(count)]
    assert [(name, number) for name, number, _ in found] == [(kind, number) for number in range(count)]
    return [item for _, _, values in found for item in values]


def said(pieces) -> str:
    """What pieces show, as text."""
    found = ""
    for piece in pieces:
        if isinstance(piece, str):
            found += piece
        elif isinstance(piece[0], str):
            found += piece[1]
        else:
            found += said(piece[2:])
    return found


def test_every_feature_is_there_with_its_figures_and_examples(origin, out):
    _, _, index = read_script(out / "data" / "index.js")
    features, cards = shards(out, "features"), shards(out, "cards")
    assert index["feature"] == [found["feature"] for found in features] == list(origin.features)
    assert len(cards) == len(features) == len(index["label"])
    for found, record in zip(features, origin.atlas.features(origin.features), strict=True):
        assert found["density"] == pytest.approx(record.density, abs=1e-8)
        assert sum(found["counts"]) == record.firings
        assert [other for other, _, _ in found["near"]] == [near.feature for near in record.neighbours]
        shown = [context for group in found["groups"] for context in group["contexts"]]
        assert len(shown) == len(record.contexts) + len(record.silent)
    assert features[0]["groups"][0]["name"] == "Top activations"
    assert index["label"][LABELLED].startswith("cables")


def test_an_example_shows_its_text_and_its_values(origin, out):
    record, found = origin.atlas.feature(0), shards(out, "features")[0]
    best, shown = record.contexts[0], found["groups"][0]["contexts"][0]
    units = display_units(best.token_bytes, best.activations)
    assert said(shown[1]) == "".join(unit.shown for unit in units)
    values = [piece[1] for piece in shown[1] if not isinstance(piece[0], str) and not isinstance(piece, str)]
    assert values == [round(unit.value, 3) for unit in units if unit.value]
    assert shown[0] == round(record.max_activation, 3)


def test_groups_stand_from_the_strongest_to_silence(origin):
    record = origin.atlas.feature(0)
    best = record.contexts[0]
    quiet = replace(best, quantile="silent", activations=(0.0,) * len(best.tokens))
    shown = tuple(replace(best, quantile=name) for name in ("0-20 %", "80-100 %", "top"))
    found = feature_values(replace(record, contexts=shown, silent=(quiet,)), Rounding())
    names = ["Top activations", "Interval 80–100 %", "Interval 0–20 %", "Silent near misses"]
    assert [group["name"] for group in found["groups"]] == names
    assert found["groups"][3]["contexts"][0][0] == 0
    assert said(found["groups"][3]["contexts"][0][1]) == said(found["groups"][0]["contexts"][0][1])


@given(
    st.lists(
        st.tuples(
            st.one_of(st.text(max_size=4).map(str.encode), st.binary(max_size=3), st.sampled_from([b" a", b"\xc3"])),
            st.sampled_from([0.0, 0.0, 1.5]),
        ),
        max_size=12,
    )
)
def test_the_quick_way_shows_what_the_renderer_shows(pairs):
    tokens, values = [token for token, _ in pairs], [value for _, value in pairs]
    pieces = pieces_of(tokens, values, 2.0, Rounding())
    units = display_units(tokens, values)
    assert said(pieces) == "".join(unit.shown for unit in units)
    shaded = [piece for piece in pieces if not isinstance(piece, str) and isinstance(piece[0], int)]
    assert len(shaded) <= sum(unit.value != 0 for unit in units)
    assert not any(isinstance(a, str) and isinstance(b, str) for a, b in zip(pieces, pieces[1:], strict=False))


def test_no_file_holds_markup_or_hidden_characters_from_the_text(out):
    data = list((out / "data").glob("*.js"))
    assert any("onerror=alert" in path.read_text() for path in data)  # it is there, as text
    for path in data:
        text = path.read_text(encoding="utf-8")
        assert not set("<>&") & set(text), path
        hidden = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")} - {"\n"}
        assert not hidden, (path, hidden)
        assert text.count("\n") == 1
    page = (out / "index.html").read_text()
    assert "onerror" not in page and page.count("<script") == 2


def test_the_script_never_makes_html_of_text(out):
    script = (out / "atlas.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttp"):
        assert word not in script


def test_the_credit_stands_where_wikipedia_s_text_does(out):
    assert "CC BY-SA" in (out / "CREDITS.txt").read_text()
    assert "CC BY-SA" in " ".join(read_script(out / "data" / "index.js")[2]["credits"])
    assert credits_of(["toy", "mywiki"]) == ()
    assert ["PSF" in text for text in credits_of(["python-stdlib", "wiki-chat"])] == [False, True]


def test_a_chosen_few_keep_their_order(origin, tmp_path):
    export_atlas(replace(origin, features=(5, 2)), "static", tmp_path / "out")
    _, _, index = read_script(tmp_path / "out" / "data" / "index.js")
    assert index["feature"] == [5, 2]
    assert set(index["highlights"]) <= {5, 2}


@pytest.mark.parametrize("text", ["", "monoscope.shard(1);\n", 'monoscope.shard("a",0,{);\n', "alert(1);\n"])
def test_a_data_file_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "cards-0.js").write_text(text)
    with pytest.raises(Damaged, match="cards-0.js is no data"):
        read_script(tmp_path / "cards-0.js")


def test_a_data_file_is_one_call_with_json(out):
    text = (out / "data" / "cards-0.js").read_text()
    assert text.startswith('monoscope.shard("cards",0,[{') and text.endswith(");\n")
    assert json.loads(text[len('monoscope.shard("cards",0,') : -3])
