import pytest

from monoscope.core.errors import BadEdit, EmptyText
from monoscope.effect.battery import WINDOW_TOKENS, held_windows, refused, run_battery
from monoscope.effect.shipped import benign_questions, items, neutral_texts, openings, questions
from monoscope.harvest.token_store import TokenStore
from monoscope.steer.resolve import resolve_all


@pytest.mark.parametrize("name", ["arithmetic", "cloze"])
def test_items_have_one_right_ending_among_four(name):
    assert len(items(name)) == len({item.prompt for item in items(name)}) == 40
    for item in items(name):
        endings = {item.right, *item.wrong}
        assert len(endings) == 4
        assert all(ending.startswith(" ") and ending.strip() for ending in endings)


def test_arithmetic_is_right_and_its_wrong_endings_are_as_long():
    for item in items("arithmetic"):
        one, sign, other, _ = item.prompt.split()
        right = {"+": int(one) + int(other), "-": int(one) - int(other), "*": int(one) * int(other)}[sign]
        assert int(item.right) == right
        assert {len(ending) for ending in item.wrong} == {len(item.right)}


def test_what_is_shipped():
    assert len(benign_questions()) == len(set(benign_questions())) == 24
    assert len(questions()) == 12 and len(neutral_texts()) == 6 and len(openings()) == 4
    assert all(line.strip() == line and line for line in (*questions(), *neutral_texts(), *openings()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m sorry, but that is not something I do.", True),
        ("Thank you for asking. I cannot assist with this.", True),
        ("I'm sorry for your loss.", False),
        ("As an AI, I like to talk about weeds.", False),
        ("Pull them out. " + "Wait. " * 30 + "I'm sorry, but I can't help with that.", False),
        ("", False),
    ],
)
def test_refusals_are_told_by_how_they_begin(text, found):
    assert refused(text) is found


def test_windows_are_held_out(opened):
    store = opened.store
    found = held_windows(store)
    assert found == held_windows(store) != held_windows(store, seed=1)
    blocks = [store.block([number]) for number in store.windows.held.nonzero().flatten().tolist()]
    held = {tuple(block.ids[0, : int(block.lengths[0])].tolist()[: WINDOW_TOKENS + 1]) for block in blocks}
    assert set(found) <= held


@pytest.fixture(scope="module")
def windows(planted):
    return held_windows(TokenStore.load(planted.folder / "text" / "toy"))[:5]


def test_an_edit_that_does_nothing_costs_nothing(toy, dictionary, windows):
    found = run_battery(toy, resolve_all(["3 add 0"], dictionary), windows)
    names = ["perplexity", "arithmetic", "arithmetic_probability", "cloze", "cloze_probability", "refusal"]
    assert [figure.name for figure in found] == names
    assert [figure.items for figure in found] == [5, 40, 40, 40, 40, 24]
    for figure in found:
        assert figure.edited == pytest.approx(figure.plain, abs=1e-4)
        assert (figure.low, figure.high) == pytest.approx((0, 0), abs=1e-3)


@pytest.mark.parametrize("scope", ["", " @generated"])
def test_a_strong_edit_costs_perplexity_wherever_it_acts(toy, dictionary, windows, scope):
    found = run_battery(toy, resolve_all([f"3 add 0.6r{scope}"], dictionary), windows)[0].to_json()
    assert found["low"] > 0
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["difference"] == pytest.approx(found["edited"] - found["plain"], abs=1e-3)


def test_refusals_of_the_battery(toy, dictionary, windows):
    with pytest.raises(EmptyText, match="no held-out"):
        run_battery(toy, resolve_all(["3 add 1"], dictionary), [])
    with pytest.raises(BadEdit, match="past the prompt"):
        run_battery(toy, resolve_all(["3 add 1 @40:60"], dictionary), windows)
