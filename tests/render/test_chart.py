import re
import sys
from pathlib import Path

import pytest

from monoscope.core.errors import BadRequest, Unavailable
from monoscope.render.chart import Chart, Series, chart_png, chart_svg, write_chart

LINE = Series("one & two", (1.0, 10.0, 100.0), (0.3, 0.2, 0.1), low=(0.25, 0.15, 0.05), high=(0.4, 0.3, 0.2))
DOTS = Series("measured", (1.0, 10.0), (0.3, 0.2), mark="points")
PANEL = Chart("A panel", "tokens", "FVU", (LINE, DOTS), x_log=True, legend="what")


def test_every_word_of_a_chart_stands_in_it_as_text() -> None:
    svg = chart_svg(PANEL, Chart("Another", "x", "y", (DOTS,)), title="Both")
    assert svg.startswith("<svg")
    for word in ("A panel", "Another", "Both", "tokens", "FVU", "one &amp; two", "measured", "what"):
        assert word in svg


def test_a_logarithmic_axis_spaces_factors_evenly() -> None:
    drawn = chart_svg(Chart("", "", "", (Series("s", (1, 10, 100), (1, 1, 1), mark="points"),), x_log=True))
    at = [float(x) for x in re.findall(r'aria-roledescription="point"[^>]*transform="translate\(([\d.]+),', drawn)]
    assert len(at) == 3
    assert at[1] - at[0] == pytest.approx(at[2] - at[1], abs=0.01)


def test_points_that_cannot_be_drawn_are_left_out() -> None:
    odd = Series("s", (0.0, 1.0, 10.0, 100.0), (1.0, float("nan"), 2.0, 3.0), mark="points")
    assert chart_svg(Chart("", "", "", (odd,), x_log=True)).count('aria-roledescription="point"') == 2


def test_a_picture_is_written_by_its_ending(tmp_path: Path) -> None:
    write_chart(tmp_path / "a.svg", PANEL)
    write_chart(tmp_path / "a.png", PANEL)
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert (tmp_path / "a.png").read_bytes() == chart_png(PANEL)
    assert chart_png(PANEL)[:4] == b"\x89PNG"
    with pytest.raises(BadRequest, match=r"\.svg or \.png"):
        write_chart(tmp_path / "a.pdf", PANEL)


def test_lengths_must_fit() -> None:
    with pytest.raises(BadRequest, match="different lengths"):
        Series("s", (1.0, 2.0), (1.0,))
    with pytest.raises(BadRequest, match="different lengths"):
        Series("s", (1.0,), (1.0,), low=(0.5,))
    with pytest.raises(BadRequest, match="choose one of"):
        Series("s", (1.0,), (1.0,), mark="bars")


def test_without_the_libraries_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(Unavailable, match=r"monoscope\[plots\]"):
        chart_svg(PANEL)
