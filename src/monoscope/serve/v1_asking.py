"""From a body to what the engine runs: model name, preset, chat template, room for the reply, edits, report."""

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monoscope.core.artifact import digest_of
from monoscope.core.errors import ArtifactNotFound, BadEdit, FeatureNotFound
from monoscope.dictionary.base import Dictionary
from monoscope.model.chat import Rendered, render_chat, render_plain
from monoscope.model.transformer import LanguageModel
from monoscope.serve.library import Library
from monoscope.serve.v1_bodies import AskBody, ChatBody, CompletionBody, Message, Prompt
from monoscope.serve.v1_errors import BadField, ContextExceeded
from monoscope.serve.v1_models import Offered, find_model
from monoscope.steer.batcher import Ticket
from monoscope.steer.request import Request

CHAT_TOKENS, COMPLETION_TOKENS = 512, 16
MOST_REPLIES = 64
# Longer texts are not even tokenised. A token stands for some four letters, seldom for more than ten.
_LETTERS_PER_TOKEN = 16


@dataclass(frozen=True)
class Shown:
    """One prompt. `hidden` of its first tokens are the server's own; `text` is the rest as it was sent."""

    rendered: Rendered
    hidden: int
    text: str


@dataclass(frozen=True)
class Asked:
    """A request of one client: some prompts with `n` replies each, reply `number` being to prompt `number // n`.

    `stream`, `tell_usage` and `echo` say how the answer is wanted; only a completion has an echo, and only a chat
    `messages`.
    """

    name: str
    fingerprint: str
    model: LanguageModel
    dictionaries: dict[str, Dictionary]
    prompts: tuple[Shown, ...]
    requests: tuple[Request, ...]
    n: int
    stream: bool
    tell_usage: bool
    created: int
    chat: bool
    echo: bool = False
    messages: tuple[dict[str, str], ...] = ()

    @property
    def top(self) -> int | None:
        """How many of the most probable tokens are wanted beside each; None without log-probabilities."""
        return self.requests[0].top_logprobs

    def prompt(self, number: int) -> Shown:
        """The prompt of a reply."""
        return self.prompts[number // self.n]


def ask_chat(books: Library, body: ChatBody) -> Asked:
    """What a conversation asks for.

    Raises
        ModelNotFound, BadRequest (BadField, ContextExceeded), Unavailable  each with its sentence.
    """
    offered, model = find_model(books, body.model), books.model()
    if body.top_logprobs is not None and not body.logprobs:
        raise BadField("top_logprobs needs logprobs: true; add it or leave top_logprobs out.", "top_logprobs")
    wanted, field = _wanted(body)
    _check_letters(model, sum(map(_letters, body.messages)), "messages")
    messages = [{"role": _role(message), "content": _content(message)} for message in body.messages]
    prompt = Shown(render_chat(model, messages, reply_follows=True), 0, "")
    room = _room(model, len(prompt.rendered.ids), wanted, CHAT_TOKENS, "messages", field)
    top = (body.top_logprobs or 0) if body.logprobs else None
    return _asked(books, body, offered, [prompt], max_tokens=[room], top=top, messages=messages)


def ask_completion(books: Library, body: CompletionBody) -> Asked:
    """What a completion asks for; raises like `ask_chat`."""
    offered, model = find_model(books, body.model), books.model()
    echo = bool(body.echo)
    if body.max_tokens == 0 and not echo:
        raise BadField("max_tokens is 0 and echo is off, so nothing is asked for; ask for a token.", "max_tokens")
    if echo and body.stream and body.logprobs is not None:
        raise BadField("A prompt's log-probabilities are not streamed; leave out stream, echo or logprobs.", "stream")
    texts = _texts(body.prompt)
    if len(texts) * (body.n or 1) > MOST_REPLIES:
        raise BadField(f"{len(texts)} prompts with n = {body.n} are too many replies; {MOST_REPLIES} is the most.", "n")
    _check_letters(model, max(len(text) if isinstance(text, str) else 0 for text in texts), "prompt")
    prompts = [_shown(model, text) for text in texts]
    lengths = [len(prompt.rendered.ids) for prompt in prompts]
    rooms = [_room(model, each, body.max_tokens, COMPLETION_TOKENS, "prompt", "max_tokens") for each in lengths]
    return _asked(books, body, offered, prompts, max_tokens=rooms, top=body.logprobs, echo=echo)


def submit(books: Library, asked: Asked) -> list[Ticket]:
    """Queue up what was asked.

    Raises
        BadField           an edit, or a feature of the report, does not fit the dictionary.
        Busy, Unavailable  as the batcher says.
    """
    with _naming(asked.requests[0].edits):
        return books.batcher().submit(asked.dictionaries, asked.requests)


def _asked(  # noqa: PLR0913
    books: Library,
    body: AskBody,
    offered: Offered,
    prompts: Sequence[Shown],
    *,
    max_tokens: Sequence[int],
    top: int | None,
    echo: bool = False,
    messages: Sequence[dict[str, str]] = (),
) -> Asked:
    model, preset = books.model(), offered.preset
    edits = (*(preset.edits if preset is not None else ()), *(body.edits or ()))
    with _naming(edits):
        dictionaries = books.dictionaries_for([*edits, *body.reported], None if preset is None else preset.dictionary)
    n, seed = body.n or 1, body.seed if body.seed is not None else secrets.randbelow(2**53)
    scored = echo and top is not None
    requests = [
        Request(
            prompt.rendered.ids,
            edits,
            seed=seed + choice,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
            max_tokens=most,
            # Who scores a prompt with one more token reads all entries but the last: that one must be there.
            stop_ids=frozenset() if scored and most == 1 else None,
            stop=body.stops,
            top_logprobs=top,
            score_prompt=scored or most == 0,
            report=body.reported,
            template=prompt.rendered.template,
        )
        for prompt, most in zip(prompts, max_tokens, strict=True)
        for choice in range(n)
    ]
    options = body.stream_options
    return Asked(
        name=offered.name,
        fingerprint=_fingerprint(books, model, next(iter(dictionaries))),
        model=model,
        dictionaries=dictionaries,
        prompts=tuple(prompts),
        requests=tuple(requests),
        n=n,
        stream=bool(body.stream),
        tell_usage=bool(options is not None and options.include_usage),
        created=int(time.time()),
        chat=isinstance(body, ChatBody),
        echo=echo,
        messages=tuple(messages),
    )


@contextlib.contextmanager
def _naming(edits: Sequence[object]) -> Iterator[None]:
    """Name the field when a feature or a dictionary is not there; 404 is kept for models."""
    try:
        yield
    except (BadEdit, FeatureNotFound, ArtifactNotFound) as error:
        raise BadField(str(error), "edits" if edits else "report") from error


def _fingerprint(books: Library, model: LanguageModel, dictionary: str) -> str:
    return "fp_" + digest_of({"model": model.digest, "dictionary": books.digest(dictionary)})[:12]


def _role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def _content(message: Message) -> str:
    return message.content if isinstance(message.content, str) else "\n".join(part.text for part in message.content)


def _letters(message: Message) -> int:
    return len(_content(message))


def _texts(prompt: Prompt) -> Sequence[str | list[int]]:
    """The prompts one by one."""
    if isinstance(prompt, str):
        return [prompt]
    return [prompt] if isinstance(prompt[0], int) else prompt  # type: ignore[return-value]  all are of one kind


def _shown(model: LanguageModel, text: str | list[int]) -> Shown:
    if isinstance(text, str):
        return Shown(render_plain(model, text), 1, text)
    _room(model, len(text), 0, 0, "prompt", "max_tokens")
    _check_ids(model, text)
    return Shown(Rendered(tuple(text), (False,) * len(text)), 0, model.decode(text))


def _check_ids(model: LanguageModel, ids: Sequence[int]) -> None:
    if max(ids) >= model.vocab_size:
        raise BadField(f"The prompt holds a token id outside 0 to {model.vocab_size - 1}.", "prompt")


def _wanted(body: ChatBody) -> tuple[int | None, str]:
    """The length that a chat asks for, and the field that says so."""
    older, newer = body.max_tokens, body.max_completion_tokens
    if older is not None and newer is not None and older != newer:
        raise BadField("max_tokens and max_completion_tokens differ; give one of them.", "max_tokens")
    return (older, "max_tokens") if newer is None else (newer, "max_completion_tokens")


def _check_letters(model: LanguageModel, letters: int, param: str) -> None:
    most = _LETTERS_PER_TOKEN * model.context_limit
    if letters > most:
        raise ContextExceeded(
            f"This model's maximum context length is {model.context_limit} tokens; the {letters:,} characters of the "
            f"{param} are too many (at most {most:,} are read), so shorten them.",
            param,
        )


def _room(  # noqa: PLR0913
    model: LanguageModel, tokens: int, wanted: int | None, usual: int, param: str, field: str
) -> int:
    """How many tokens the reply to a prompt of so many may have."""
    limit = model.context_limit
    least = 1 if wanted is None else wanted
    if tokens + least > limit:
        raise ContextExceeded(
            f"This model's maximum context length is {limit} tokens, but there are {tokens} in the {param} and "
            f"{least} more are asked for; shorten the {param} or lower {field}.",
            param,
        )
    return min(usual, limit - tokens) if wanted is None else wanted
