"""Plain records that an atlas answers with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Histogram:
    """How often a feature had which activation. Bin i holds values from `edges[i]` to `edges[i + 1]`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Context:
    """A piece of text with one feature's activation on each token.

    Joined, `tokens` are the text; bytes that complete a character stand at the token that completes it. `peak` is the
    place in `tokens` that the context was chosen for, `quantile` the part of the feature's range it stands for.
    """

    tokens: tuple[str, ...]
    token_bytes: tuple[bytes, ...]
    activations: tuple[float, ...]
    peak: int
    quantile: str
    document: int
    title: str
    source: str
    language: str
    first_token: int


@dataclass(frozen=True)
class Near:
    """A feature beside another: the cosine of their decoder rows, the correlation of their firing, and the lift.

    `lift` is how many times likelier it fires where the other does; None where that was not counted.
    """

    feature: int
    label: str
    cosine: float
    correlation: float
    lift: float | None = None


@dataclass(frozen=True)
class Trial:
    """A held-out window of 32 tokens on which labels are tried. `peak` is -1, `value` 0 where the feature is silent."""

    tokens: tuple[str, ...]
    token_bytes: tuple[bytes, ...]
    activations: tuple[float, ...]
    fires: bool
    peak: int
    value: float
    first_token: int
    title: str


@dataclass(frozen=True)
class FeatureRecord:
    """A feature with its evidence. A dead feature has no contexts; `map` is its place on the map, where there is one.

    `label` is the best-scoring one, of statistics or of the desk; `label_control` is what the statistical label
    reaches on another feature's windows. `silent` are contexts in which its typical token stands and it does not fire.
    `sources` and `languages` are firings a token; `typical_position` is None where the sample never met it firing.
    `concept` ranks concepts above words and grammar, from 0 to 1.
    """

    feature: int
    label: str
    label_score: float
    label_kind: str
    label_control: float
    concept: float
    density: float
    firings: int
    mean: float
    p999: float
    max_activation: float
    max_token: int
    histogram: Histogram
    contexts: tuple[Context, ...]
    silent: tuple[Context, ...]
    promoted: tuple[tuple[str, float], ...]
    suppressed: tuple[tuple[str, float], ...]
    neighbours: tuple[Near, ...]
    cofiring: tuple[Near, ...]
    typical_token: str
    typical_share: float
    typical_position: float | None
    sources: dict[str, float]
    languages: dict[str, float]
    duplicate_of: int | None
    absorbed_into: int | None
    map: tuple[float, float] | None = None
