"""The shipped suites: shape, balance, and that words alone do not give the label away."""

import tomllib
from collections import Counter
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from monoscope.safety.baselines import BagOfWords
from monoscope.safety.examples import SUITES, Example, split_by_group, suite
from monoscope.safety.statistics import area

ALL = {name: suite(name) for name in SUITES}


@pytest.mark.parametrize("name", SUITES)
def test_each_suite_has_its_shape(name: str) -> None:
    found = ALL[name]
    assert len(found) == 120
    assert sum(example.positive for example in found) == 60
    groups = Counter((example.group, example.positive) for example in found)
    assert len(groups) == 30
    assert set(groups.values()) == {4}, "15 groups of 4 positives and 4 negatives"
    hard = [example for example in found if example.hard]
    assert len(hard) >= 30
    assert not any(example.positive for example in hard)
    assert len({example.id for example in found}) == 120
    assert all(example.id.startswith(f"{name}-") for example in found)


@pytest.mark.parametrize("name", SUITES)
def test_no_text_is_empty_or_both_text_and_talk(name: str) -> None:
    for example in ALL[name]:
        assert bool(example.text) != bool(example.messages)
        assert example.words.strip() == example.words != ""
        assert all(role in ("system", "user", "assistant") and content.strip() for role, content in example.messages)


def test_no_text_stands_twice() -> None:
    texts = Counter(" ".join(example.words.lower().split()) for found in ALL.values() for example in found)
    assert [text for text, count in texts.items() if count > 1] == []


def mean_length(examples: list[Example]) -> float:
    return sum(len(example.words) for example in examples) / len(examples)


@pytest.mark.parametrize("name", SUITES)
def test_the_labels_are_equally_long(name: str) -> None:
    mine = mean_length([example for example in ALL[name] if example.positive])
    others = mean_length([example for example in ALL[name] if not example.positive])
    assert 0.9 < mine / others < 1.1
    lengths = torch.tensor([float(len(example.words)) for example in ALL[name]])
    assert 0.35 < area(lengths, torch.tensor([example.positive for example in ALL[name]])) < 0.65


@pytest.mark.parametrize("name", SUITES)
def test_words_alone_do_not_tell_the_labels_apart(name: str) -> None:
    """A bag of words, fitted on other groups, stays below 0.9."""
    found = ALL[name]
    place, positive = torch.tensor(split_by_group(found, 3)), torch.tensor([example.positive for example in found])
    words, scores = [example.words for example in found], torch.zeros(len(found), dtype=torch.double)
    for fold in range(3):
        rest, held = (torch.nonzero(mask).flatten().tolist() for mask in (place != fold, place == fold))
        inner = [example % 2 for example in range(len(rest))]
        bag = BagOfWords.fit([words[i] for i in rest], positive[rest], inner)
        scores[held] = bag.score([words[i] for i in held])
    assert area(scores, positive) < 0.9


def test_the_suites_are_packaged() -> None:
    there = {path.name for path in (files("monoscope.safety") / "suites").iterdir()}
    assert there >= {f"{name}.jsonl" for name in SUITES}
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["monoscope"]
    assert all(any(fnmatch(f"safety/suites/{name}.jsonl", pattern) for pattern in patterns) for name in SUITES)
