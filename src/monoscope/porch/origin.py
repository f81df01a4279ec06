"""What an export is made of: an atlas, its dictionary, which features, and whom to credit for the text."""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from monoscope.atlas.query import Atlas
from monoscope.atlas.records import FeatureRecord
from monoscope.atlas.schema import MANIFEST
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.render.tokens import plain_text

_SHORT = {"resid_post": "res", "mlp_in": "mlp-in", "mlp_out": "mlp"}
_UNFIT = re.compile(r"[^a-z0-9._-]+")
_CREDITS = {
    "wiki": "Text from Wikipedia, by its contributors, CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/), "
    "cut into excerpts and marked by monoscope. Articles are found under their titles at wikipedia.org, where their "
    "authors are named. Whatever is passed on with parts of these texts in it must carry this credit and the same "
    "licence.",
    "python-stdlib": "Source code of the Python standard library, by the Python Software Foundation and contributors, "
    "PSF License Version 2.",
}


@dataclass(frozen=True)
class Origin:
    """An atlas and the features of it to hand on, in this order; without a dictionary no vectors go along."""

    atlas: Atlas
    features: tuple[int, ...]
    dictionary: Dictionary | None = None

    def batches(self, size: int) -> Iterator[list[FeatureRecord]]:
        """The records, `size` at a time; the next are read while these are written."""
        pieces = [self.features[first : first + size] for first in range(0, len(self.features), size)]
        with ThreadPoolExecutor(max_workers=1) as ahead:
            coming = [ahead.submit(self.atlas.features, piece) for piece in pieces[:1]]
            for piece in pieces[1:]:
                found = coming.pop().result()
                coming.append(ahead.submit(self.atlas.features, piece))
                yield found
            yield from (last.result() for last in coming)

    @cached_property
    def site(self) -> Site:
        """Where in the model the features live."""
        return Site.parse(self.atlas.manifest["site"])

    @property
    def model_id(self) -> str:
        """The model's name as other tools write it: the last part of its source, in lower case."""
        source = str(self.atlas.manifest["model"]).split("@")[0].rstrip("/")
        return _fit(re.split(r"[/:]", source)[-1]) or "model"

    @property
    def set_name(self) -> str:
        """The kind of place and the dictionary's name, as res-demo."""
        return _fit(f"{_SHORT[self.site.kind]}-{self.atlas.dictionary}")

    @property
    def source_id(self) -> str:
        """The layer and the set."""
        return f"{self.site.layer}-{self.set_name}"

    @cached_property
    def written(self) -> str:
        """When the atlas was written, so that exporting it again gives the same bytes."""
        seconds = (self.atlas.folder / MANIFEST).stat().st_mtime
        return datetime.fromtimestamp(int(seconds), UTC).isoformat()

    @cached_property
    def credits(self) -> tuple[str, ...]:
        """Whom to name beside parts of the text."""
        return credits_of(set(self.atlas.store.documents["source"].to_pylist()) - {None})

    @cached_property
    def about(self) -> dict[str, Any]:
        """What is exported, as plain values."""
        manifest = self.atlas.manifest
        return {
            "model": plain_text(str(manifest["model"])),
            "site": str(self.site),
            "dictionary": self.atlas.dictionary,
            "dictionary_digest": manifest["dictionary_digest"],
            "atlas_digest": self.atlas.digest,
            "tokens": manifest["tokens"],
            "features": len(self.features),
            "of_features": self.atlas.n_features,
        }


def credits_of(sources: Iterable[str]) -> tuple[str, ...]:
    """Whom to name beside texts of these sources."""
    found = list(sources)
    return tuple(text for start, text in _CREDITS.items() if any(source.startswith(start) for source in found))


def _fit(text: str) -> str:
    return _UNFIT.sub("-", text.lower()).strip("-")
