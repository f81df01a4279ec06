from hypothesis import given
from hypothesis import strategies as st

from monoscope.steer.pieces import TextPieces, text_of

BYTES = [bytes([value]) for value in range(256)]


@given(st.text(max_size=40))
def test_pieces_are_whole_characters_and_add_up(text):
    pieces = TextPieces(BYTES, ())
    parts = [pieces.push(byte) for byte in text.encode()]
    assert "".join(parts) == text
    assert pieces.finish() == ""
    assert sum(map(bool, parts)) == len(text)


def test_a_broken_character_and_special_tokens():
    vocabulary = [*BYTES, b"<|im_end|>"]
    assert text_of([0xE2, 0x82], vocabulary, {256}) == "�"
    assert text_of([256, 65, 999], vocabulary, {256}) == "A"
