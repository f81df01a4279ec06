import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import BadEdit
from monoscope.steer.edits import (
    LARGEST_VALUE,
    MODES,
    MODES_WITHOUT_VALUE,
    SCOPES,
    Condition,
    Edit,
    parse_edit,
    scope_range,
)

names = st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
features = st.integers(0, 2**63 - 1)
numbers = st.floats(-LARGEST_VALUE, LARGEST_VALUE)
ranges = st.tuples(st.integers(0, 999), st.integers(1, 999)).map(lambda pair: f"{pair[0]}:{pair[0] + pair[1]}")
scopes = st.sampled_from(SCOPES) | ranges
conditions = st.none() | st.builds(Condition, features, numbers, names)


@st.composite
def edits(draw):
    mode = draw(st.sampled_from(MODES))
    bare = mode in MODES_WITHOUT_VALUE
    unit = "" if bare or mode == "scale" else draw(st.sampled_from(["", "x", "r"]))
    value = None if bare else draw(numbers)
    return Edit(draw(features), mode, value, unit, draw(scopes), draw(conditions), draw(names))


@given(edits())
def test_printing_and_reading_give_the_same_edit(edit):
    assert parse_edit(str(edit)) == edit


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_one_class(text):
    try:
        edit = parse_edit(text)
    except BadEdit:
        return
    assert parse_edit(str(edit)) == edit


def test_the_examples_of_the_grammar():
    assert parse_edit("8011 add 0.4r") == Edit(8011, "add", 0.4, "r")
    assert parse_edit("8011 clamp 2x @generated if 7449 > 1.5") == Edit(
        8011, "clamp", 2.0, "x", "generated", Condition(7449, 1.5)
    )
    assert parse_edit(" main/3  clamp -2 @ 2:9 if  wide/4>-.5 ") == Edit(
        3, "clamp", -2.0, "", "2:9", Condition(4, -0.5, "wide"), "main"
    )
    assert parse_edit("5 ablate@last") == Edit(5, "ablate", scope="last")
    assert str(parse_edit("5 scale 3.0")) == "5 scale 3"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("8011", "FEATURE MODE"),
        ("8011 add 1 2", "FEATURE MODE"),
        ("x add 1", "feature 'x'"),
        ("-1 add 1", "feature '-1'"),
        ("a/b/1 add 1", "feature 'a/b/1'"),
        ("99999999999999999999999 add 1", "feature"),
        ("9999999999999999999 add 1", "feature"),
        ("8011 boost 1", "mode 'boost'"),
        ("8011 add", "needs a value"),
        ("8011 ablate 2", "takes no value"),
        ("8011 project-out 2r", "takes no value"),
        ("8011 add nan", "value 'nan'"),
        ("8011 add inf", "value 'inf'"),
        ("8011 add 1e308", "at most 1,000,000"),
        ("8011 add 1e9999", "at most 1,000,000"),
        ("8011 add 0x10", "value '0x10'"),
        ("8011 add 2y", "value '2y'"),
        ("8011 add r", "value ''"),
        ("8011 add ١", "value"),
        ("8011 scale 3x", "no unit"),
        ("8011 scale 3r", "no unit"),
        ("8011 add 1 @somewhere", "scope 'somewhere'"),
        ("8011 add 1 @", "scope ''"),
        ("8011 add 1 @5:5", "holds no token"),
        ("8011 add 1 @-1:5", "scope '-1:5'"),
        ("8011 add 1 if", "condition ''"),
        ("8011 add 1 if 7449 < 2", "condition '7449 < 2'"),
        ("8011 add 1 if 7449 > nan", "threshold"),
        ("8011 add 1 if seven > 2", "feature 'seven'"),
        ("8011 add 1" + " " * 400 + "@last", "characters"),
    ],
)
def test_a_refusal_names_the_part(text, part):
    with pytest.raises(BadEdit) as refused:
        parse_edit(text)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_records_made_by_hand_are_checked_too():
    for wrong in (
        {"feature": True, "mode": "ablate"},
        {"feature": -1, "mode": "ablate"},
        {"feature": 1, "mode": "add", "value": float("nan")},
        {"feature": 1, "mode": "add", "value": "three"},
        {"feature": 1, "mode": "add", "value": 1.0, "unit": "q"},
        {"feature": 1, "mode": "ablate", "dictionary": "../up"},
    ):
        with pytest.raises(BadEdit):
            Edit(**wrong)


def test_scopes_of_a_prompt_of_seven_tokens():
    assert scope_range("prompt", 7) == (0, 7)
    assert scope_range("last", 7) == (6, 7)
    assert scope_range("2:7", 7) == (2, 7)
    assert scope_range("generated", 7)[0] == 7
    assert scope_range("all", 7)[0] == 0
    with pytest.raises(BadEdit, match="which has 7 tokens"):
        scope_range("2:8", 7)
