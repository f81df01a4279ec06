"""What the engine is asked for, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass

from monoscope.core.errors import BadEdit, BadRequest
from monoscope.dictionary.base import Dictionary
from monoscope.model.transformer import LanguageModel
from monoscope.steer.edits import Edit, scope_range
from monoscope.steer.proof import EditProof
from monoscope.steer.resolve import Move, Reading, resolve_all, resolve_reading
from monoscope.steer.sampling import Sampling

LARGEST_EDITS = 64
MOST_REPORTED, MOST_STOPS, MOST_TOP = 16, 16, 50
_LONGEST_STOP = 200

Dictionaries = Dictionary | Mapping[str, Dictionary] | None


@dataclass(frozen=True)
class Request:
    """One text to generate.

    `edits` are applied in order; those still unbound are bound to the dictionaries given to the engine. `template` says
    for each prompt token whether the chat template wrote it; none says that none is. `temperature` 0 is greedy.
    `stop_ids` None means the model's own; a stop token is not part of the text, nor is a text of `stop`.
    `top_logprobs` asks for the log-probability of each token and of that many others, `score_prompt` for those of the
    prompt too, which then may be all that is wanted (`max_tokens` 0). `report` are features, `[DICTIONARY/]ID`, to be
    read on every token after all edits.
    """

    prompt_ids: tuple[int, ...]
    edits: tuple[Move | Edit | str, ...] = ()
    seed: int = 0
    temperature: float = 0.7
    top_p: float = 0.9
    repetition_penalty: float = 1.1
    max_tokens: int = 64
    stop_ids: frozenset[int] | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    score_prompt: bool = False
    report: tuple[str, ...] = ()
    template: tuple[bool, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """The settings of the draw, checked."""
        return Sampling(self.temperature, self.top_p, self.repetition_penalty, self.seed)


@dataclass(frozen=True)
class BoundRequest:
    """A request that can run: its settings are checked, its edits and the features of its report are bound."""

    prompt_ids: tuple[int, ...]
    template: tuple[bool, ...]
    moves: tuple[Move, ...]
    sampling: Sampling
    max_tokens: int
    stop_ids: frozenset[int]
    stop: tuple[str, ...]
    top_logprobs: int | None
    score_prompt: bool
    report: tuple[tuple[str, Reading], ...]


@dataclass(frozen=True)
class Logprob:
    """How probable a token was to the model under the edits, before temperature, penalty and top-p; in nats.

    `top` are the most probable tokens, the best first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Reported:
    """A feature's activation on each token read, after all edits at its site.

    The last drawn token is read only where a watcher holds tokens back; then edits act on it and proofs count it too.
    """

    feature: str
    prompt: tuple[float, ...]
    generated: tuple[float, ...]


@dataclass(frozen=True)
class Generation:
    """A finished text. `finish_reason` is stop, length, cancelled, numbers (the logits became NaN or infinite), or
    content_filter (a watcher stopped it).

    `logprobs` are one for each of `ids`, `prompt_logprobs` one for each token of the prompt but the first, where asked.
    A text that was stopped ends before the token that must not leave, and `text` may lack its last letters: half a
    character, or what may begin a stop text. Where that token is one of the prompt, nothing that was read is told.
    `alerts` are what the watchers saw.
    """

    ids: tuple[int, ...]
    text: str
    finish_reason: str
    proof: tuple[EditProof, ...]
    logprobs: tuple[Logprob, ...] = ()
    prompt_logprobs: tuple[Logprob, ...] = ()
    report: tuple[Reported, ...] = ()
    alerts: tuple[object, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Event:
    """News of one request: a token and the text that became whole with it, or at the end the whole generation."""

    request: int
    token: int | None
    text: str
    done: Generation | None = None
    logprob: Logprob | None = None


def bind_request(model: LanguageModel, dictionary: Dictionaries, request: Request) -> BoundRequest:
    """The request with its settings checked and its edits bound; nothing is computed yet.

    Raises
        BadRequest       the prompt is empty, holds unknown tokens, or is longer than the model's context; a stop text,
                         the number of log-probabilities or of reported features is out of range.
        BadEdit          an edit cannot be read, its scope reaches past the prompt, or there are too many.
        FeatureNotFound  an edit names a feature that its dictionary does not have.
    """
    _check_prompt(model, request)
    _check_wishes(request)
    if len(request.edits) > LARGEST_EDITS:
        raise BadEdit(f"A request has {len(request.edits)} edits; at most {LARGEST_EDITS} are allowed.")
    known = {} if dictionary is None else dictionary
    moves = resolve_all(request.edits, known)
    for move in moves:
        _check_move(model, move, len(request.prompt_ids))
    report = tuple((feature, resolve_reading(feature, known)) for feature in request.report)
    for _, reading in report:
        model.check_site(reading.dictionary.site)
    return BoundRequest(
        prompt_ids=tuple(request.prompt_ids),
        template=request.template or (False,) * len(request.prompt_ids),
        moves=moves,
        sampling=request.sampling,
        max_tokens=request.max_tokens,
        stop_ids=stop_ids_of(model) if request.stop_ids is None else frozenset(request.stop_ids),
        stop=request.stop,
        top_logprobs=request.top_logprobs,
        score_prompt=request.score_prompt,
        report=report,
    )


def stop_ids_of(model: LanguageModel) -> frozenset[int]:
    """The tokens with which this model ends a reply: its own, and <|im_end|> where the vocabulary has it."""
    ended = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    if isinstance(ended, int) and ended != model.tokenizer.unk_token_id:
        return model.stop_ids | {ended}
    return model.stop_ids


def _check_prompt(model: LanguageModel, request: Request) -> None:
    tokens = len(request.prompt_ids)
    if not tokens:
        raise BadRequest("The prompt is empty; give at least one token.")
    if request.max_tokens < 1 and not (request.score_prompt and request.max_tokens == 0):
        raise BadRequest(f"max_tokens is {request.max_tokens}; ask for at least one token.")
    if tokens + request.max_tokens > model.context_limit:
        raise BadRequest(
            f"The prompt has {tokens:,} tokens and {request.max_tokens:,} more are asked for, but {model.source} reads "
            f"{model.context_limit:,} in all; shorten the prompt or lower max_tokens."
        )
    if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= model.vocab_size:
        raise BadRequest(f"The prompt holds a token id outside 0 to {model.vocab_size - 1}.")
    if request.template and len(request.template) != tokens:
        raise BadRequest(f"The prompt has {tokens:,} tokens, but `template` speaks of {len(request.template):,}.")


def _check_wishes(request: Request) -> None:
    if len(request.stop) > MOST_STOPS or not all(0 < len(text) <= _LONGEST_STOP for text in request.stop):
        raise BadRequest(f"There may be {MOST_STOPS} stop texts of 1 to {_LONGEST_STOP} characters each.")
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= MOST_TOP:
        raise BadRequest(f"top_logprobs is {request.top_logprobs}; ask for 0 to {MOST_TOP}.")
    if len(request.report) > MOST_REPORTED:
        raise BadRequest(f"A request reports {len(request.report)} features; at most {MOST_REPORTED} are allowed.")


def _check_move(model: LanguageModel, move: Move, prompt_tokens: int) -> None:
    model.check_site(move.site)
    scope_range(move.scope, prompt_tokens)
    width = len(move.direction)
    if width != model.d_model:
        raise BadEdit(
            f"The edit '{move}' is {width} numbers wide, but the residual stream of {model.source} is "
            f"{model.d_model} wide; use a dictionary of this model."
        )
