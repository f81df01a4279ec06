import json
from collections.abc import Iterator
from typing import Any

import pytest

from monoscope.atlas.query import Atlas
from monoscope.core.errors import BadRequest, EmptyText
from monoscope.core.toy_text import toy_concepts
from monoscope.effect.baselines import METHODS, NAMED_WORDS
from monoscope.effect.dose import Bench, Settings
from monoscope.effect.shipped import questions

FEW = {"prompts": questions()[:4], "strengths": (0.1, 0.35), "tokens": 16}


@pytest.fixture(scope="module")
def atlas(planted) -> Iterator[Atlas]:
    found = Atlas.open(planted.folder / "atlas" / "planted")
    yield found
    found.close()


@pytest.fixture(scope="module")
def bench(toy, dictionary, atlas) -> Bench:
    return Bench(toy, dictionary, atlas, Settings(**FEW))


@pytest.fixture(scope="module")
def record(bench, planted) -> dict[str, Any]:
    return bench.dose(planted.numbers["music"])


def test_a_planted_concept_comes_up_by_its_feature_and_not_by_chance(record):
    assert set(record["words"]) <= set(toy_concepts()["music"])
    plain, methods = record["baseline"], record["methods"]
    assert tuple(methods) == METHODS
    assert methods["feature"]["concept_rate"] >= plain["concept_rate"] + 0.5
    assert methods["difference_of_means"]["concept_rate"] >= plain["concept_rate"] + 0.5
    assert methods["random"]["concept_rate"] <= plain["concept_rate"] + 0.25
    assert record["recommended"]["edit"] == f"{record['feature']} add {record['recommended']['strength']}r"
    assert record["recommended"]["low"] <= record["recommended"]["strength"] <= record["recommended"]["high"]
    weak, strong = record["grid"]
    assert 0 < weak["kl"] < strong["kl"]
    assert plain["word_probability"] < weak["word_probability"] < strong["word_probability"]
    assert methods["feature"]["most_word_probability"] > 3 * methods["random"]["most_word_probability"]
    assert record["grid"] == methods["feature"]["grid"]
    words = " ".join(record["samples"]["feature"].split())
    assert any(word in words for word in toy_concepts()["music"])


def test_the_record_is_plain_json_and_the_same_again(bench, planted, record):
    again = bench.dose(planted.numbers["music"])
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert {**again, "seconds": record["seconds"]} == record


def test_a_clamp_is_dosed_like_an_add(toy, dictionary, atlas, planted):
    record = Bench(toy, dictionary, atlas, Settings(mode="clamp", **FEW)).dose(planted.numbers["music"])
    assert record["recommended"]["edit"].split()[1] == "clamp"
    assert record["methods"]["feature"]["concept_rate"] >= record["baseline"]["concept_rate"] + 0.5


def test_a_dose_everywhere_pushes_the_template_too_whatever_the_method(toy, dictionary, atlas, planted, record):
    settings = Settings(scope="everywhere", **FEW)
    found = Bench(toy, dictionary, atlas, settings).dose(planted.numbers["music"])
    assert found["scope"] == "everywhere" and record["scope"] == "all"
    assert found["recommended"]["edit"].endswith("r @everywhere")
    assert settings.to_json() == {**Settings(**FEW).to_json(), "scope": "everywhere"}
    for method in ("feature", "difference_of_means", "random"):
        assert found["methods"][method]["grid"] != record["methods"][method]["grid"]
    assert found["methods"]["prompting"] == record["methods"]["prompting"]
    assert found["baseline"] == record["baseline"]


def test_where_nothing_is_fluent_nothing_is_recommended(toy, dictionary, atlas, planted):
    bench = Bench(toy, dictionary, atlas, Settings(prompts=FEW["prompts"], strengths=(400.0,), tokens=8))
    record = bench.dose(planted.numbers["music"])
    assert record["recommended"] is None
    assert "fluent" in record["reason"]
    told = record["methods"]["feature"]
    assert not told["fluent"]
    assert told["concept_rate"] == record["baseline"]["concept_rate"]


def test_prompting_names_words_and_edits_nothing(record):
    told = record["methods"]["prompting"]
    assert told["strength"] is None and told["kl"] is None and told["word_probability"] is None
    assert len(told["grid"]) == 1
    assert len(record["words"]) > NAMED_WORDS


def test_a_feature_without_words_is_told(bench, planted):
    with pytest.raises(EmptyText, match="share no word"):
        bench.dose(planted.numbers["dead"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "scale"},
        {"scope": "last"},
        {"prompts": ()},
        {"strengths": ()},
        {"strengths": (0.2, 0.1)},
        {"strengths": (0.0, 1.0)},
    ],
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(BadRequest):
        Settings(**wrong)
