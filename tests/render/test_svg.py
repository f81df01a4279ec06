from xml.etree import ElementTree

from monoscope.render.svg import histogram, sparkline


def test_bars_grow_with_the_logarithm_and_none_is_lost():
    picture = ElementTree.fromstring(histogram([0, 1, 2, 3, 4], [1000, 31, 0, 1], width=40, height=100))
    heights = [float(bar.get("height")) for bar in picture.iter("rect")]
    assert len(heights) == 3  # an empty bin has no bar
    assert heights[0] == 100
    assert 45 < heights[1] < 55  # log(32) / log(1001) = 0.50
    assert heights[2] > 5  # log(2) / log(1001) = 0.10
    assert picture.get("data-edges") == "0 1 2 3 4"
    assert "1,032" in picture.get("aria-label")


def test_nothing_to_draw():
    assert histogram([], []) == ""
    assert "path" not in sparkline([0, 0])


def test_a_thumbnail_is_one_path():
    picture = ElementTree.fromstring(sparkline([5] * 40))
    assert len(picture) == 1 and picture[0].get("d").count("M") == 12


def test_empty_bins_at_both_ends_are_left_out():
    picture = ElementTree.fromstring(histogram([0, 1, 2, 3, 4, 5], [0, 7, 0, 7, 0]))
    assert picture.get("data-edges") == "1 2 3 4"
    assert len(list(picture.iter("rect"))) == 2
