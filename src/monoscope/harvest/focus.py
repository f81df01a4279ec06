"""The model writes text itself: about a concept that other text mentions too rarely, and about everyday things."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources

from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.runtime import numpy_stream
from monoscope.harvest.writing import write_replies
from monoscope.model.chat import render_chat
from monoscope.model.transformer import LanguageModel
from monoscope.text.corpus import Document

BATCH_TEXTS = 96


@cache
def focus_prompts() -> tuple[str, ...]:
    """Instructions with `{concept}` in them, as varied as the texts should be."""
    return _lines("prompts_focus.txt")


@cache
def everyday_prompts() -> tuple[str, ...]:
    """Questions and tasks about everyday things: texts of the same format as focus texts, about anything else."""
    return _lines("prompts_everyday.txt")


def write_about(
    model: LanguageModel,
    concept: str,
    *,
    texts: int = 80,
    tokens_each: int = 90,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Iterator[Document]:
    """Talks in which the model writes about a concept, at its own words' choice of story, letter, fact or question.

    Units   `tokens_each` is the most tokens of a reply.
    Edges   a reply without a word is left out; one cut by its limit ends at its last whole sentence, if it has one.
    Cost    the same seed, machine and thread count give the same texts.

    Raises
        BadRequest  the concept is empty, or the model has no chat template.
    """
    concept = " ".join(concept.split())
    if not concept:
        raise BadRequest("The concept to write about is empty; name one, such as 'Golden Gate Bridge'.")
    prompts = [prompt.replace("{concept}", concept) for prompt in _dealt(focus_prompts(), texts, seed, concept)]
    yield from _talks(model, prompts, concept, "focus", tokens_each, seed, progress)


def answer_prompts(
    model: LanguageModel, *, count: int = 150, tokens_each: int = 110, seed: int = 0, progress: Progress = SILENT
) -> Iterator[Document]:
    """The model's answers to everyday prompts: the contrast to focus texts, in the same format.

    Edges   asked for more than there are prompts, it answers some of them again, with other draws.

    Raises
        BadRequest  the model has no chat template.
    """
    prompts = _dealt(everyday_prompts(), count, seed, "answers")
    yield from _talks(model, prompts, "answer", "answers", tokens_each, seed, progress)


def _lines(name: str) -> tuple[str, ...]:
    text = resources.files("monoscope.harvest").joinpath(name).read_text("utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _dealt(prompts: Sequence[str], count: int, seed: int, name: str) -> list[str]:
    """`count` prompts, each used about equally often."""
    stream = numpy_stream(seed, "prompts", name)
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += [prompts[int(i)] for i in stream.permutation(len(prompts))]
    return dealt[:count]


def _talks(  # noqa: PLR0913
    model: LanguageModel,
    prompts: Sequence[str],
    name: str,
    source: str,
    tokens_each: int,
    seed: int,
    progress: Progress,
) -> Iterator[Document]:
    progress.start(f"writing: {name}", len(prompts) * tokens_each, "tokens")
    for first in range(0, len(prompts), BATCH_TEXTS):
        numbers = range(first, min(first + BATCH_TEXTS, len(prompts)))
        asked = [[{"role": "user", "content": prompts[number]}] for number in numbers]
        rendered = [render_chat(model, messages, reply_follows=True).ids for messages in asked]
        names = [f"{source}/{name}/{number}" for number in numbers]
        replies = write_replies(model, rendered, names, most_tokens=tokens_each, seed=seed, progress=progress)
        for number, reply in zip(numbers, replies, strict=True):
            text = _whole_sentences(model.decode(reply), cut=len(reply) == tokens_each)
            if not text:
                continue
            title = name if source == "focus" else prompts[number]
            key = f"{source}:{name}:{number}"
            messages = (("user", prompts[number]), ("assistant", text))
            yield Document(messages=messages, title=title, source=source, group=key, topic=name, id=key)
    progress.finish()


def _whole_sentences(text: str, *, cut: bool) -> str:
    text = text.replace("\ufffd", "").strip()
    ends = [match.end() for match in re.finditer(r"(?<!\d)[.!?][\"')\]]*(?=\s)", text)] if cut else []
    return text[: ends[-1]] if ends and ends[-1] >= len(text) // 2 else text
