"""Token bytes as strings whose concatenation is the text."""

import codecs
from collections.abc import Sequence


def token_pieces(tokens: Sequence[bytes]) -> list[str]:
    """One string for each token. A character cut over several tokens goes to the token that completes it.

    Edges  bytes that never become a character show as U+FFFD, at the token where that became certain.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces = [decoder.decode(token) for token in tokens]
    if pieces:
        pieces[-1] += decoder.decode(b"", final=True)
    return pieces
