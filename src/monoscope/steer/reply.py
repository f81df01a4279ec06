"""The growing reply of one request: when it is over, and which of its text may be told already."""

from dataclasses import replace

from monoscope.model.transformer import LanguageModel
from monoscope.steer.pieces import TextPieces
from monoscope.steer.proof import EditProof
from monoscope.steer.request import BoundRequest, Event, Generation, Logprob, Reported

# Why a reply ends that a watcher stopped; OpenAI's word.
FILTERED = "content_filter"


class Reply:
    """Takes tokens in and gives events out. Mutable; one for each request.

    Text that may be the beginning of a stop text is held back until it is clear that it is not. With `holds_back` each
    token is, until the next one comes: the pass that drew that one has read it.
    """

    def __init__(self, number: int, model: LanguageModel, request: BoundRequest, *, holds_back: bool = False) -> None:
        self._number, self._request, self._holds_back = number, request, holds_back
        self._pieces = TextPieces(model.vocabulary, model.special_ids)
        self._waiting: tuple[int, Logprob | None] | None = None
        self._ids: list[int] = []
        self._logprobs: list[Logprob] = []
        self._told: list[str] = []
        self._held, self._stopped = "", False
        self._bar: int | None = None
        self.over: str | None = None

    def push(self, token: int, sound: bool, logprob: Logprob | None) -> Event | None:
        """Take a drawn token in; what may be told now, or None. Where the reply ends with this, `over` says why."""
        event = self._tell() if self._holds_back else None
        if self.over is None:
            self.over = self._reason_before(token, sound)
            self._waiting = (token, logprob) if self.over is None else None
        return event if self._holds_back else self._tell()

    def bar(self, position: int) -> None:
        """No token from this position on, counted from the prompt's first, is told from now on."""
        self._bar = position if self._bar is None else min(self._bar, position)
        kept = max(0, self._bar - len(self._request.prompt_ids))
        for whole in (self._ids, self._logprobs, self._told):
            del whole[kept:]
        if self._is_barred:
            self.over = FILTERED

    def finish(
        self,
        reason: str,
        proof: tuple[EditProof, ...],
        prompt_logprobs: tuple[Logprob, ...],
        report: tuple[Reported, ...],
        alerts: tuple[object, ...],
    ) -> Event:
        """The last event: the text that was still waiting, and the whole."""
        cut = reason == FILTERED or (reason == "stop" and self._stopped)
        rest = "" if cut else self._release(self._pieces.finish(), last=True)
        if self._bar is not None and self._bar < len(self._request.prompt_ids):
            prompt_logprobs, report = (), ()
        report = tuple(replace(each, generated=each.generated[: len(self._ids)]) for each in report)
        text = "".join(self._told)
        done = Generation(tuple(self._ids), text, reason, proof, tuple(self._logprobs), prompt_logprobs, report, alerts)
        return Event(self._number, None, rest, done)

    @property
    def _is_barred(self) -> bool:
        """Whether the next token must not be told."""
        return self._bar is not None and len(self._request.prompt_ids) + len(self._ids) >= self._bar

    def _reason_before(self, token: int, sound: bool) -> str | None:
        if not sound:
            return "numbers"
        if not self._request.max_tokens:
            return "length"
        return "stop" if token in self._request.stop_ids else None

    def _tell(self) -> Event | None:
        """The token that waits becomes part of the reply."""
        if self._waiting is None:
            return None
        (token, logprob), self._waiting = self._waiting, None
        self._ids.append(token)
        self._logprobs += [logprob] if logprob is not None else []
        text = self._release(self._pieces.push(token))
        if self.over is None and len(self._ids) >= self._request.max_tokens:
            self.over = "length"
        if self.over is None and self._is_barred:
            self.over = FILTERED
        return Event(self._number, token, text, logprob=logprob)

    def _release(self, text: str, *, last: bool = False) -> str:
        """The text that may be told now."""
        self._held += text
        cut = _first_stop(self._held, self._request.stop)
        if cut is not None:
            self._stopped, self.over = True, "stop"
            told, self._held = self._held[:cut], ""
        else:
            keep = 0 if last else _waiting(self._held, self._request.stop)
            told, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        self._told.append(told)
        return told


def _first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    """Where the first stop text begins, or None."""
    places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    return min(places, default=None)


def _waiting(text: str, stops: tuple[str, ...]) -> int:
    """How many of the last letters may be the beginning of a stop text."""
    lengths = (n for stop in stops for n in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-n:]))
    return max(lengths, default=0)
