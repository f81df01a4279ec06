"""The model says texts in other words: does a removal hold for what is said differently?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from monoscope.core.progress import SILENT, Progress
from monoscope.effect.asking import asked
from monoscope.model.transformer import LanguageModel
from monoscope.steer.engine import generate
from monoscope.steer.request import Request

TEXTS, REPLY_TOKENS = 16, 64
LEAST_TOKENS = 12
# A rewording shares names and terms with its source, a copy most of its runs of three words.
MOST_SHARED = 0.5
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Rewordings:
    """What was left of `made` rewordings: (id, text) of each that is neither near its source nor too short."""

    made: int
    left: tuple[tuple[str, str], ...]
    copies: int
    short: int


def reword(
    model: LanguageModel, texts: Sequence[tuple[str, str]], *, seed: int = 0, progress: Progress = SILENT
) -> Rewordings:
    """Ask the plain model to say each (id, text) in other words.

    Edges  a model without a chat template continues after "In other words:".
    """
    prompts = [asked(model, _question(model, text)) for _, text in texts]
    requests = [
        Request(prompt.ids, (), seed + number, max_tokens=REPLY_TOKENS, template=prompt.template)
        for number, prompt in enumerate(prompts)
    ]
    progress.start("rewording", len(texts) * REPLY_TOKENS, "tokens")
    replies = generate(model, None, requests, on_token=lambda _request, _token: progress.advance(1)) if texts else []
    progress.finish()
    left, copies, short = [], 0, 0
    for (name, text), reply in zip(texts, replies, strict=True):
        said = _whole(reply.text)
        if len(model.encode_text(said)) < LEAST_TOKENS:
            short += 1
        elif shared(text, said) > MOST_SHARED:
            copies += 1
        else:
            left.append((name, said))
    return Rewordings(len(texts), tuple(left), copies, short)


def shared(source: str, text: str) -> float:
    """The share of a text's runs of three words that stand in its source; 0 where it has none."""
    there, runs = set(_runs(source)), _runs(text)
    return sum(run in there for run in runs) / len(runs) if runs else 0.0


def _runs(text: str) -> list[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return list(zip(words, words[1:], words[2:], strict=False))


def _question(model: LanguageModel, text: str) -> str:
    if model.tokenizer.chat_template:
        return f"Say the following text in other words. Answer with the new text only.\n\n{text}"
    return f"{text}\n\nIn other words:"


def _whole(text: str) -> str:
    """Up to the last end of a sentence in the later half, where there is one."""
    text = text.replace("\ufffd", "").strip()
    ends = [match.end() for match in re.finditer(r"(?<!\d)[.!?][\"')\]]*(?=\s|$)", text)]
    return text[: ends[-1]] if ends and ends[-1] >= len(text) // 2 else text
