"""The frame around the choices: who answered, how many tokens it took, and what monoscope adds."""

import math
import secrets
from collections.abc import Sequence
from typing import Any

from monoscope.core.errors import BadRequest, Unavailable
from monoscope.safety.patrol import told_alerts
from monoscope.serve.v1_asking import Asked
from monoscope.serve.v1_choices import Choice, writer_of
from monoscope.serve.v1_logprobs import token_text
from monoscope.steer.compare import proof_to_json
from monoscope.steer.request import Generation

NOT_FINITE = "The model's logits became NaN or infinite under these edits; use smaller values."


class Frame:
    """Names that all parts of one answer share."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._id = ("chatcmpl-" if asked.chat else "cmpl-") + secrets.token_hex(12)

    def whole(self, generations: Sequence[Generation]) -> dict[str, Any]:
        """The answer at once."""
        choices = [writer_of(self._asked, number).whole(done) for number, done in enumerate(generations)]
        kind = "chat.completion" if self._asked.chat else "text_completion"
        return self._values(kind, choices, **ending_values(self._asked, generations))

    def chunk(self, choices: Sequence[Choice], **more: Any) -> dict[str, Any]:
        """One part of a stream. With usage asked for, all parts but the last say null."""
        kind = "chat.completion.chunk" if self._asked.chat else "text_completion"
        usage = {"usage": None} if self._asked.tell_usage else {}
        return self._values(kind, choices, **{**usage, **more})

    def _values(self, kind: str, choices: Sequence[Choice], **more: Any) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._asked.created,
            "model": self._asked.name,
            "system_fingerprint": self._asked.fingerprint,
            "choices": list(choices),
            **more,
        }


def check_generation(done: Generation) -> None:
    """Agree that a reply can be told.

    Raises
        BadRequest   the edits drove the model to NaN or infinity.
        Unavailable  it was cut off.
    """
    scores = [each.logprob for each in (*done.prompt_logprobs, *done.logprobs)]
    if done.finish_reason == "numbers" or any(map(math.isnan, scores)):
        raise BadRequest(NOT_FINITE)
    if done.finish_reason == "cancelled":
        raise Unavailable("The model stopped before the reply was whole; try again.")


def ending_values(asked: Asked, generations: Sequence[Generation]) -> dict[str, Any]:
    """What is known when all replies are there: `usage` and `monoscope`."""
    return {"usage": usage_values(asked, generations), "monoscope": monoscope_values(asked, generations)}


def usage_values(asked: Asked, generations: Sequence[Generation]) -> dict[str, int]:
    """Tokens read and written; a prompt with several replies is counted once."""
    prompt = sum(len(each.rendered.ids) for each in asked.prompts)
    written = sum(len(each.ids) for each in generations)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def monoscope_values(asked: Asked, generations: Sequence[Generation]) -> dict[str, Any]:
    """The proof of each edit, the report and the alerts, each with the choice that it belongs to.

    `tokens` stand beside a report: those of the prompt as it was rendered, and those of the reply.
    """
    edits, report, tokens, alerts = [], [], [], []
    for number, done in enumerate(generations):
        edits += [{"choice": number, **_sound(proof_to_json(proof))} for proof in done.proof]
        for each in done.report:
            prompt, generated = (list(map(_finite, values)) for values in (each.prompt, each.generated))
            report.append({"choice": number, "feature": each.feature, "prompt": prompt, "generated": generated})
        if done.report:
            # A reply that was drafted again had another prompt, of which nothing is reported.
            read = asked.prompt(number).rendered.ids if done.report[0].prompt else ()
            prompt, generated = ([token_text(asked.model, token) for token in ids] for ids in (read, done.ids))
            tokens.append({"choice": number, "prompt": prompt, "generated": generated})
        alerts += [{"choice": number, **each} for each in told_alerts(done.alerts)]
    return {"edits": edits, "report": report, "tokens": tokens, "alerts": alerts}


def _sound(values: dict[str, object]) -> dict[str, object]:
    return {name: _finite(value) if isinstance(value, float) else value for name, value in values.items()}


def _finite(value: float) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None
