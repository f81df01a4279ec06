"""Token bytes to text pieces that never hold half a character."""

import codecs
from collections.abc import Collection, Sequence


class TextPieces:
    """Turns one text's tokens into pieces whose concatenation is the text. Mutable; one for each text."""

    def __init__(self, vocabulary: Sequence[bytes], silent: Collection[int]) -> None:
        self._vocabulary, self._silent = vocabulary, silent
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that became whole with this token; special tokens are silent."""
        if token in self._silent or token >= len(self._vocabulary):
            return ""
        return self._decoder.decode(self._vocabulary[token])

    def finish(self) -> str:
        """What was left waiting, with a replacement sign for a broken character."""
        return self._decoder.decode(b"", final=True)


def text_of(tokens: Sequence[int], vocabulary: Sequence[bytes], silent: Collection[int]) -> str:
    """The text of some tokens."""
    pieces = TextPieces(vocabulary, silent)
    return "".join([*(pieces.push(token) for token in tokens), pieces.finish()])
