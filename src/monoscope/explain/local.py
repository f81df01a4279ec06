"""A judge that runs on this machine: any model that can be loaded and has a chat template."""

from collections.abc import Sequence

from monoscope.explain.judge import Message
from monoscope.model.chat import render_chat
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.steer.engine import generate
from monoscope.steer.request import Request


class LocalJudge:
    """A loaded model that answers greedily."""

    price: float | None = None

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.name = model.source
        self.identity = f"{model.source}@{model.digest}"
        self.reads: int | None = model.context_limit
        self._last: tuple[Sequence[Message], tuple[int, ...]] | None = None

    @classmethod
    def load(cls, source: str) -> "LocalJudge":
        """The judge of a model's source string; raises like `load_model`, and BadRequest without a chat template."""
        model = load_model(source)
        render_chat(model, [{"role": "user", "content": "?"}], reply_follows=True)
        return cls(model)

    def count(self, messages: Sequence[Message]) -> int:
        """The tokens of the messages in the model's template."""
        return len(self._ids(messages))

    def ask(self, messages: Sequence[Message], max_tokens: int) -> str:
        """The greedy answer."""
        asked = Request(self._ids(messages), temperature=0.0, repetition_penalty=1.0, max_tokens=max_tokens)
        return generate(self._model, None, [asked])[0].text

    def _ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        # A question is counted before it is asked.
        if self._last is None or self._last[0] != messages:
            self._last = (messages, render_chat(self._model, messages, reply_follows=True).ids)
        return self._last[1]
