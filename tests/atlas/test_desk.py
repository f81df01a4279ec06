"""The desk: what is written is found again, by others too, and a label is shown by its score."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from monoscope.atlas.desk import Desk, carry_desk
from monoscope.core.errors import BadRequest, Damaged


@pytest.fixture
def desk(tmp_path) -> Desk:
    (tmp_path / "a").mkdir()
    return Desk(tmp_path / "a", "digest")


def test_an_empty_desk_has_nothing_and_leaves_no_file(desk) -> None:
    assert not desk.labels() and not desk.doses() and not desk.notes(3) and not desk.lists()
    assert desk.cached("key") is None
    assert not desk.path.exists()


def test_the_best_label_of_a_feature_counts(desk) -> None:
    desk.label(3, "bridges", score=0.8, method="judge:a")
    desk.label(3, "  a  bridge\n", score=0.7, method="judge:b", details={"fuzzing": 0.6})
    assert desk.labels()[3].text == "bridges"
    desk.label(3, "things", score=0.5, method="judge:a")
    assert desk.labels()[3].text == "a bridge"
    assert desk.labels()[3].details == {"fuzzing": 0.6}
    assert desk.given(3, "judge:a").text == "things" and desk.given(3, "person") is None


def test_everything_is_found_again_by_another_and_by_no_other_dictionary(desk) -> None:
    desk.dose(3, {"recommended": [0.1, 0.4]})
    desk.note(3, "first")
    desk.note(3, "second")
    desk.put_list("mine", [5, 3, 5])
    desk.keep("key", "answer")
    again, other = Desk(desk.folder, "digest"), Desk(desk.folder, "another")
    assert again.doses() == {3: {"recommended": [0.1, 0.4]}}
    assert again.notes(3) == ["first", "second"]
    assert again.lists() == {"mine": [5, 3]}
    assert again.cached("key") == "answer"
    assert not other.doses() and not other.notes(3) and not other.lists()
    again.delete_list("mine")
    assert not desk.lists()


def test_many_write_at_once_and_nothing_is_lost(desk) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: desk.note(1, f"note {number}"), range(40)))
    assert sorted(desk.notes(1)) == sorted(f"note {number}" for number in range(40))


def test_a_carried_desk_has_what_was_committed(desk, tmp_path) -> None:
    desk.note(1, "kept")
    (tmp_path / "b").mkdir()
    carry_desk(desk.folder, tmp_path / "b")
    assert Desk(tmp_path / "b", "digest").notes(1) == ["kept"]


def test_bad_input_is_refused_with_a_sentence(desk) -> None:
    with pytest.raises(BadRequest, match="1 to 200"):
        desk.label(1, "  ", score=0.5, method="me")
    with pytest.raises(BadRequest, match="between 0 and 1"):
        desk.label(1, "x", score=1.5, method="me")
    with pytest.raises(BadRequest, match="note"):
        desk.note(1, " ")
    with pytest.raises(BadRequest, match="name"):
        desk.put_list("", [1])


def test_a_damaged_file_is_named(desk) -> None:
    desk.path.write_bytes(b"not a database, but long enough to be looked at as one" * 40)
    with pytest.raises(Damaged, match="empty desk"):
        desk.labels()
