import pytest

from monoscope.core.errors import Damaged
from monoscope.porch.checking import Rounding, largest_difference, rounded

MEANT = {"values": [1.0, 2.25], "name": "fox", "counts": [1, 2], "none": None}


def test_the_largest_difference_is_found_wherever_it_is():
    assert largest_difference(MEANT, {**MEANT, "values": [1.0, 2.0]}, "a") == 0.25
    assert largest_difference([{"x": 1.5}, [2.0, "a"]], [{"x": 1.0}, [2.0, "a"]], "a") == 0.5


@pytest.mark.parametrize(
    "found",
    [
        {**MEANT, "name": "box"},
        {**MEANT, "values": [1.0]},
        {**MEANT, "values": [1.0, float("nan")]},
        {**MEANT, "counts": [1, 3]},
        {**MEANT, "none": 0},
        {key: MEANT[key] for key in ("values", "name", "counts")},
    ],
)
def test_anything_else_that_differs_is_refused(found):
    with pytest.raises(Damaged, match="batch-0.json does not read back"):
        largest_difference(MEANT, found, "batch-0.json")


def test_only_named_numbers_are_rounded():
    found = rounded({"values": [0.12345, 2.0], "share": 0.12345, "rows": [{"values": 0.98765}]}, {"values": 3})
    assert found == {"values": [0.123, 2.0], "share": 0.12345, "rows": [{"values": 0.988}]}


def test_a_rounding_remembers_its_largest_error():
    keep = Rounding()
    assert [keep(0.1234), keep(0.5, 0), keep(2)] == [0.123, 0.0, 2.0]
    assert keep.error == 0.5
