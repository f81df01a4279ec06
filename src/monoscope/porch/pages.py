"""A folder of pages that opens from the disk, with no server: `docs/formats/exports.md`.

The page is one HTML file, one script and two style sheets. A page from the disk may not fetch, so data come as scripts
of one call each, `monoscope.shard("features", 3, […])`, which the page adds when it needs them. Nothing in them is
HTML: `page_values` has made clean text of every token, and the script makes text nodes of it.
"""

import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from monoscope.core.errors import Damaged
from monoscope.core.progress import Progress
from monoscope.porch.checking import Rounding
from monoscope.porch.origin import Origin
from monoscope.porch.page_values import card_values, feature_values, index_values, line_values
from monoscope.render.scale import colours_css
from monoscope.render.tokens import plain_text

FEATURES_A_SHARD, CARDS_A_SHARD = 32, 256
# What could end a script or a line of one, or pass for markup; in JSON each may stand as an escape.
_CALL, _END = "monoscope.shard(", ");\n"
_ESCAPED = "<>&\u2028\u2029"


def write_pages(folder: Path, origin: Origin, progress: Progress) -> float:
    """The whole folder; the largest rounding error comes back."""
    data, keep = folder / "data", Rounding()
    data.mkdir()
    _write_frame(folder, origin)
    cards: list[dict[str, Any]] = []
    lines: dict[str, list[Any]] = {}
    for number, records in enumerate(origin.batches(FEATURES_A_SHARD)):
        _write(data / f"features-{number}.js", "features", number, [feature_values(each, keep) for each in records])
        for record in records:
            cards.append(card_values(record, keep))
            for name, value in line_values(record, keep).items():
                lines.setdefault(name, []).append(value)
        place = (number + 1) * FEATURES_A_SHARD
        if place % CARDS_A_SHARD == 0 or place >= len(origin.features):
            shard = (place - 1) // CARDS_A_SHARD
            _write(data / f"cards-{shard}.js", "cards", shard, cards)
            cards = []
        progress.advance(len(records))
    shards = {"features": FEATURES_A_SHARD, "cards": CARDS_A_SHARD}
    _write(data / "index.js", "index", 0, {"shards": shards, **index_values(origin), **lines})
    return keep.error


def read_script(path: Path) -> tuple[str, int, Any]:
    """Kind, number and value that a data script hands over.

    Raises
        Damaged  it is not one call with these three.
    """
    text = path.read_text(encoding="utf-8")
    try:
        if not (text.startswith(_CALL) and text.endswith(_END)):
            raise ValueError("it is no call")
        kind, number, value = json.loads(f"[{text[len(_CALL) : -len(_END)]}]")
    except ValueError as error:
        raise Damaged(f"{path.name} is no data of an export ({error}); export again.") from error
    return kind, number, value


def _write(path: Path, kind: str, number: int, value: Any) -> None:
    """Write a data script and read it back."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in _ESCAPED:
        text = text.replace(character, f"\\u{ord(character):04x}")
    path.write_text(f'{_CALL}"{kind}",{number},{text}{_END}', encoding="utf-8")
    if read_script(path) != (kind, number, value):
        raise Damaged(f"{path.name} does not read back as it was written; check the disk and export again.")


def _write_frame(folder: Path, origin: Origin) -> None:
    """The page, its script and its style."""
    shipped = files("monoscope.porch") / "static"
    for name in ("atlas.js", "atlas.css"):
        (folder / name).write_text((shipped / name).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "colours.css").write_text(colours_css(), encoding="utf-8")
    page = (shipped / "index.html").read_text(encoding="utf-8")
    title = plain_text(f"{origin.atlas.dictionary} · {origin.model_id}")
    (folder / "index.html").write_text(page.replace("{{title}}", html.escape(title)), encoding="utf-8")
