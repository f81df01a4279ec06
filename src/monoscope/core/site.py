"""Where in a model something is read or written."""

import re
from dataclasses import dataclass

from monoscope.core.errors import BadRequest

_PATTERN = re.compile(r"resid_post\.(\d+)")


@dataclass(frozen=True, order=True)
class Site:
    """The residual stream after a decoder block.

    `layer` counts blocks from 0, so `resid_post.15` is the output of the sixteenth block.
    """

    layer: int

    @classmethod
    def parse(cls, text: str) -> "Site":
        """Read the text form.

        Raises
            BadRequest  the text is not `resid_post.N`.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise BadRequest(f"Site {text!r} is not understood; write resid_post.N, N counting decoder blocks from 0.")
        return cls(int(match.group(1)))

    def __str__(self) -> str:
        return f"resid_post.{self.layer}"
