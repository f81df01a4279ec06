from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.pieces import token_pieces


@given(st.text(), st.lists(st.integers(0, 200), max_size=12))
def test_the_pieces_of_any_cut_join_to_the_text(text: str, cuts: list[int]) -> None:
    raw = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    bounds = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    tokens = [raw[first:last] for first, last in zip(bounds[:-1], bounds[1:], strict=True)]
    pieces = token_pieces(tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces).encode() == raw


@given(st.lists(st.binary(max_size=6), max_size=8))
def test_bytes_that_are_no_text_join_to_their_replacement(tokens: list[bytes]) -> None:
    assert "".join(token_pieces(tokens)) == b"".join(tokens).decode("utf-8", "replace")


def test_a_cut_character_goes_to_the_token_that_completes_it() -> None:
    assert token_pieces(["é".encode()[:1], "é".encode()[1:] + b"a"]) == ["", "éa"]
    assert token_pieces([b"ab", b"\xc3"]) == ["ab", "\ufffd"]
    assert token_pieces([]) == []
