"""A visitor's text through model and dictionary: which features fire on which token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.atlas.contrast import strongest
from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.model.chat import render_plain
from monoscope.model.sinks import keep_mask
from monoscope.model.transformer import LanguageModel

MOST_CHARACTERS = 8_000
MOST_TOKENS = 512


@dataclass(frozen=True)
class Encoded:
    """For each token its features and activations, strongest first, and the share of its variance that they miss.

        unexplained = |x - reconstruction|² / |x - mean|²

    Sinks have neither, and a transcoder's tokens no share, as what it is to tell is not at hand.
    """

    codes: list[list[tuple[int, float]]]
    unexplained: list[float | None]


@dataclass(frozen=True, eq=False)
class ReadText:
    """A text's own tokens, without the prefix, and their residuals; sinks are not `kept` and have no code."""

    tokens: tuple[bytes, ...]
    special: tuple[bool, ...]
    x: Float[Tensor, "tokens d_model"]
    kept: tuple[bool, ...]

    def encoded(self, dictionary: Dictionary) -> Encoded:
        """The features of each token, and what they leave unexplained."""
        rows = [i for i, kept in enumerate(self.kept) if kept]
        x = self.x[rows]
        code = dictionary.encode(x)
        shares = _unexplained(dictionary, x, code)
        codes: list[list[tuple[int, float]]] = [[] for _ in self.tokens]
        unexplained: list[float | None] = [None] * len(self.tokens)
        for number, row in enumerate(rows):
            codes[row] = _pairs(code.row_slice(number, number + 1))
            unexplained[row] = shares[number]
        return Encoded(codes, unexplained)

    def strongest(self, dictionary: Dictionary) -> Float[Tensor, "n_latents"]:
        """The largest activation of each feature over the text; 0 where it never fires."""
        return strongest(dictionary.encode(self.x[[i for i, kept in enumerate(self.kept) if kept]]))

    def activations(self, dictionary: Dictionary, feature: int) -> list[float]:
        """One feature's activation at each token; 0 at sinks."""
        values = dictionary.activations_of(self.x, torch.tensor([feature]))[:, 0].tolist()
        return [value if kept else 0.0 for value, kept in zip(values, self.kept, strict=True)]


def read_text(model: LanguageModel, dictionary: Dictionary, text: str) -> ReadText:
    """Run a text through the model up to the dictionary's site.

    Raises
        BadRequest  the text is empty or too long.
    """
    if not text.strip():
        raise BadRequest("The text is empty; type or paste something to read.")
    if len(text) > MOST_CHARACTERS:
        raise BadRequest(f"The text has {len(text):,} characters; {MOST_CHARACTERS:,} are read at most.")
    # A lone half of a surrogate pair is no character, and a tokenizer cannot take it.
    ids = render_plain(model, text.encode("utf-8", "replace").decode()).ids
    return read_ids(model, dictionary, ids, skip=1)


def read_ids(model: LanguageModel, dictionary: Dictionary, ids: Sequence[int], *, skip: int) -> ReadText:
    """Run token ids through the model; the first `skip` of them are context and not part of what is given back.

    Raises
        BadRequest  there are too many.
    """
    most = min(MOST_TOKENS + skip, model.context_limit)
    if len(ids) > most:
        raise BadRequest(f"The text has {len(ids) - skip:,} tokens; {most - skip:,} are read at most.")
    x = model.residual(torch.tensor([list(ids)]), dictionary.site)
    kept = keep_mask(x, torch.tensor([len(ids)]), dictionary.stats.sink_limit)[0].tolist()
    own = ids[skip:]
    return ReadText(
        tuple(model.vocabulary[i] for i in own),
        tuple(i in model.special_ids for i in own),
        x[0, skip:].float(),
        tuple(kept[skip:]),
    )


def _unexplained(dictionary: Dictionary, x: Float[Tensor, "tokens d"], code: SparseCode) -> list[float | None]:
    if dictionary.transcodes:
        return [None] * len(x)
    lost = (x - dictionary.complete(x, code)).pow(2).sum(1)
    share = lost / (x - dictionary.stats.mean_vector).pow(2).sum(1).clamp(min=1e-12)
    return [round(value, 4) for value in share.clamp(max=100).tolist()]


def _pairs(code: SparseCode) -> list[tuple[int, float]]:
    pairs = zip(code.indices.tolist(), code.values.tolist(), strict=True)
    return sorted(((int(i), float(v)) for i, v in pairs), key=lambda pair: -pair[1])
