"""The growing reply of one request: when it is over, and which of its text may be told already."""

from monoscope.model.transformer import LanguageModel
from monoscope.steer.pieces import TextPieces
from monoscope.steer.proof import EditProof
from monoscope.steer.request import BoundRequest, Event, Generation, Logprob, Reported


class Reply:
    """Takes tokens in and gives events out. Mutable; one for each request.

    Text that may be the beginning of a stop text is held back until it is clear that it is not.
    """

    def __init__(self, number: int, model: LanguageModel, request: BoundRequest) -> None:
        self._number, self._request = number, request
        self._pieces = TextPieces(model.vocabulary, model.special_ids)
        self._ids: list[int] = []
        self._logprobs: list[Logprob] = []
        self._told: list[str] = []
        self._held, self._stopped = "", False
        self.over: str | None = None

    def push(self, token: int, sound: bool, logprob: Logprob | None) -> Event | None:
        """Take a drawn token in. None where it ends the reply without being part of it; then `over` says why."""
        self.over = self._reason_before(token, sound)
        if self.over is not None:
            return None
        self._ids.append(token)
        self._logprobs += [logprob] if logprob is not None else []
        text = self._release(self._pieces.push(token))
        if self.over is None and len(self._ids) >= self._request.max_tokens:
            self.over = "length"
        return Event(self._number, token, text, logprob=logprob)

    def finish(
        self,
        reason: str,
        proof: tuple[EditProof, ...],
        prompt_logprobs: tuple[Logprob, ...],
        report: tuple[Reported, ...],
    ) -> Event:
        """The last event: the text that was still waiting, and the whole."""
        rest = "" if reason == "stop" and self._stopped else self._release(self._pieces.finish(), last=True)
        text = "".join(self._told)
        done = Generation(tuple(self._ids), text, reason, proof, tuple(self._logprobs), prompt_logprobs, report)
        return Event(self._number, None, rest, done)

    def _reason_before(self, token: int, sound: bool) -> str | None:
        if not sound:
            return "numbers"
        if not self._request.max_tokens:
            return "length"
        return "stop" if token in self._request.stop_ids else None

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
