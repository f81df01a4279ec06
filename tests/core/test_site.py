import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import BadRequest
from monoscope.core.site import Site


@given(st.integers(0, 10_000))
def test_the_text_form_gives_the_site_back(layer: int) -> None:
    assert Site.parse(str(Site(layer))) == Site(layer)


def test_a_site_reads_as_written() -> None:
    assert Site.parse(" resid_post.15 ") == Site(15)
    assert str(Site(15)) == "resid_post.15"
    assert Site(2) < Site(10)


@pytest.mark.parametrize(
    "text", ["", "15", "resid_post", "resid_post.", "resid_post.-1", "resid_pre.1", "resid_post.1.2"]
)
def test_other_text_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(BadRequest, match="resid_post.N"):
        Site.parse(text)
