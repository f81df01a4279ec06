"""What is watched while the model writes, under /api/v1/monitors."""

import math
from typing import Any

from fastapi import APIRouter

from monoscope.safety.patrol import Patrol
from monoscope.safety.watcher import Post
from monoscope.serve.library import Library


def watched_routes(books: Library) -> APIRouter:
    """The routes, answering from one library."""
    routes = APIRouter(prefix="/api/v1", tags=["monitors"])

    @routes.get("/monitors")
    def monitors() -> dict[str, Any]:
        """The monitors at work, what each does and how often it fired since the server began."""
        return watched_values(books.patrol)

    return routes


def watched_values(patrol: Patrol) -> dict[str, Any]:
    """All monitors of a patrol."""
    counts = {name: count for name, _, count in patrol.alerts_total()}
    return {
        "monitors": [
            {"dictionary": station.name, **_values(patrol, post), "alerts": counts[post.monitor.name]}
            for station in patrol.stations
            for post in station.posts
        ],
        "texts": patrol.requests,
        "undelivered": patrol.undelivered,
        "unwritten": patrol.unwritten,
    }


def _values(patrol: Patrol, post: Post) -> dict[str, Any]:
    monitor, detector = post.monitor, post.monitor.detector
    principle = patrol.principles.get(monitor.name)
    pairs = zip(detector.features.tolist(), detector.weights.tolist(), strict=True)
    return {
        "name": monitor.name,
        "action": post.action,
        "principle": None if principle is None else principle.sentence,
        "site": str(monitor.site),
        "part": monitor.part,
        "statistic": detector.statistic,
        "window": detector.window,
        "warm_up": detector.warm_up,
        "threshold": monitor.threshold if math.isfinite(monitor.threshold) else None,
        "stated_rate": monitor.fpr,
        "probe": detector.probe is not None,
        "features": [
            {"feature": feature, "weight": round(weight, 6), "label": monitor.labels.get(feature, "")}
            for feature, weight in pairs
        ],
    }
