"""Log-probabilities in the two forms of OpenAI's interface. All are in nats, of the model under the edits."""

from collections.abc import Sequence
from typing import Any

from monoscope.model.transformer import LanguageModel
from monoscope.steer.pieces import TextPieces
from monoscope.steer.request import Logprob

# JSON has no minus infinity; OpenAI writes this for what is as good as impossible.
LEAST = -9999.0


def token_text(model: LanguageModel, token: int) -> str:
    """A token as text; one that is no whole character as `bytes:` and its bytes."""
    raw = model.vocabulary[token]
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def chat_logprobs(model: LanguageModel, tokens: Sequence[Logprob]) -> dict[str, Any]:
    """As chat completions tell them."""
    content = [
        {
            **_chat_token(model, each.token, each.logprob),
            "top_logprobs": [_chat_token(model, token, logprob) for token, logprob in each.top],
        }
        for each in tokens
    ]
    return {"content": content, "refusal": None}


def _chat_token(model: LanguageModel, token: int, logprob: float) -> dict[str, Any]:
    return {"token": token_text(model, token), "logprob": _told(logprob), "bytes": list(model.vocabulary[token])}


class CompletionLogprobs:
    """The same as completions tell them, with the place of each token in the text. Mutable: it knows the place."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        # In a prompt special tokens are text as others are; in a reply they are silent.
        self._of_prompt = TextPieces(model.vocabulary, ())
        self._of_reply = TextPieces(model.vocabulary, model.special_ids)
        self._letters = 0

    def prompt(self, ids: Sequence[int], scored: Sequence[Logprob]) -> dict[str, Any]:
        """A prompt's own tokens; where there is one more of them than log-probabilities, the first has none."""
        unscored = [None] * (len(ids) - len(scored))
        values = self._values(list(zip(ids, [*unscored, *scored], strict=True)), self._of_prompt)
        self._letters += len(self._of_prompt.finish())
        return values

    def reply(self, tokens: Sequence[Logprob]) -> dict[str, Any]:
        """The next tokens of a reply."""
        return self._values([(each.token, each) for each in tokens], self._of_reply)

    def _values(self, tokens: Sequence[tuple[int, Logprob | None]], pieces: TextPieces) -> dict[str, Any]:
        offsets = []
        for token, _ in tokens:
            offsets.append(self._letters)
            self._letters += len(pieces.push(token))
        return {
            "tokens": [token_text(self._model, token) for token, _ in tokens],
            "token_logprobs": [None if each is None else _told(each.logprob) for _, each in tokens],
            "top_logprobs": [None if each is None else self._top(each) for _, each in tokens],
            "text_offset": offsets,
        }

    def _top(self, each: Logprob) -> dict[str, float]:
        """The most probable tokens by their text, and the one that stands there, however probable."""
        found: dict[str, float] = {}
        for token, logprob in (*each.top, (each.token, each.logprob)):
            found.setdefault(token_text(self._model, token), _told(logprob))
        return found


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two stretches of completion log-probabilities as one."""
    return {name: [*first[name], *second[name]] for name in first}


def _told(logprob: float) -> float:
    return max(logprob, LEAST)
