"""How good the loaded features are, for the first page: figures of the atlas, each beside what chance reaches."""

from collections.abc import Mapping
from typing import Any

from monoscope.atlas.query import Atlas
from monoscope.core.errors import Damaged
from monoscope.render.svg import share_bar
from monoscope.render.tokens import plain_text


def label_figures(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """The median score of the labels, and beside it those of two controls."""
    quality = manifest.get("quality", {})
    labels, random = quality.get("labels", {}), quality.get("random_dictionary", {})
    told = (
        (labels.get("score_median"), "these labels", f"{labels.get('scored', 0):,} features with enough held-out text"),
        (labels.get("shuffled_median"), "shuffled", "the same labels, each tried on another feature's text"),
        (random.get("score_median"), "random directions", "labels made in the same way for directions drawn by chance"),
    )
    return [
        {"value": f"{value:.2f}", "name": name, "meaning": meaning, "bar_html": share_bar(2 * value - 1)}
        for value, name, meaning in told
        if isinstance(value, (int, float))
    ]


def random_score(manifest: Mapping[str, Any]) -> float | None:
    """What labels of random directions reach, or None where that was not tried."""
    found = manifest.get("quality", {}).get("random_dictionary", {}).get("score_median")
    return float(found) if isinstance(found, (int, float)) else None


def unexplained_figures(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The mean unexplained share of a token's variance, and by source, the best explained first."""
    dark = manifest.get("quality", {}).get("dark", {})
    if not isinstance(dark.get("mean"), (int, float)):
        return None
    listed = {name: value for name, value in dark.get("by_source", {}).items() if isinstance(value, (int, float))}
    return {
        "mean": f"{100 * dark['mean']:.0f} %",
        "sources": [
            {"name": plain_text(name), "value": f"{100 * value:.1f} %", "bar_html": share_bar(value)}
            for name, value in sorted(listed.items(), key=lambda pair: pair[1])
        ],
    }


def blind_spots(atlas: Atlas, count: int = 6) -> list[dict[str, str]]:
    """The texts of which the dictionary explains least; none where the figures of single tokens cannot be read."""
    try:
        found = atlas.blindest(count)
    except Damaged:
        return []
    told = [(atlas.about(document), share) for document, share in found]
    return [
        {
            "name": plain_text(about["title"] or "untitled"),
            "source": plain_text(about["source"]),
            "value": f"{100 * share:.0f} %",
            "bar_html": share_bar(share),
        }
        for about, share in told
    ]
