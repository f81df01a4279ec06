"""What may be asked under /v1, as bodies with a cap on everything.

OpenAI's fields mean what they mean there. A field that this server does not follow is taken only at values that change
nothing, so that no wish is dropped in silence; a field that nobody knows is refused by name.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MOST_CHOICES = 8
MOST_PROMPTS = 64
MOST_MESSAGES = 1000
MOST_PARTS = 256
MOST_TOKENS = 4096
MOST_STOPS, LONGEST_STOP = 4, 100
MOST_TOP = 20
MOST_EDITS, LONGEST_EDIT = 64, 300
MOST_REPORTED = 16
# Beyond this not every JSON reader knows one whole number from the next.
_LARGEST = 2**53
_FEATURE = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99}/)?[0-9]{1,19}$"
_NO_TOOLS = "this server calls no tools and no functions; leave it out"


def _refusal(sentence: str) -> PydanticCustomError:
    """A refusal that reads as it is written."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refusal("this text holds half of a surrogate pair, which is no character; send whole ones") from None
    return text


def _or_say(sentence: str) -> WrapValidator:
    """For a union: one sentence in place of one complaint for each of its members."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise _refusal(sentence) from None

    return WrapValidator(check)


def _integral(value: Any) -> Any:
    """In JSON 281.0 is a whole number."""
    if isinstance(value, list):
        return [_integral(each) for each in value] if {float, list} & set(map(type, value)) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Only:
    """Marks a field that is taken at these values or null alone, because none of them changes anything."""

    def __init__(self, sentence: str, *values: Any) -> None:
        self._sentence, self._values = sentence, values

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic checks it."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """How the interface is described."""
        return {"enum": [None, *self._values]}

    def _check(self, value: Any) -> Any:
        if value is None or any(_same(value, each) for each in self._values):
            return value
        raise _refusal(self._sentence)


def _same(value: Any, other: Any) -> bool:
    """Equal as JSON: 0 is 0.0, but false is not 0."""
    return isinstance(value, bool) is isinstance(other, bool) and value == other


WHOLE = BeforeValidator(_integral)
Choices = Annotated[int, Field(ge=1, le=MOST_CHOICES), WHOLE]
Seed = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST), WHOLE]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS), WHOLE]
AnyTokens = Annotated[int, Field(ge=0, le=MOST_TOKENS), WHOLE]
Top = Annotated[int, Field(ge=0, le=MOST_TOP), WHOLE]
Text = Annotated[str, AfterValidator(_whole)]
ShortText = Annotated[str, Field(max_length=512), AfterValidator(_whole)]
StopText = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP), AfterValidator(_whole)]
Stops = Annotated[
    StopText | Annotated[list[StopText], Field(max_length=MOST_STOPS)] | None,
    _or_say(f"give a text or up to {MOST_STOPS}, each of 1 to {LONGEST_STOP} characters"),
]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(min_length=1)]
Prompt = Annotated[
    Text
    | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS)]
    | TokenIds
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MOST_PROMPTS)],
    WHOLE,
    _or_say(f"give a text, a list of token ids, or up to {MOST_PROMPTS} of one kind, none of them an empty list"),
]
Features = Annotated[
    list[Annotated[int, Field(ge=0, le=_LARGEST)] | Annotated[str, Field(pattern=_FEATURE)]],
    Field(max_length=MOST_REPORTED),
    WHOLE,
    _or_say(f"give up to {MOST_REPORTED} features, each a number such as 7449 or a text such as 'fine/7449'"),
]
Edits = Annotated[
    list[Annotated[str, Field(max_length=LONGEST_EDIT), AfterValidator(_whole)]], Field(max_length=MOST_EDITS)
]


class TextPart(BaseModel):
    """A piece of a message; the pieces are joined with line breaks."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: Text


Content = Annotated[
    Text | Annotated[list[TextPart], Field(min_length=1, max_length=MOST_PARTS)],
    _or_say(
        f"give a text, or up to {MOST_PARTS} parts of the form {{'type': 'text', 'text': ...}}; images, audio and "
        "files are not read, and nothing is fetched from a URL"
    ),
]
Role = Annotated[
    Literal["system", "developer", "user", "assistant"],
    _or_say("a message comes from system, developer, user or assistant; this server calls no tools and no functions"),
]


