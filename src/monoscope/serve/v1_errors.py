"""Refusals of the interface under /v1 that name a field or carry one of OpenAI's codes."""

from monoscope.core.errors import BadRequest, NotFound


class BadField(BadRequest):
    """One field of a request makes no sense; `param` names it."""

    code: str | None = None

    def __init__(self, sentence: str, param: str) -> None:
        super().__init__(sentence)
        self.param = param


class ContextExceeded(BadField):
    """Prompt and reply do not fit into what the model reads."""

    code = "context_length_exceeded"


class ModelNotFound(NotFound):
    """The server offers no model of this name."""

    code, param = "model_not_found", "model"
