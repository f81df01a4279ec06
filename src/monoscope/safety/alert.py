"""An alert: a monitor's score crossed its threshold while a text was being read or written."""

import math
from dataclasses import dataclass
from typing import Any

# What a monitor does when it fires: it is only written down; it is told in the answer too; the token is held back and
# the text ends; the reply is thrown away and written again.
WATCH, FLAG, BLOCK, REDRAFT = "watch", "flag", "block", "redraft"
ACTIONS = (WATCH, FLAG, BLOCK, REDRAFT)
STOPPING = (BLOCK, REDRAFT)
MOST_FEATURES = 5


@dataclass(frozen=True)
class Share:
    """What a feature added to a score."""

    feature: int
    share: float
    label: str


@dataclass(frozen=True)
class Alert:
    """A monitor's first crossing in one text.

    `position` counts tokens from the first of the prompt, `token` from the first of the part `where`: prompt or reply.
    `score` is the score after that token; infinite or NaN where the residual was no number, which counts as a crossing.
    `stopped` says whether the token was kept from leaving; it was not where the text was over before its warm-up was,
    and was scored at its end. All texts of one `request` are drafts of one reply; `draft` counts from 0. `when` is UTC.
    `text` are the last tokens up to the crossing, where that was asked for.
    """

    id: str
    when: str
    request: str
    draft: int
    monitor: str
    action: str
    score: float
    threshold: float
    position: int
    where: str
    token: int
    stopped: bool
    features: tuple[Share, ...] = ()
    text: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As sinks and answers tell it. JSON knows neither NaN nor infinity: then `score` is null."""
        values: dict[str, Any] = {
            "id": self.id,
            "when": self.when,
            "request": self.request,
            "draft": self.draft,
            "monitor": self.monitor,
            "action": self.action,
            "score": _rounded(self.score),
            "threshold": _rounded(self.threshold),
            "position": self.position,
            "where": self.where,
            "token": self.token,
            "stopped": self.stopped,
            "features": [
                {"feature": each.feature, "share": _rounded(each.share), "label": each.label} for each in self.features
            ],
        }
        return values if self.text is None else {**values, "text": self.text}


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
