"""All that stands between a model and its readers: watchers, principles, and where alerts go."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from monoscope.dictionary.base import Dictionary
from monoscope.safety.alert import REDRAFT, WATCH, Alert
from monoscope.safety.alerts import AlertFile, log_alert
from monoscope.safety.constitution import Principle
from monoscope.safety.watcher import Draft, MonitorWatcher, Post
from monoscope.safety.webhook import Webhook
from monoscope.steer.request import BoundRequest, Request

_MOST_ANNOUNCED = 4096


@dataclass(frozen=True)
class Station:
    """A dictionary and the monitors that read through it; `name` is the dictionary's in the run."""

    name: str
    dictionary: Dictionary
    posts: tuple[Post, ...]


class Patrol:
    """Monitors at work on one engine. Mutable; safe to use from any thread. `with_text`: alerts carry the last tokens.

    Raises
        BadRequest  a dictionary cannot read one feature without all others, or two monitors have one name.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        *,
        principles: Sequence[Principle] = (),
        file: AlertFile | None = None,
        webhook: Webhook | None = None,
        with_text: bool = False,
    ) -> None:
        self.stations, self._file, self._webhook = tuple(stations), file, webhook
        self._with_text = with_text
        self.principles: Mapping[str, Principle] = {principle.name: principle for principle in principles}
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._announced: OrderedDict[tuple[tuple[int, ...], int], Draft] = OrderedDict()
        self._latest: tuple[BoundRequest | None, Draft] = (None, Draft(""))
        self.watchers = tuple(
            MonitorWatcher(each.posts, each.dictionary, tell=self._tell, draft_of=self._draft_of) for each in stations
        )

    @property
    def redrafts(self) -> bool:
        """Whether a reply may be thrown away and written again."""
        return any(principle.action == REDRAFT for principle in self.principles.values())

    @property
    def requests(self) -> int:
        """How many texts were begun."""
        return max((watcher.requests for watcher in self.watchers), default=0)

    def reads(self, decode: Callable[[list[int]], str]) -> None:
        """How tokens become text, for alerts that are to carry some."""
        for watcher in self.watchers if self._with_text else ():
            watcher.decode = decode

    def announce(self, request: Request, draft: Draft) -> None:
        """The text of a request that is about to be submitted is a further draft."""
        with self._lock:
            self._announced[request.prompt_ids, request.seed] = draft
            while len(self._announced) > _MOST_ANNOUNCED:
                self._announced.popitem(last=False)

    def alerts_total(self) -> list[tuple[str, str, int]]:
        """Name and action of each monitor, and how often it fired."""
        with self._lock:
            return [
                (post.monitor.name, post.action, self._counts[post.monitor.name])
                for station in self.stations
                for post in station.posts
            ]

    @property
    def undelivered(self) -> int:
        """Alerts that wait for the webhook."""
        return 0 if self._webhook is None else self._webhook.undelivered

    @property
    def unwritten(self) -> int:
        """Alerts that could not be written to the file."""
        return 0 if self._file is None else self._file.unwritten

    def close(self) -> None:
        """Give up the file and stop sending."""
        if self._webhook is not None:
            self._webhook.close()
        if self._file is not None:
            self._file.close()

    def _tell(self, alert: Alert) -> None:
        """From the model's thread: count, and write down."""
        with self._lock:
            self._counts[alert.monitor] += 1
        log_alert(alert)
        if self._file is not None and self._file.write(alert) and self._webhook is not None:
            self._webhook.wake()

    def _draft_of(self, request: BoundRequest) -> Draft:
        """One for all watchers: they are told of a request one after another."""
        if self._latest[0] is not request:
            with self._lock:
                found = self._announced.pop((request.prompt_ids, request.sampling.seed), None)
            self._latest = request, found or Draft.fresh()
        return self._latest[1]


def told_alerts(alerts: Sequence[object]) -> list[dict[str, Any]]:
    """The alerts that a client is told of."""
    return [alert.to_json() for alert in alerts if isinstance(alert, Alert) and alert.action != WATCH]


def on_replies(post: Post) -> Post:
    """The same monitor, reading replies alone."""
    return replace(post, monitor=replace(post.monitor, part="reply"))
