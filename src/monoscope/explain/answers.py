"""Answers are kept on the desk, so that no question is asked twice; and a rehearsal that only counts."""

import time
from collections.abc import Callable

from monoscope.atlas.desk import Desk
from monoscope.core.artifact import digest_of
from monoscope.core.progress import SILENT, Progress
from monoscope.explain.judge import Judge, Question


def answer_key(judge: Judge, question: Question) -> str:
    """The name under which an answer is kept: a hash of the judge and of all that the answer depends on."""
    messages = [dict(message) for message in question.messages]
    return digest_of({"judge": judge.identity, "messages": messages, "max_tokens": question.max_tokens})


class Asker:
    """Asks a judge what the desk does not know yet, and keeps each answer at once. Mutable: it counts.

    `heard` is called once, after the first answer, with the seconds it took and the tokens of its question.
    """

    def __init__(
        self,
        judge: Judge,
        desk: Desk,
        *,
        progress: Progress = SILENT,
        should_stop: Callable[[], bool] = lambda: False,
        heard: Callable[[float, int], None] | None = None,
    ) -> None:
        self._judge, self._desk, self._progress = judge, desk, progress
        self._should_stop, self._heard = should_stop, heard
        self.calls = self.cached = self.unread = 0

    def fits(self, question: Question) -> bool:
        """Whether question and answer are short enough for the judge."""
        return fits(self._judge, question)

    def ask(self, question: Question) -> str:
        """The answer, from the desk or from the judge.

        Raises
            InterruptedError  somebody asked for a stop.
            Unavailable       as the judge says.
        """
        key = answer_key(self._judge, question)
        kept = self._desk.cached(key)
        if kept is not None:
            self.cached += 1
            return kept
        if self._should_stop():
            raise InterruptedError
        began = time.perf_counter()
        answer = self._judge.ask(question.messages, question.max_tokens)
        self._desk.keep(key, answer)
        self.calls += 1
        self._progress.advance(1)
        if self._heard is not None and self.calls == 1:
            self._heard(time.perf_counter() - began, self._judge.count(question.messages))
        return answer


class Rehearsal:
    """Goes through the same questions without asking any: what is not kept yet is counted and answered as is likely."""

    def __init__(self, judge: Judge, desk: Desk) -> None:
        self._judge, self._desk = judge, desk
        self.calls = self.cached = self.unread = self.prompt_tokens = self.answer_tokens = 0

    def fits(self, question: Question) -> bool:
        """Whether question and answer are short enough for the judge."""
        return fits(self._judge, question)

    def ask(self, question: Question) -> str:
        """The answer that is kept, or one of the right form."""
        kept = self._desk.cached(answer_key(self._judge, question))
        if kept is not None:
            self.cached += 1
            return kept
        self.calls += 1
        self.prompt_tokens += self._judge.count(question.messages)
        self.answer_tokens += len(question.likely) // 4 + 1
        return question.likely


def fits(judge: Judge, question: Question) -> bool:
    """Whether question and answer are short enough for the judge."""
    return judge.reads is None or judge.count(question.messages) + question.max_tokens <= judge.reads
