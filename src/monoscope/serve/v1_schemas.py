"""What answers under /v1 look like, for the page that describes the interface. A test holds real answers to these."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FinishReason = Literal["stop", "length", "content_filter"]


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorValue(_Value):
    """What was wrong, in one sentence, and where."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(_Value):
    """A refusal."""

    error: ErrorValue


class ModelValue(_Value):
    """A model that can be asked."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(_Value):
    """All models."""

    object: Literal["list"]
    data: list[ModelValue]


class Usage(_Value):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopToken(_Value):
    """A token that might have stood there."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(TopToken):
    """A token of a reply, with the most probable ones at its place."""

    top_logprobs: list[TopToken]


class ChatLogprobs(_Value):
    """Log-probabilities of a chat's reply, in nats, of the model under the edits."""

    content: list[ChatToken]
    refusal: None


class CompletionLogprobValues(_Value):
    """The same for a completion; a prompt's first token has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class EditValue(BaseModel):
    """What an edit did: how many tokens it acted on, by how much, and the feature's activation before and after."""

    choice: int
    edit: str
    feature: int | None
    mode: str
    value: float | None
    positions_edited: int
    mean_norm_change: float | None
    realised_activation: float | None
    mean_activation_before: float | None


class ReportValue(_Value):
    """A feature's activation on each token that was read, after all edits. The last token of a reply may not be."""

    choice: int
    feature: str
    prompt: list[float | None]
    generated: list[float | None]


class TokenValues(_Value):
    """The tokens beside a report."""

    choice: int
    prompt: list[str]
    generated: list[str]


class AlertFeature(_Value):
    """What a feature added to a score."""

    feature: int
    share: float | None
    label: str


class AlertValue(_Value):
    """A monitor's first crossing in a text: after which token, and why. `draft` counts replies that were tried."""

    choice: int
    id: str
    when: str
    request: str
    draft: int
    monitor: str
    action: Literal["flag", "block", "redraft"]
    score: float | None
    threshold: float | None
    position: int
    where: Literal["prompt", "reply"]
    token: int
    stopped: bool
    features: list[AlertFeature]


class MonoscopeValue(_Value):
    """What monoscope adds to an answer."""

    edits: list[EditValue]
    report: list[ReportValue]
    tokens: list[TokenValues]
    alerts: list[AlertValue]


class ChatMessage(_Value):
    """What the model said."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoiceValue(_Value):
    """One reply."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class CompletionChoiceValue(_Value):
    """One continued text."""

    index: int
    text: str
    logprobs: CompletionLogprobValues | None
    finish_reason: FinishReason


class _Answer(_Value):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage
    monoscope: MonoscopeValue


class ChatAnswer(_Answer):
    """The answer to a conversation."""

    object: Literal["chat.completion"]
    choices: list[ChatChoiceValue]


class CompletionAnswer(_Answer):
    """The answer to a completion."""

    object: Literal["text_completion"]
    choices: list[CompletionChoiceValue]


Answers = dict[int | str, dict[str, Any]]

_RETRY = {"retry-after": {"description": "Seconds until another try makes sense.", "schema": {"type": "integer"}}}
_EVENTS = {"description": "Server-sent events; the data of each is a chunk as JSON, and of the last one `[DONE]`."}
_READING: dict[int, str] = {
    401: "The token is missing or wrong.",
    421: "The server does not answer to this host name.",
    500: "Something went wrong in the server.",
    503: "The model is not ready.",
}
_ASKING: dict[int, str] = {
    **_READING,
    400: "The request makes no sense, or asks for more than is given; `param` names the field.",
    403: "Another web site sent it.",
    404: "There is no such model.",
    408: "It took too long to arrive.",
    413: "It is too large.",
    415: "It is not JSON.",
    429: "Too many are waiting.",
}


def _answers(model: type[BaseModel], refusals: dict[int, str], *, streams: bool = False) -> Answers:
    content = {"content": {"text/event-stream": {"schema": _EVENTS}}} if streams else {}
    found: Answers = {200: {"model": model, "description": "The answer.", **content}}
    for status, sentence in sorted(refusals.items()):
        headers = {"headers": _RETRY} if status in (429, 503) else {}
        found[status] = {"model": ErrorAnswer, "description": sentence, **headers}
    return found


LIST_ANSWERS = _answers(ModelList, _READING)
MODEL_ANSWERS = _answers(ModelValue, {**_READING, 404: "There is no such model."})
CHAT_ANSWERS = _answers(ChatAnswer, _ASKING, streams=True)
COMPLETION_ANSWERS = _answers(CompletionAnswer, _ASKING, streams=True)
