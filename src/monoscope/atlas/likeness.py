"""Features by direction: those like another, like a sum and difference of others, and those that raise a token.

    direction = sum of ± unit decoder rows        score = cosine with each decoder row

so `12 - 45 + 67` asks for what is to 67 as 12 is to 45. What stands in the query is left out of the answer.
"""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.atlas.query import Atlas
from monoscope.atlas.search import ALL, Filters, SearchHit, hits_of
from monoscope.core.errors import BadRequest
from monoscope.dictionary.base import Dictionary

_TERM = re.compile(r"\s*([+-]?)\s*(\d+)\s*")
_BLOCK_ROWS = 1 << 18


def search_like(
    atlas: Atlas, dictionary: Dictionary, expression: str, limit: int = 10, filters: Filters = ALL
) -> list[SearchHit]:
    """Living features whose decoder rows point most like the expression, which is feature numbers with + and -.

    A single number without a filter is answered from the stored neighbours.

    Raises
        BadRequest       the expression is not understood, or cancels itself out.
        FeatureNotFound  a number is none of the atlas's.
    """
    terms = parse_expression(expression)
    for feature, _ in terms:
        atlas.check_feature(feature)
    if len(terms) == 1 and terms[0][1] > 0 and not filters.asks:
        (record,) = atlas.rows("neighbours, cosines, correlations", [terms[0][0]])
        if len(record["neighbours"]) >= limit:
            listed = zip(record["neighbours"], record["cosines"], record["correlations"], strict=True)
            return hits_of(
                atlas,
                [
                    (other, cosine, f"cosine {cosine:.2f}, fires with it: correlation {correlation:.2f}")
                    for other, cosine, correlation in list(listed)[:limit]
                ],
            )
    rows = dictionary.W_dec
    direction = sum(sign * torch.nn.functional.normalize(rows[feature].float(), dim=0) for feature, sign in terms)
    assert isinstance(direction, Tensor)
    if float(direction.norm()) < 1e-6:
        raise BadRequest(f"{expression!r} cancels itself out; there is no direction to look for.")
    cosines = cosines_with(rows, direction)
    cosines[[feature for feature, _ in terms]] = -2.0
    allowed = torch.from_numpy(filters.allowed(atlas) & (atlas.densities > 0))
    cosines[~allowed] = -2.0
    best, features = cosines.topk(min(limit, len(cosines)))
    ranked = [
        (feature, value, f"cosine {value:.2f} with {expression.strip()}")
        for value, feature in zip(best.tolist(), features.tolist(), strict=True)
        if value > -2
    ]
    return hits_of(atlas, ranked)


def parse_expression(expression: str) -> list[tuple[int, float]]:
    """Feature numbers and signs: `12`, `12 - 45 + 67`.

    Raises
        BadRequest  it is anything else.
    """
    terms, at = [], 0
    while at < len(expression):
        found = _TERM.match(expression, at)
        if found is None or (terms and not found[1]):
            break
        terms.append((int(found[2]), -1.0 if found[1] == "-" else 1.0))
        at = found.end()
    if not terms or at < len(expression):
        raise BadRequest(f"{expression!r} is not understood; write feature numbers as in 12 - 45 + 67.")
    return terms


def cosines_with(rows: Float[Tensor, "n d"], direction: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
    """The cosine of each row with a direction, in blocks."""
    direction = torch.nn.functional.normalize(direction.float(), dim=0)
    return torch.cat(
        [torch.nn.functional.normalize(block.float(), dim=1) @ direction for block in rows.split(_BLOCK_ROWS)]
    )


def search_token(atlas: Atlas, query: str, limit: int = 10, filters: Filters = ALL) -> list[SearchHit]:
    """Features among whose promoted tokens is the query, the strongest first; case and a leading space are ignored.

    Raises
        BadRequest  no token of the text is written like this.
    """
    wanted = query.strip().lower()
    vocabulary = atlas.store.vocabulary
    tokens = [
        number for number, raw in enumerate(vocabulary) if raw.decode("utf-8", "replace").strip().lower() == wanted
    ]
    if not wanted or not tokens:
        raise BadRequest(
            f"No token is written {query.strip()!r}; ask for a whole token, as one word or a piece of one."
        )
    rows = atlas.raising(tokens)
    if filters.asks:
        allowed = filters.allowed(atlas)
        rows = [row for row in rows if allowed[row[0]]]
    best: dict[int, tuple[int, float]] = {}
    for feature, token, value in rows:
        if value > best.get(feature, (0, 0.0))[1]:
            best[feature] = (token, value)
    ranked = sorted(best.items(), key=lambda item: (-item[1][1], item[0]))[:limit]
    return hits_of(
        atlas,
        [(feature, value, f"raises {_shown(vocabulary, token)} by {value:.2f}") for feature, (token, value) in ranked],
    )


def _shown(vocabulary: Sequence[bytes], token: int) -> str:
    return f"‘{vocabulary[token].decode('utf-8', 'replace').strip()}’"
