"""Where in a model something is read or written."""

import re
from dataclasses import dataclass

from monoscope.core.errors import BadRequest

# For each kind: the name of the hook in TransformerLens, and where it is in a Hugging Face model of the usual build.
_KINDS = {
    "resid_post": ("hook_resid_post", ""),
    "mlp_in": ("ln2.hook_normalized", ".mlp"),
    "mlp_out": ("hook_mlp_out", ".mlp"),
}
_PATTERN = re.compile(rf"({'|'.join(_KINDS)})\.(\d+)")


@dataclass(frozen=True, order=True)
class Site:
    """A place in a decoder block.

    `layer` counts blocks from 0. `resid_post.15` is the residual stream after the sixteenth block, `mlp_in.15` what its
    MLP reads (the normalised stream), `mlp_out.15` what it adds.
    """

    layer: int
    kind: str = "resid_post"

    @classmethod
    def parse(cls, text: str) -> "Site":
        """Read the text form.

        Raises
            BadRequest  the text is not `KIND.N` with a known kind.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise BadRequest(
                f"Site {text!r} is not understood; write resid_post.N, mlp_in.N or mlp_out.N, "
                "N counting decoder blocks from 0."
            )
        return cls(int(match.group(2)), match.group(1))

    @property
    def transformer_lens(self) -> str:
        """The name of this place in TransformerLens."""
        return f"blocks.{self.layer}.{_KINDS[self.kind][0]}"

    @property
    def hugging_face(self) -> str:
        """The module whose input or output this is, in a model of the usual build."""
        return f"model.layers.{self.layer}{_KINDS[self.kind][1]}"

    def __str__(self) -> str:
        return f"{self.kind}.{self.layer}"
