"""Figures for a monitoring system, in Prometheus' text format: requests by route and status, and the model's counts.

Labels take their values from what is known beforehand, routes, methods and statuses, so that there is a bounded number
of lines and no word of a visitor among them.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from monoscope.serve.refusing import App, Message, Receive, Send

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,80}")
# A client that left before it was answered has no status.
LEFT = "left"
NO_ROUTE = "none"


class Metrics:
    """Counts of requests. Mutable; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._active = 0

    def begin(self) -> None:
        """A request has come."""
        with self._lock:
            self._active += 1

    def end(self, method: str, route: str, status: str, seconds: float) -> None:
        """A request is over. `route` is a template, never a path."""
        place = next((at for at, edge in enumerate(SECONDS) if seconds <= edge), len(SECONDS))
        with self._lock:
            self._active -= 1
            self._requests[method if method in _METHODS else "other", route, status] += 1
            self._buckets.setdefault(route, [0] * (len(SECONDS) + 1))[place] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(
        self,
        model: Mapping[str, float],
        alerts: Sequence[tuple[str, str, int]] = (),
        waiting: Mapping[str, int] | None = None,
    ) -> str:
        """The page; `model` are the counts of the batcher, or nothing where none runs, `alerts` name, action and count
        of each monitor, `waiting` what has become of alerts."""
        with self._lock:
            requests, buckets = sorted(self._requests.items()), {k: list(v) for k, v in sorted(self._buckets.items())}
            seconds, active = dict(self._seconds), self._active
        lines = ["# TYPE monoscope_requests_active gauge", f"monoscope_requests_active {active}"]
        lines.append("# TYPE monoscope_requests_total counter")
        for (method, route, status), count in requests:
            lines.append(f'monoscope_requests_total{{method="{method}",route="{route}",status="{status}"}} {count}')
        lines.append("# TYPE monoscope_request_seconds histogram")
        for route, counts in buckets.items():
            lines += _histogram(route, counts, seconds[route])
        for name, value in sorted(model.items()):
            if _NAME.fullmatch(name):
                kind = "counter" if name.endswith("_total") else "gauge"
                lines += [f"# TYPE monoscope_model_{name} {kind}", f"monoscope_model_{name} {value:g}"]
        return "\n".join([*lines, *_alert_lines(alerts, waiting or {})]) + "\n"


def _alert_lines(alerts: Sequence[tuple[str, str, int]], waiting: Mapping[str, int]) -> list[str]:
    """Names of monitors were checked when they were loaded, and hold letters, digits, dots, dashes and underscores."""
    lines = ["# TYPE monoscope_alerts_total counter"] if alerts else []
    for monitor, action, count in alerts:
        lines.append(f'monoscope_alerts_total{{monitor="{monitor}",action="{action}"}} {count}')
    for name, count in sorted(waiting.items()):
        lines += [f"# TYPE monoscope_alerts_{name} gauge", f"monoscope_alerts_{name} {count}"]
    return lines


def _histogram(route: str, counts: list[int], seconds: float) -> list[str]:
    edges = [f"{edge:g}" for edge in SECONDS] + ["+Inf"]
    name = "monoscope_request_seconds"
    lines = [
        f'{name}_bucket{{route="{route}",le="{edge}"}} {count}'
        for edge, count in zip(edges, accumulate(counts), strict=True)
    ]
    return [*lines, f'{name}_sum{{route="{route}"}} {seconds:.6f}', f'{name}_count{{route="{route}"}} {sum(counts)}']


class Measured:
    """Counts what passes through to an app, to the end of each answer."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = LEFT

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        began = time.monotonic()
        self._metrics.begin()
        try:
            await self._app(scope, receive, seen)
        finally:
            route = getattr(scope.get("route"), "path", None) or NO_ROUTE
            self._metrics.end(scope["method"], route, status, time.monotonic() - began)
