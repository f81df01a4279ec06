"""What a judge is shown, and how its answers are read."""

import numpy as np
import pytest

from monoscope.atlas.records import Context, Trial
from monoscope.explain.feature import living_features, most_conceptual, other_label
from monoscope.explain.marking import importance, importances, marked_places, marked_text
from monoscope.explain.score import Item, balanced, fuzzing_items, read_answers, weighted
from monoscope.explain.write import choose_examples, read_label

YES_NO = {"yes": 1.0, "no": 0.0}


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("LABEL: bridges and spans", "bridges and spans"),
        ("They all name water.\n\nLABEL: **bodies of water**.\n", "bodies of water"),
        ('**LABEL:** "Golden Gate"', "Golden Gate"),
        ("LABEL: one\nLABEL:  two   words", "two words"),
        ("LABEL: bridges\nI hope this helps!", None),
        ("bridges", None),
        ("LABEL:", None),
        ("LABEL: ...", None),
        ("label: bridges", None),
        ("", None),
        ("LABEL: " + "long " * 20, None),
        ("LABEL: Followed by the pattern", None),
        ("LABEL: What the marked tokens share", None),
        ("LABEL: a\u2028b\x00", None),
    ],
)
def test_a_label_is_read_strictly(answer, label):
    assert read_label(answer) == label


@pytest.mark.parametrize(
    ("answer", "count", "found"),
    [
        ("ANSWER: yes, no, yes", 3, [1, 0, 1]),
        ("I think so.\n**ANSWER:** Yes,no", 2, [1, 0]),
        ("yes", 1, [1]),
        ("No.", 1, [0]),
        ("ANSWER: yes no", 2, [1, 0]),
        ("ANSWER: yes, no", 3, None),
        ("ANSWER: yes, maybe", 2, None),
        ("Text 1: yes", 1, None),
        ("ANSWER:", 1, None),
        ("", 1, None),
        ("ANSWER: 1, 0", 2, None),
    ],
)
def test_answers_are_read_strictly(answer, count, found):
    assert read_answers(answer, count, YES_NO) == found


def test_ratings_are_read_like_answers():
    ratings = {str(rating): float(rating) for rating in range(4)}
    assert read_answers("ANSWER: 3, 0, 2", 3, ratings) == [3, 0, 2]
    assert read_answers("ANSWER: 3, 4", 2, ratings) is None


def test_marks_stand_around_neighbours_once_and_never_come_from_the_text():
    assert marked_text(["The", " Golden", " Gate", " is", " «red»\n"], {1, 2}) == 'The« Golden Gate» is "red"⏎'
    assert marked_text(["a", "b"], {1}) == "a«b»"
    assert marked_text(["tab\there", "\x00"]) == "tab here"


def test_importances_are_tenths_of_the_maximum_rounded_up():
    assert [importance(value, 10.0) for value in (0.0, 0.01, 1.0, 1.01, 9.99, 10.0, 12.0)] == [0, 1, 1, 2, 10, 10, 10]
    assert importance(1.0, 0.0) == 0
    tokens, values = [" a", " b", " c", " d"], [0.0, 5.0, 1.0, 4.0]
    assert marked_places(values) == [1, 3]
    assert importances(tokens, values, 10.0) == '"b" 5, "d" 4'
    assert marked_places([0.0, 0.0]) == []


def _context(quantile: str, title: str) -> Context:
    return Context(("a",), (b"a",), (1.0,), 0, quantile, 0, title, "toy", "en", 0)


def test_examples_come_from_the_top_and_from_each_fifth():
    fifths = ("0-20 %", "20-40 %", "40-60 %", "60-80 %", "80-100 %")
    contexts = [_context(name, f"{name} {i}") for name in ("top", *fifths, "silent") for i in range(8)]
    chosen = choose_examples(contexts)
    assert [one.quantile for one in chosen] == ["top"] * 6 + [name for name in reversed(fifths) for _ in range(2)]
    assert len({one.title for one in chosen}) == len(chosen)


def _trial(activations, fires=True) -> Trial:
    tokens = tuple(f" w{i}" for i in range(len(activations)))
    peak = int(np.argmax(activations)) if fires else -1
    return Trial(tokens, tuple(map(str.encode, tokens)), tuple(activations), fires, peak, max(activations), 0, "t")


def _plain(text: str) -> list[str]:
    return text.replace("«", "").replace("»", "").split()


def test_fuzzing_shows_each_window_with_right_and_with_as_many_wrong_tokens_marked():
    trials = [_trial([0, 0, 5, 4, 0, 0, 0, i]) for i in (0, 1, 4, 5)]
    halves = fuzzing_items(trials, np.random.default_rng(0))
    assert [len(half) for half in halves] == [4, 4]
    for one, other in zip(*halves, strict=True):
        assert one.truth is not other.truth
        assert _plain(one.text) == _plain(other.text)
        right, wrong = (one, other) if one.truth else (other, one)
        assert "w2 w3»" in right.text
        assert "w2»" not in wrong.text and "« w2" not in wrong.text
    full = [_trial([3.0] * 8)] * 4
    assert fuzzing_items(full, np.random.default_rng(0)) == ([], [])


def test_balanced_accuracy_counts_both_kinds_alike_and_no_answer_as_half_right():
    items = [Item("", True)] * 2 + [Item("", False)] * 8
    assert balanced(items, [1.0] * 10) == 0.5
    assert balanced(items, [1.0] * 2 + [0.0] * 8) == 1.0
    assert balanced(items, [None] * 10) == 0.5
    assert balanced(items, [1.0, None] + [0.0] * 8) == 0.875


def test_ratings_are_weighted_by_activation():
    items = [Item("", True, 3.0), Item("", True, 1.0), Item("", True, 9.0)]
    assert weighted(items, [3.0, 0.0, None]) == pytest.approx(2.25)
    assert weighted(items, [None] * 3) is None


def test_the_first_features_live_are_concepts_and_no_doubles(opened):
    living = living_features(opened)
    chosen = most_conceptual(living, 10)
    assert len(chosen) == 10
    concepts = [living[feature].concept for feature in chosen]
    assert concepts == sorted(concepts, reverse=True)
    assert not any(living[feature].duplicate for feature in chosen)
    assert opened.n_features - 1 not in living


def test_the_control_is_another_label_and_follows_from_the_seed(opened):
    living = living_features(opened)
    drawn = {feature: other_label(living, feature, 0) for feature in living}
    assert all(label and label != living[feature].label for feature, label in drawn.items())
    assert drawn == {feature: other_label(living, feature, 0) for feature in living}
    assert drawn != {feature: other_label(living, feature, 1) for feature in living}
