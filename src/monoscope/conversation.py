"""A conversation with a model under edits: what was said, what is in force, and how an answer is made."""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from monoscope.core.errors import BadEdit, BadNumbers, BadRequest
from monoscope.core.run import Run
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.steer.edits import Edit, parse_edit
from monoscope.steer.engine import stream
from monoscope.steer.presets import load_preset
from monoscope.steer.prompt import request_for
from monoscope.steer.request import Generation, Request
from monoscope.steer.resolve import ResolvedEdit, resolve


@dataclass(frozen=True)
class Manner:
    """How answers are made. Without a `system` text the model's template writes its own, or none.

    Raises
        BadRequest  a setting is out of range.
    """

    seed: int = 0
    temperature: float = 0.7
    max_tokens: int = 256
    system: str = ""

    def __post_init__(self) -> None:
        _ = Request((), seed=self.seed, temperature=self.temperature).sampling
        if self.max_tokens < 1:
            raise BadRequest(f"--max-tokens {self.max_tokens} leaves no room for an answer; give at least 1.")


@dataclass(frozen=True)
class Turn:
    """A question, the request that was made of it, and what came back."""

    question: str
    request: Request
    generation: Generation


@dataclass
class Conversation:
    """One model and one person. Mutable: what was said, the edits in force, and the manner change as they talk.

    `dictionaries` are by the names they have in the run; edits that name none mean the first.
    """

    run: Run
    dictionaries: dict[str, Dictionary]
    model: LanguageModel
    manner: Manner
    edits: tuple[ResolvedEdit, ...] = ()
    turns: list[Turn] = field(default_factory=list)

    @property
    def dictionary(self) -> str:
        """The name of the dictionary that is meant where an edit names none."""
        return next(iter(self.dictionaries))

    @property
    def last(self) -> Turn:
        """The last question and its answer.

        Raises
            BadRequest  nothing was asked yet.
        """
        if not self.turns:
            raise BadRequest("Nothing was asked yet; write a message first.")
        return self.turns[-1]


def begin(
    run: Run, manner: Manner, edits: Sequence[str] = (), *, preset: str | None = None, name: str | None = None
) -> Conversation:
    """A conversation with the model of a run. All that can be refused is refused before the model is loaded.

    Raises
        ArtifactNotFound, Ambiguous   the run has no such dictionary or preset, or several dictionaries.
        RequestDiffers                the preset is another dictionary's.
        BadEdit, FeatureNotFound      an edit makes no sense for these dictionaries.
        BadRequest                    the answer alone would be longer than what the model reads.
    """
    if name is None and preset is not None:
        name = load_preset(run.path, preset).dictionary
    name = run.choose_dictionary(name)
    dictionaries = {name: load_dictionary(run.dictionary(name))}
    lines = [*(preset_edits(run, name, preset) if preset is not None else ()), *edits]
    bound = tuple(bind_edit(run, dictionaries, line) for line in lines)
    model = load_model(run.provenance(name)["model"])
    if manner.max_tokens >= model.context_limit:
        raise BadRequest(
            f"{model.source} reads {model.context_limit:,} tokens in all, and --max-tokens {manner.max_tokens:,} "
            "leaves none for a question; give less."
        )
    return Conversation(run, dictionaries, model, manner, bound)


def preset_edits(run: Run, dictionary: str, preset: str) -> tuple[str, ...]:
    """The edits of a preset that was made for this dictionary; raises like `load_preset`."""
    return load_preset(run.path, preset, dictionary_digest=dictionary_digest(run.dictionary(dictionary))).edits


def bind_edit(run: Run, dictionaries: dict[str, Dictionary], line: str) -> ResolvedEdit:
    """An edit, ready to be used. A further dictionary that it names is loaded into `dictionaries`.

    Raises
        ArtifactNotFound          the run has no dictionary of that name.
        BadEdit, FeatureNotFound  the edit makes no sense, or the dictionary is another model's.
    """
    edit = parse_edit(line)
    for name in _named(edit) - dictionaries.keys():
        model, own = (run.provenance(run.choose_dictionary(each))["model"] for each in (name, next(iter(dictionaries))))
        if model != own:
            raise BadEdit(
                f"The edit '{edit}' names dictionary {name}, which is one of {model}, but {own} is answering."
            )
        dictionaries[name] = load_dictionary(run.dictionary(name))
    return resolve(edit, dictionaries)


def _named(edit: Edit) -> set[str]:
    gate = edit.condition.dictionary if edit.condition is not None else None
    return {name for name in (edit.dictionary, gate) if name is not None}


def next_request(conversation: Conversation, question: str, turns: Sequence[Turn]) -> tuple[Request, int]:
    """The request for an answer after `turns`, and how many of the oldest of these the model has no room for.

    Raises
        BadRequest  the question alone is too long, or the model's chat template refuses it.
    """
    manner, model = conversation.manner, conversation.model
    settings = {"seed": manner.seed, "temperature": manner.temperature, "max_tokens": manner.max_tokens}

    def without(dropped: int) -> Request:
        said = [message for turn in turns[dropped:] for message in _messages(turn)]
        system = [_message("system", manner.system)] if manner.system else []
        return request_for(model, [*system, *said, _message("user", question)], conversation.edits, **settings)

    def fits(dropped: int) -> bool:
        return len(without(dropped).prompt_ids) + manner.max_tokens <= model.context_limit

    counts = range(len(turns) + 1)
    dropped = 0 if fits(0) else bisect.bisect_left(counts, True, key=fits)
    if dropped not in counts:
        raise BadRequest(
            f"This message takes {len(without(len(turns)).prompt_ids):,} tokens and its answer up to "
            f"{manner.max_tokens:,}, but {model.source} reads {model.context_limit:,} in all; write a shorter one."
        )
    return without(dropped), dropped


def _messages(turn: Turn) -> list[dict[str, str]]:
    """What the model is told of a turn: nothing where it had said nothing, lest it learn to be silent."""
    answer = turn.generation.text
    return [_message("user", turn.question), _message("assistant", answer)] if answer else []


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def answer(
    model: LanguageModel, request: Request, write: Callable[[str], None], should_stop: Callable[[], bool]
) -> Generation:
    """Make an answer, and hand out its text as it grows. A KeyboardInterrupt ends it with what was said so far.

    Raises
        BadRequest, BadEdit  the engine refuses the request.
        BadNumbers           the edits drove the model to NaN or infinity.
    """
    said = []
    try:
        for event in stream(model, None, [request], should_stop=lambda _number: should_stop()):
            said.append(event.text)
            write(event.text)
            if event.done is not None and event.done.finish_reason == "numbers":
                raise BadNumbers("The model's logits became NaN or infinite under these edits; use smaller values.")
            if event.done is not None:
                return event.done
    except KeyboardInterrupt:
        pass
    return Generation((), "".join(said), "cancelled", ())
