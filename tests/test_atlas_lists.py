import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from monoscope.core.errors import BadRequest

FOLDER = Path(__file__).parents[1] / "examples" / "atlas"


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@pytest.fixture
def script(monkeypatch):
    """A script of the folder as a module; its neighbours are imported by their plain names, as when it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def load(name):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    here = [
        name for name in set(sys.modules) - before if str(FOLDER) in str(getattr(sys.modules[name], "__file__", ""))
    ]
    for name in here:
        del sys.modules[name]


def test_there_are_twenty_five_concepts_each_with_a_rule_and_words_that_count():
    concepts = read("concepts")["concepts"]
    assert len({one["name"] for one in concepts}) == 25
    for one in concepts:
        assert one["by"] in ("opening", "anywhere", "twice", "focus")
        assert one["words"]
        assert one["accepts"]
        assert ("topic" in one) == (one["by"] == "focus")


def test_there_are_fifty_titles_and_every_prompt_is_more_than_the_title():
    found = read("titles")
    assert len({one["title"] for one in found["titles"]}) == 50
    assert len({one["topic"] for one in found["topics"]}) == 12
    for one in found["titles"]:
        assert one["prompt"].strip().lower() != one["title"].lower()
        assert len(one["prompt"].split()) >= 5


def test_the_example_sets_are_those_that_the_seed_gives(script):
    assert read("paper_concepts") == script("paper_sets").paper_concepts()


def test_what_proves_a_concept_did_not_choose_its_feature():
    for one in read("paper_concepts")["concepts"]:
        sides = {half: {side: one[half][side] for side in ("positive", "negative")} for half in ("choose", "prove")}
        for side in ("positive", "negative"):
            texts = [*sides["choose"][side], *sides["prove"][side]]
            assert len(set(texts)) >= 40, one["name"]
            assert not set(sides["choose"][side]) & set(sides["prove"][side]), one["name"]
        for half in sides.values():
            assert not set(half["positive"]) & set(half["negative"]), one["name"]


def test_the_faulty_lines_do_not_stand_among_the_right_ones():
    bugs = next(one for one in read("paper_concepts")["concepts"] if one["name"] == "bug in code")
    wrong = [*bugs["choose"]["positive"], *bugs["prove"]["positive"]]
    right = [*bugs["choose"]["negative"], *bugs["prove"]["negative"]]

    def compiles(source):
        try:
            compile(re.sub(r"(?m)^(\s*)return\b", r"\1_ =", source), "line", "exec")
        except SyntaxError:
            return False
        return True

    assert all(compiles(one) for one in right if not one.startswith(("lambda", "def")))
    assert sum(not compiles(one) for one in wrong) >= 8


def test_a_star_stands_for_any_ending_and_words_count_whole(script):
    wanted = script("common").pattern(["volcan*", "sea", "golden gate"])
    assert [bool(wanted.search(text)) for text in ("Volcanoes", "the sea.", "Golden Gate", "search", "seas")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_blind_reading_is_scored_by_the_sealed_key(script):
    blind = script("blind")
    key = {
        "01": {"feature": 7, "label": "sea", "lent_by": []},
        "02": {"feature": -1, "label": "", "lent_by": [1, 2]},
        "03": {"feature": 9, "label": "‘(’", "lent_by": []},
    }
    answers = {
        "01": {"coherent": True, "kind": "concept", "name": "the sea"},
        "02": {"coherent": False},
        "03": {"coherent": False},
    }
    found = blind.scored(key, answers)
    assert (found["coherent"], found["of"], found["decoys_refused"], found["of_decoys"]) == (1, 2, 1, 1)
    assert found["concept_share"] == 0.5
    assert "decoy" in blind.page(found)
    with pytest.raises(BadRequest, match="no answer for sheet 03"):
        blind.scored(key, {name: answers[name] for name in ("01", "02")})
    with pytest.raises(BadRequest, match="kind is 'animal'"):
        blind.scored(key, {**answers, "01": {"coherent": True, "kind": "animal"}})
