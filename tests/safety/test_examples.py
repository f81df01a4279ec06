"""Labelled texts from files, and splits that keep groups whole."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import BadRequest, Damaged, EmptyText, MonoscopeError, SourceNotFound
from monoscope.safety.examples import Example, labelled, split_by_group, suite, texts_of


def lines(path, *records: dict):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_files_of_both_labels_become_examples(tmp_path) -> None:
    talk = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes."}]
    mine = lines(tmp_path / "p.jsonl", {"text": "one", "group": "g", "id": "x"}, {"messages": talk})
    others = tmp_path / "n.csv"
    others.write_text("text,group\nthree,g\nfour,h\n")
    found = labelled(mine, str(others))
    assert [one.positive for one in found] == [True, True, False, False]
    assert found[0] == Example("x", True, "one", group="g")
    assert found[1].messages == (("user", "Hello"), ("assistant", "Yes."))
    assert [one.words for one in found] == ["one", "Hello\nYes.", "three", "four"]
    assert [one.group for one in found[2:]] == ["g", "h"]


def test_texts_without_a_group_stand_alone_and_copies_together(tmp_path) -> None:
    found = texts_of(lines(tmp_path / "p.jsonl", {"text": "a"}, {"text": "b"}, {"text": "a"}))
    assert found[0].group == found[2].group != found[1].group
    assert len({one.id for one in found}) == 3


@pytest.mark.parametrize(
    ("name", "content", "kind", "sentence"),
    [
        ("one.jsonl", '{"text": "a"}\n', BadRequest, "one.jsonl holds 1 text; give at least two."),
        ("none.jsonl", "", BadRequest, "none.jsonl holds 0 texts; give at least two."),
        ("bad.jsonl", '{"text": "a"}\n{"text"\n', Damaged, "bad.jsonl line 2 is not JSON"),
        ("other.jsonl", '{"words": "a"}\n', EmptyText, "other.jsonl line 1 lacks a column text or messages"),
        ("list.jsonl", '["a"]\n', Damaged, "list.jsonl line 1 holds no JSON object"),
        ("a.csv", "words\na\n", EmptyText, "a.csv line 2 lacks a column text or messages"),
        ("a.txt", "only one text\n", BadRequest, "a.txt holds 1 text"),
    ],
)
def test_files_that_will_not_do(tmp_path, name: str, content: str, kind: type[MonoscopeError], sentence: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(kind) as refusal:
        texts_of(path)
    assert sentence in str(refusal.value)


def test_one_text_will_do_where_it_is_only_asked_about(tmp_path) -> None:
    path = lines(tmp_path / "one.jsonl", {"text": "a"})
    assert [one.text for one in texts_of(path, least=1)] == ["a"]
    with pytest.raises(BadRequest, match="give at least 4"):
        texts_of(path, least=4)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(SourceNotFound, match=r"There is no file .*missing\.jsonl\."):
        texts_of(tmp_path / "missing.jsonl")


def test_a_suite_that_is_not_there() -> None:
    with pytest.raises(BadRequest, match="There is no suite 'weather'; there are unsafe_code, gender_bias"):
        suite("weather")


@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60),
    st.integers(2, 5),
    st.integers(0, 50),
)
def test_groups_are_never_split_and_folds_are_even(drawn: list[tuple[int, bool]], folds: int, seed: int) -> None:
    examples = [Example(str(place), label, group=f"g{group}") for place, (group, label) in enumerate(drawn)]
    found = split_by_group(examples, folds, seed=seed)
    assert found == split_by_group(examples, folds, seed=seed)
    assert set(found) <= set(range(folds))
    fold_of = {example.group: fold for example, fold in zip(examples, found, strict=True)}
    assert [fold_of[example.group] for example in examples] == found, "a group has one fold"
    kinds = {group: frozenset(label for g, label in drawn if f"g{g}" == group) for group in fold_of}
    for kind in set(kinds.values()):
        sizes = Counter(fold for group, fold in fold_of.items() if kinds[group] == kind)
        assert max(sizes.values()) - min(sizes.get(fold, 0) for fold in range(folds)) <= 1


def test_another_seed_splits_otherwise() -> None:
    examples = [Example(str(place), place % 2 == 0, group=f"g{place // 2}") for place in range(40)]
    assert len({tuple(split_by_group(examples, 2, seed=seed)) for seed in range(5)}) == 5