class Message(BaseModel):
    """What somebody said. `developer` counts as `system`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Role
    content: Content
    type: Annotated[Any, Only("a message is of type text", "text")] = None
    name: Annotated[Any, Only("the model does not hear names; say who speaks in the text")] = None
    refusal: Annotated[Any, Only("a refusal is not read; put it into content")] = None
    annotations: Annotated[Any, Only("annotations are not read", [])] = None
    audio: Annotated[Any, Only("audio is not read")] = None
    tool_calls: Annotated[Any, Only(_NO_TOOLS, [])] = None
    function_call: Annotated[Any, Only(_NO_TOOLS)] = None


class StreamOptions(BaseModel):
    """Matters with `stream` only."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool | None = Field(None, description="Counts of tokens in the last chunk.")
    include_obfuscation: Annotated[Any, Only("chunks are not padded; leave it out or false", False)] = None


class AskBody(BaseModel):
    """What both kinds of completion share."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_whole)] = Field(
        description="A name that `/v1/models` lists: the model, or with `:NAME` a preset of edits on it."
    )
    edits: Edits | None = Field(
        None, description="Lines of the edit grammar, such as `8011 add 0.4r`; those of a preset come first."
    )
    report: Features | None = Field(
        None, description="Features whose activation on every token that was read is wanted; `ID` or `DICTIONARY/ID`."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    stop: Stops = Field(None, description="The reply ends before the first of these texts.")
    seed: Seed | None = Field(None, description="Choice i is drawn with seed + i.")
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False, description="0 is greedy; default 1.")
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="Default 1.")
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=100, allow_inf_nan=False, description="Default 1, which is none."
    )
    presence_penalty: Annotated[Any, Only("there is no presence penalty here; use repetition_penalty", 0)] = None
    frequency_penalty: Annotated[Any, Only("there is no frequency penalty here; use repetition_penalty", 0)] = None
    logit_bias: Annotated[Any, Only("logits are not biased here; use edits", {})] = None
    user: ShortText | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end a reply."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def reported(self) -> tuple[str, ...]:
        """The features of the report as texts."""
        return tuple(map(str, self.report or ()))


class ChatBody(AskBody):
    """A conversation to go on with."""

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: Tokens | None = Field(None, description="Default: what fits, at most 512.")
    max_tokens: Tokens | None = Field(None, description="The older name of max_completion_tokens.")
    logprobs: bool | None = None
    top_logprobs: Top | None = None
    response_format: Annotated[Any, Only("replies are plain text; leave it out", {"type": "text"})] = None
    modalities: Annotated[Any, Only("replies are text", ["text"])] = None
    tools: Annotated[Any, Only(_NO_TOOLS, [])] = None
    tool_choice: Annotated[Any, Only(_NO_TOOLS, "none", "auto")] = None
    parallel_tool_calls: Annotated[Any, Only(_NO_TOOLS, True, False)] = None
    functions: Annotated[Any, Only(_NO_TOOLS, [])] = None
    function_call: Annotated[Any, Only(_NO_TOOLS, "none", "auto")] = None
    audio: Annotated[Any, Only("replies are text")] = None
    prediction: Annotated[Any, Only("predicted replies are not used; leave it out")] = None
    web_search_options: Annotated[Any, Only("nothing is searched on the web; leave it out")] = None
    reasoning_effort: Annotated[Any, Only("the model is not made to reason; leave it out", "none")] = None
    verbosity: Annotated[Any, Only("ask for short or long replies in a message", "medium")] = None
    store: Annotated[Any, Only("nothing is stored here; leave it out or false", False)] = None
    service_tier: Annotated[Any, Only("everybody is served alike; leave it out", "auto", "default")] = None
    metadata: Annotated[dict[ShortText, ShortText], Field(max_length=16)] | None = None
    safety_identifier: ShortText | None = None
    prompt_cache_key: ShortText | None = None


class CompletionBody(AskBody):
    """One or several texts to continue."""

    prompt: Prompt = Field(description="A text is read behind the model's first token; token ids are read as they are.")
    max_tokens: AnyTokens | None = Field(None, description="Default 16; 0 with `echo` only.")
    echo: bool | None = Field(None, description="The prompt first; with `logprobs` its own log-probabilities too.")
    logprobs: Top | None = None
    best_of: Annotated[Any, Only("replies are not ranked; leave it out or 1", 1)] = None
    suffix: Annotated[Any, Only("text is not inserted before a suffix; leave it out", "")] = None
