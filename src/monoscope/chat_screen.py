"""Where a chat is read and shown, in a terminal or through a pipe: lines in, answers out as they grow.

Answers go to stdout, everything else to stderr.
"""

import contextlib
import io
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from monoscope.conversation import answer
from monoscope.model.transformer import LanguageModel
from monoscope.steer.request import Generation, Request

_PROMPT = "> "
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen:
    """Where a chat is shown: answers on one console, prose on another; coloured where they are terminals. Mutable: it
    knows whether an answer is being written.

    What a model writes may hold anything, so a terminal gets no control characters. A pipe gets the text as it is.
    """

    def __init__(self, answers: Console, prose: Console) -> None:
        self._answers, self._prose = answers, prose
        self._answering = False

    def piece(self, text: str, *, steered: bool) -> None:
        """The next piece of an answer; a steered one has a colour."""
        self._answering = True
        if self._answers.is_terminal:
            shown = Text(_UNSEEN.sub("\ufffd", text), style="cyan" if steered else "")
            self._answers.print(shown, end="", soft_wrap=True)
        else:
            self._answers.file.write(text)
            self._answers.file.flush()

    def end(self) -> None:
        """The answer is over, if one had begun."""
        if self._answering:
            self.piece("\n", steered=False)
        self._answering = False

    def say(self, text: str, *, end: str = "\n") -> None:
        """A line for the person."""
        self._prose.print(Text(_UNSEEN.sub("\ufffd", text), style="dim"), end=end, soft_wrap=True)

    def refuse(self, sentence: str) -> None:
        """Why something cannot be done."""
        self._prose.print(Text(_UNSEEN.sub("\ufffd", sentence), style="red"), soft_wrap=True)


def typed_lines(screen: Screen) -> Iterator[str]:
    """What is typed or piped in, line by line. Ctrl-D ends it, and Ctrl-C at the prompt."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    asks = sys.stdin.isatty()
    edits_lines = asks and sys.stdout.isatty()
    if edits_lines:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  from here on `input` keeps a history
    try:
        while True:
            if asks and not edits_lines:
                screen.say(_PROMPT, end="")
            line = input(_PROMPT) if edits_lines else sys.stdin.readline()
            if not edits_lines and not line:
                break
            yield line
    except (EOFError, KeyboardInterrupt):
        pass
    if asks:
        screen.say("")


def show_answer(model: LanguageModel, request: Request, screen: Screen) -> Generation:
    """Make an answer and show it as it grows."""
    steered, began = bool(request.edits), time.monotonic()
    try:
        with _stopping() as should_stop:
            generation = answer(model, request, lambda piece: screen.piece(piece, steered=steered), should_stop)
    finally:
        screen.end()
    screen.say(_told(generation, time.monotonic() - began))
    return generation


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """While inside, Ctrl-C asks for a stop after the next token; a second one interrupts at once."""
    asked = threading.Event()

    def ask(_number: int, _frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _told(generation: Generation, seconds: float) -> str:
    """What a person may want to know of an answer, in a line."""
    parts = [f"{counted(len(generation.ids), 'token')} in {seconds:.1f} s"]
    if generation.finish_reason == "length":
        parts.append("cut there (--max-tokens)")
    if generation.finish_reason == "cancelled":
        parts.append("stopped")
    if generation.proof:
        most = max(proof.positions_edited for proof in generation.proof)
        parts.append(f"{counted(len(generation.proof), 'edit')} on {counted(most, 'token')}")
    idle = [proof.edit for proof in generation.proof if not proof.positions_edited]
    parts += [f"without effect: {'; '.join(idle)}"] if idle else []
    return ", ".join(parts)


def counted(number: int, noun: str) -> str:
    """A number of things in words: `1 edit`, `2 edits`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
