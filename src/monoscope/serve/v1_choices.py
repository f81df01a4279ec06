"""One reply in the form of its endpoint, whole or piece by piece: plain dicts, as they are sent."""

from typing import Any, Protocol

from monoscope.serve.v1_asking import Asked
from monoscope.serve.v1_logprobs import CompletionLogprobs, chat_logprobs, joined
from monoscope.steer.request import Event, Generation

Choice = dict[str, Any]


class ChoiceWriter(Protocol):
    """Writes one choice. The pieces of a stream, put together, are the whole."""

    def opening(self) -> Choice | None:
        """What is sent before the first token."""
        ...

    def piece(self, event: Event) -> Choice | None:
        """What is sent for an event; None where there is nothing to tell yet."""
        ...

    def ending(self, done: Generation) -> Choice:
        """The last piece, with why the reply is over."""
        ...

    def whole(self, done: Generation) -> Choice:
        """The finished reply at once."""
        ...


def writer_of(asked: Asked, number: int) -> ChoiceWriter:
    """The writer of a reply."""
    return ChatChoice(asked, number) if asked.chat else CompletionChoice(asked, number)


class ChatChoice:
    """A reply to a conversation."""

    def __init__(self, asked: Asked, number: int) -> None:
        self._asked, self._number = asked, number

    def opening(self) -> Choice:
        """Who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, event: Event) -> Choice | None:
        """The text that became whole, and the token that did it."""
        if not event.text and event.logprob is None:
            return None
        logprobs = None if event.logprob is None else chat_logprobs(self._asked.model, [event.logprob])
        return self._chunk({"content": event.text}, logprobs)

    def ending(self, done: Generation) -> Choice:
        """Nothing more."""
        return {**self._chunk({}), "finish_reason": done.finish_reason}

    def whole(self, done: Generation) -> Choice:
        """The message."""
        logprobs = None if self._asked.top is None else chat_logprobs(self._asked.model, done.logprobs)
        message = {"role": "assistant", "content": done.text, "refusal": None}
        return {
            "index": self._number,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": done.finish_reason,
        }

    def _chunk(self, delta: dict[str, Any], logprobs: dict[str, Any] | None = None) -> Choice:
        return {"index": self._number, "delta": delta, "logprobs": logprobs, "finish_reason": None}


class CompletionChoice:
    """A continued text, behind its prompt where that is to be echoed. Mutable: log-probabilities know their place."""

    def __init__(self, asked: Asked, number: int) -> None:
        self._asked, self._number = asked, number
        self._logprobs = CompletionLogprobs(asked.model)

    def opening(self) -> Choice | None:
        """The echo."""
        return self._choice(self._asked.prompt(self._number).text) if self._asked.echo else None

    def piece(self, event: Event) -> Choice | None:
        """The text that became whole, and the token that did it."""
        if not event.text and event.logprob is None:
            return None
        logprobs = None if event.logprob is None else self._logprobs.reply([event.logprob])
        return self._choice(event.text, logprobs)

    def ending(self, done: Generation) -> Choice:
        """Nothing more."""
        return {**self._choice(""), "finish_reason": done.finish_reason}

    def whole(self, done: Generation) -> Choice:
        """The text."""
        echo = self._asked.prompt(self._number).text if self._asked.echo else ""
        return {**self._choice(echo + done.text, self._all_logprobs(done)), "finish_reason": done.finish_reason}

    def _all_logprobs(self, done: Generation) -> dict[str, Any] | None:
        if self._asked.top is None:
            return None
        if not self._asked.echo:
            return self._logprobs.reply(done.logprobs)
        prompt = self._asked.prompt(self._number)
        # The first of the prompt's tokens has no log-probability; where that is the server's own, all others have one.
        scored = done.prompt_logprobs[max(0, prompt.hidden - 1) :]
        first = self._logprobs.prompt(prompt.rendered.ids[prompt.hidden :], scored)
        return joined(first, self._logprobs.reply(done.logprobs))

    def _choice(self, text: str, logprobs: dict[str, Any] | None = None) -> Choice:
        return {"index": self._number, "text": text, "logprobs": logprobs, "finish_reason": None}
