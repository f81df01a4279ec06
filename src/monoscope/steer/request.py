"""What the engine is asked for, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from monoscope.core.errors import BadEdit, BadRequest
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.model.transformer import LanguageModel
from monoscope.steer.edits import Edit, scope_range
from monoscope.steer.proof import EditProof
from monoscope.steer.resolve import Move, resolve_all
from monoscope.steer.sampling import Sampling

LARGEST_EDITS = 64

Dictionaries = Dictionary | Mapping[str, Dictionary] | None


@dataclass(frozen=True)
class Request:
    """One text to generate.

    `edits` are applied in order; those still unbound are bound to the dictionaries given to the engine. `temperature`
    0 is greedy. `stop_ids` None means the model's own; a stop token is not part of the text.
    """

    prompt_ids: tuple[int, ...]
    edits: tuple[Move | Edit | str, ...] = ()
    seed: int = 0
    temperature: float = 0.7
    top_p: float = 0.9
    repetition_penalty: float = 1.1
    max_tokens: int = 64
    stop_ids: frozenset[int] | None = None

    @property
    def sampling(self) -> Sampling:
        """The settings of the draw, checked."""
        return Sampling(self.temperature, self.top_p, self.repetition_penalty, self.seed)


@dataclass(frozen=True)
class BoundRequest:
    """A request that can run: its settings are checked and its edits are bound."""

    prompt_ids: tuple[int, ...]
    moves: tuple[Move, ...]
    sampling: Sampling
    max_tokens: int
    stop_ids: frozenset[int]


@dataclass(frozen=True)
class Watch:
    """Somebody who reads the residual at a site while text is generated.

    `observe(request, first position, x)` is called once a step for each running request, x [length, d_model] in
    float32 as it was before any edit at that site.
    """

    site: Site
    observe: Callable[[int, int, Float[Tensor, "length d_model"]], None]


@dataclass(frozen=True)
class Generation:
    """A finished text. `finish_reason` is stop, length, cancelled, or numbers (the logits became NaN or infinite)."""

    ids: tuple[int, ...]
    text: str
    finish_reason: str
    proof: tuple[EditProof, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Event:
    """News of one request: a token and the text that became whole with it, or at the end the whole generation."""

    request: int
    token: int | None
    text: str
    done: Generation | None = None


def bind_request(model: LanguageModel, dictionary: Dictionaries, request: Request) -> BoundRequest:
    """The request with its settings checked and its edits bound; nothing is computed yet.

    Raises
        BadRequest       the prompt is empty, holds unknown tokens, or is longer than the model's context.
        BadEdit          an edit cannot be read, its scope reaches past the prompt, or there are too many.
        FeatureNotFound  an edit names a feature that its dictionary does not have.
    """
    _check_prompt(model, request)
    if len(request.edits) > LARGEST_EDITS:
        raise BadEdit(f"A request has {len(request.edits)} edits; at most {LARGEST_EDITS} are allowed.")
    moves = resolve_all(request.edits, {} if dictionary is None else dictionary)
    for move in moves:
        _check_move(model, move, len(request.prompt_ids))
    stops = stop_ids_of(model) if request.stop_ids is None else frozenset(request.stop_ids)
    return BoundRequest(tuple(request.prompt_ids), moves, request.sampling, request.max_tokens, stops)


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
    if request.max_tokens < 1:
        raise BadRequest(f"max_tokens is {request.max_tokens}; ask for at least one token.")
    if tokens + request.max_tokens > model.context_limit:
        raise BadRequest(
            f"The prompt has {tokens:,} tokens and {request.max_tokens:,} more are asked for, but {model.source} reads "
            f"{model.context_limit:,} in all; shorten the prompt or lower max_tokens."
        )
    if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= model.vocab_size:
        raise BadRequest(f"The prompt holds a token id outside 0 to {model.vocab_size - 1}.")


def _check_move(model: LanguageModel, move: Move, prompt_tokens: int) -> None:
    model.check_site(move.site)
    scope_range(move.scope, prompt_tokens)
    width = len(move.direction)
    if width != model.d_model:
        raise BadEdit(
            f"The edit '{move}' is {width} numbers wide, but the residual stream of {model.source} is "
            f"{model.d_model} wide; use a dictionary of this model."
        )
