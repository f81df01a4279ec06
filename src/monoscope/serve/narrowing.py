"""What a visitor narrows a search by, as it stands in an address: checked here, told in words, kept in links."""

import math
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from monoscope.atlas.query import Atlas
from monoscope.atlas.search import Filters
from monoscope.core.errors import BadRequest
from monoscope.render.tokens import plain_text

_Text = Annotated[str, Query(max_length=100)]


@dataclass(frozen=True)
class Narrowing:
    """The filters of an address, as they were written; nothing where nothing is asked.

    A share is a number from 0 to 1, or a percentage such as `0.01 %`.
    """

    density_min: str = ""
    density_max: str = ""
    label_score: str = ""
    source: str = ""
    language: str = ""

    @property
    def given(self) -> dict[str, str]:
        """Those that are asked for, for an address."""
        return {name: value for name, value in vars(self).items() if value.strip()}

    def filters(self) -> Filters:
        """The same as the atlas takes them.

        Raises
            BadRequest  a share or score cannot be read, or the densities cross.
        """
        low = _share(self.density_min, "The least density")
        high = _share(self.density_max, "The largest density")
        if low is not None and high is not None and low > high:
            raise BadRequest(
                f"The least density {self.density_min.strip()} is above the largest, {self.density_max.strip()}; "
                "no feature lies between."
            )
        score = _share(self.label_score, "The least label score")
        return Filters(low, high, score, None, self.source.strip() or None, self.language.strip() or None)

    def told(self) -> list[str]:
        """What is asked for, in words."""
        words = {
            "density_min": "fires on at least {}",
            "density_max": "fires on at most {}",
            "label_score": "label score at least {}",
            "source": "at home in {}",
            "language": "at home in {}",
        }
        return [words[name].format(plain_text(value.strip())) for name, value in self.given.items()]


def narrowing(  # noqa: PLR0913  one for each filter of an address
    density_min: _Text = "", density_max: _Text = "", label_score: _Text = "", source: _Text = "", language: _Text = ""
) -> Narrowing:
    """The filters of a request."""
    return Narrowing(density_min, density_max, label_score, source, language)


def choices(atlas: Atlas) -> dict[str, list[str]]:
    """The sources and languages there are to narrow by; a single one narrows nothing."""
    listed = {kind: list(atlas.manifest[f"{kind}s"]) for kind in ("source", "language")}
    return {kind: names if len(names) > 1 else [] for kind, names in listed.items()}


def _share(text: str, what: str) -> float | None:
    written = text.strip()
    if not written:
        return None
    number = written.removesuffix("%")
    try:
        value = float(number) / (100 if number != written else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise BadRequest(f"{what} is {written[:40]!r}; write a number from 0 to 1, or a percentage such as 0.01 %.")
    return value
