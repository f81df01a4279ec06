import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from monoscope.model.vocabulary import byte_letters, token_bytes


def made(tokens: list[str], decoder) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=tokens[0]))
    core.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token=tokens[0])


def test_byte_letters_are_one_to_one_and_plain_for_ascii():
    letters = byte_letters()
    assert len(set(letters.values())) == 256
    assert letters[ord("a")] == "a"
    assert (letters[32], letters[10]) == ("Ġ", "Ċ")


@pytest.mark.parametrize(
    ("tokens", "decoder", "expected"),
    [
        (["<u>", "Ġfox", "ĊĊ", "Ã©", "Ã"], decoders.ByteLevel(), [b"<u>", b" fox", b"\n\n", b"\xc3\xa9", b"\xc3"]),
        (
            ["<u>", "▁fox", "es", "<0xE2>", "▁▁"],
            decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
            [b"<u>", b" fox", b"es", b"\xe2", b"  "],
        ),
        (["<u>", "▁é"], decoders.Metaspace(), [b"<u>", " é".encode()]),
        (["<u>", "fox", "##es"], decoders.WordPiece(), [b"<u>", b" fox", b"es"]),
    ],
)
def test_each_convention(tokens, decoder, expected):
    assert token_bytes(made(tokens, decoder), len(tokens)) == expected


def test_ids_without_token_give_nothing():
    assert token_bytes(made(["<u>", "Ġa"], decoders.ByteLevel()), 4) == [b"<u>", b" a", b"", b""]
