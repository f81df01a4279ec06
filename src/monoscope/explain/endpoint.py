"""A judge behind an OpenAI-compatible address. The only room that knows the `openai` client."""

import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from monoscope.core.errors import BadSource, Unavailable
from monoscope.explain.judge import Message

KEY = "MONOSCOPE_JUDGE_KEY"
_SECONDS, _RETRIES = 120.0, 3
_LETTERS_PER_TOKEN, _TOKENS_PER_MESSAGE = 4, 4
_MOST_SAID = 200


def is_endpoint(source: str) -> bool:
    """Whether a judge's source string names an address."""
    return "://" in source


class EndpointJudge:
    """`URL#MODEL`, as http://127.0.0.1:9000/v1#my-model. The key comes from MONOSCOPE_JUDGE_KEY and is told nobody.

    Raises
        BadSource    the string cannot be read.
        Unavailable  the `openai` client is missing; when asked: the address cannot be reached, or refuses.
    """

    price: float | None = None
    reads: int | None = None

    def __init__(self, source: str, *, retries: int = _RETRIES, seconds: float = _SECONDS) -> None:
        url, _, model = source.partition("#")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not model.strip():
            raise BadSource("That judge is not understood; write URL#MODEL, as http://127.0.0.1:9000/v1#my-model.")
        if parts.username or parts.password or parts.query:
            raise BadSource(f"A judge's URL holds no password and no query; the key belongs in {KEY}.")
        if importlib.util.find_spec("openai") is None:
            raise Unavailable(
                "A judge at a URL needs the openai client; install it with `pip install 'monoscope[explain]'`."
            )
        self._url, self.name = url.rstrip("/"), model.strip()
        self.identity = f"{self._url}#{self.name}"
        self._retries, self._seconds = retries, seconds
        # Newer models of some vendors refuse the first spelling, or any temperature.
        self._limit, self._settings = "max_tokens", {"temperature": 0}

    def count(self, messages: Sequence[Message]) -> int:
        """A quarter of the letters."""
        return sum(len(message["content"]) // _LETTERS_PER_TOKEN + _TOKENS_PER_MESSAGE for message in messages)

    def ask(self, messages: Sequence[Message], max_tokens: int) -> str:
        """The answer; empty where a content filter let none through."""
        import openai

        try:
            return self._asked(messages, max_tokens)
        except openai.BadRequestError as error:
            if error.code == "content_filter":
                return ""
            if self._adapt(error.param):
                return self.ask(messages, max_tokens)
            raise self._unavailable(f"refuses the question: {_said(error)}") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            # What the server says is left out: some repeat the key.
            raise self._unavailable(f"refuses the key; set {KEY} to a valid one.") from error
        except openai.APITimeoutError as error:
            raise self._unavailable(f"did not answer within {self._seconds:.0f} s.") from error
        except openai.APIConnectionError as error:
            raise self._unavailable("cannot be reached; is it running, and is the URL right?") from error
        except openai.APIStatusError as error:
            raise self._unavailable(f"answers {error.status_code}: {_said(error)}") from error
        except (openai.OpenAIError, ValueError, AttributeError, LookupError, TypeError) as error:
            raise self._unavailable("answers in a way that is not understood; is it OpenAI-compatible?") from error

    def _asked(self, messages: Sequence[Message], max_tokens: int) -> str:
        settings = {**self._settings, self._limit: max_tokens}
        said = [dict(message) for message in messages]
        reply = self._client.chat.completions.create(model=self.name, messages=said, **settings)
        return reply.choices[0].message.content or ""

    def _adapt(self, refused: str | None) -> bool:
        """Give up a setting that the server does not take; whether there was one to give up."""
        if refused == "max_tokens" and self._limit == refused:
            self._limit = "max_completion_tokens"
            return True
        return refused == "temperature" and self._settings.pop(refused, None) is not None

    @cached_property
    def _client(self) -> Any:
        from openai import OpenAI

        key = os.environ.get(KEY) or "none"
        return OpenAI(base_url=self._url, api_key=key, max_retries=self._retries, timeout=self._seconds)

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"The judge at {self._url} {what}")


def _said(error: Any) -> str:
    """What the server said, in one short line and without the key."""
    said = " ".join(str(getattr(error, "message", error)).split())
    key = os.environ.get(KEY)
    if key:
        said = said.replace(key, "…")
    return said if len(said) <= _MOST_SAID else said[:_MOST_SAID] + " …"
