"""How a feature of a small dictionary comes apart in a wider one.

The parent of a latent of the wider dictionary is the latent of the smaller whose decoder row is nearest to its own, or
the one whose activations go most alike: on directions two dictionaries agree only after long training, on firing
sooner. A child is believed when the parent fires too: `shared` is the share of the child's firings on which it does.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.evaluate.codes import Codes
from monoscope.evaluate.likeness import SAME, Likeness, Partners

WAYS = ("direction", "firing")
NEW, NEW_FIRING = 0.4, 0.1
TOGETHER, HEIR, ABSORBED = 0.5, 0.7, 0.1
SILENT, NOVEL, LOOSE, PART, DUPLICATE, ABSORBS, HEIRS = range(7)
KINDS = ("silent", "new", "loose", "part", "duplicate", "absorbed", "heir")
MEANING = {
    "silent": "never fires on the rows that were read",
    "new": f"like nothing in the smaller dictionary: the best cosine is below {NEW}, or correlation below {NEW_FIRING}",
    "loose": f"most like its parent, which fires on less than {TOGETHER} of its firings",
    "part": f"the parent fires on at least {TOGETHER} of its firings",
    "duplicate": f"a part whose decoder row has cosine {SAME} or more with that of a more frequent sibling",
    "absorbed": (
        f"a part on whose tokens the heir, which elsewhere does what the parent did, fires at most {ABSORBED} of the "
        "time: the case was taken out of it"
    ),
    "heir": f"the part that correlates best with the parent, where that is at least {HEIR}: the parent lives on in it",
}


@dataclass(frozen=True)
class Parents:
    """The parent of each latent of a wider dictionary, how alike they are in both ways, and who has none: the `new`."""

    parent: Int[Tensor, "n_wide"]
    cosine: Float[Tensor, "n_wide"]
    correlation: Float[Tensor, "n_wide"]
    new: Bool[Tensor, "n_wide"]


def parents_by_direction(found: Likeness) -> Parents:
    """The latents of A whose decoder rows are nearest to those of B's latents."""
    near = found.cosine
    return Parents(near.back, near.back_score, found.correlation_back, near.back_score < NEW)


def parents_by_firing(
    found: Partners, rows_a: Float[Tensor, "n_narrow d"], rows_b: Float[Tensor, "n_wide d"]
) -> Parents:
    """The latents of A whose activations correlate best with those of B's latents."""
    cosine = torch.nn.functional.cosine_similarity(rows_a[found.back], rows_b, dim=1)
    return Parents(found.back, cosine, found.back_score, found.back_score < NEW_FIRING)


@dataclass(frozen=True)
class Splits:
    """What became of the latents of a smaller dictionary, told for each latent of the wider one.

    `kind` counts into `KINDS`; `shared` and `covers` are the shares of the child's and of the parent's firings on which
    both fire; `mass` is the child's summed activation there.
    """

    parent: Int[Tensor, "n_wide"]
    cosine: Float[Tensor, "n_wide"]
    correlation: Float[Tensor, "n_wide"]
    shared: Float[Tensor, "n_wide"]
    covers: Float[Tensor, "n_wide"]
    mass: Float[Tensor, "n_wide"]
    fires: Int[Tensor, "n_wide"]
    parent_fires: Int[Tensor, "n_narrow"]
    kind: Int[Tensor, "n_wide"]

    def children(self, parent: int) -> list[int]:
        """The believed children of a latent, the heir first, then by how much of the parent they cover."""
        mine = torch.nonzero((self.parent == parent) & (self.kind >= PART)).flatten().tolist()
        return sorted(mine, key=lambda child: (int(self.kind[child]) != HEIRS, -float(self.covers[child]), child))


@dataclass(frozen=True)
class Branch:
    """A latent in a tree of splitting; `level` counts dictionaries from the narrowest, 0.

    The figures are towards its parent and 0 at the root. `explained` is the R² of this latent's activation by a linear
    fit on its children's, `entropy` that of its children's mass in bits; None without children.
    """

    level: int
    feature: int
    fires: int
    kind: str = "root"
    cosine: float = 0.0
    correlation: float = 0.0
    shared: float = 0.0
    covers: float = 0.0
    explained: float | None = None
    entropy: float | None = None
    children: tuple["Branch", ...] = field(default=())


def find_splits(narrow: Codes, wide: Codes, rows: Float[Tensor, "n_wide d"], family: Parents) -> Splits:
    """Judge every latent of the wider dictionary, whose decoder rows are `rows`, as a child of its parent.

    Both codes are of the same tokens in the same order.
    """
    parent, cosine, correlation = family.parent, family.cosine, family.correlation
    at, child = wide.code.rows, wide.code.indices.long()
    with_parent = narrow.values_at(at, parent[child]) > 0
    both = torch.bincount(child[with_parent], minlength=len(parent))
    mass = torch.bincount(
        child[with_parent], weights=wide.code.values[with_parent].double(), minlength=len(parent)
    ).float()
    shared = both / wide.fires.clamp(min=1)
    covers = both / narrow.fires[parent].clamp(min=1)
    kind = torch.full((len(parent),), PART)
    kind[shared < TOGETHER] = LOOSE
    kind[family.new] = NOVEL
    kind[wide.fires == 0] = SILENT
    kind[_doubles(kind, parent, wide.fires, rows)] = DUPLICATE
    heir = _heirs(kind, parent, correlation, len(narrow.fires))
    heirs = heir[parent]
    with_heir = with_parent & (heirs[child] >= 0)
    beside = wide.values_at(at[with_heir], heirs[child[with_heir]]) > 0
    met = torch.bincount(child[with_heir][beside], minlength=len(parent))
    kind[(kind == PART) & (heirs >= 0) & (met <= ABSORBED * both)] = ABSORBS
    kind[heir[heir >= 0]] = HEIRS
    return Splits(parent, cosine, correlation, shared, covers, mass, wide.fires, narrow.fires, kind)


def _heirs(kind: Tensor, parent: Tensor, correlation: Tensor, n_narrow: int) -> Int[Tensor, "n_narrow"]:
    """For each parent the part that correlates best with it, where well enough; -1 where there is none."""
    heir = torch.full((n_narrow,), -1)
    fit = torch.nonzero((kind == PART) & (correlation >= HEIR)).flatten()
    fit = fit[torch.argsort(correlation[fit], stable=True)]
    heir[parent[fit]] = fit  # the last one written is the best
    return heir


def _doubles(kind: Tensor, parent: Tensor, fires: Tensor, rows: Tensor) -> Int[Tensor, "doubles"]:
    parts = torch.nonzero(kind == PART).flatten()
    parts = parts[torch.argsort(fires[parts], descending=True, stable=True)]
    parts = parts[torch.argsort(parent[parts], stable=True)]
    counts = torch.unique_consecutive(parent[parts], return_counts=True)[1] if len(parts) else parts
    found = []
    for family in parts.split(counts.tolist()):
        if len(family) > 1:
            unit = torch.nn.functional.normalize(rows[family].float(), dim=1)
            earlier = (unit @ unit.T >= SAME).tril(-1).any(1)
            found.append(family[earlier])
    return torch.cat(found) if found else parts[:0]


def summary(found: Splits) -> dict[str, object]:
    """Counts of kinds, and how many children a parent that fires has."""
    believed = found.kind >= PART
    born = torch.bincount(found.parent[believed], minlength=len(found.parent_fires))[found.parent_fires > 0]
    return {
        "kinds": {name: int((found.kind == number).sum()) for number, name in enumerate(KINDS)},
        "parents": len(born),
        "children_per_parent": float(born.double().mean()) if len(born) else 0.0,
        "split_share": float((born >= 2).double().mean()) if len(born) else 0.0,
        "childless_share": float((born == 0).double().mean()) if len(born) else 0.0,
    }


def nodes_below(splits: list[Splits], root: int) -> list[list[int]]:
    """The latents of the tree below `root`, level after level, the root's own first."""
    levels = [[root]]
    for found in splits:
        levels.append([child for parent in levels[-1] for child in found.children(parent)])
    return levels


def grow(levels: list[Codes], splits: list[Splits], root: int, level: int = 0) -> Branch:
    """The tree below a latent of the narrowest dictionary; `splits[i]` leads from `levels[i]` to `levels[i + 1]`.

    Of the codes only the latents of the tree are looked at: `nodes_below` names them.
    """
    return _grow(levels, splits, Branch(level, root, int(levels[level].fires[root])))


def _grow(levels: list[Codes], splits: list[Splits], node: Branch) -> Branch:
    if node.level == len(splits):
        return node
    found = splits[node.level]
    children = found.children(node.feature)
    if not children:
        return node
    grown = tuple(_grow(levels, splits, _branch(found, child, node.level + 1)) for child in children)
    return Branch(
        **{name: getattr(node, name) for name in _OWN},
        explained=explained(levels[node.level], node.feature, levels[node.level + 1], children),
        entropy=_entropy(found.mass[children]),
        children=grown,
    )


_OWN = ("level", "feature", "fires", "kind", "cosine", "correlation", "shared", "covers")


def _branch(found: Splits, child: int, level: int) -> Branch:
    return Branch(
        level=level,
        feature=child,
        fires=int(found.fires[child]),
        kind=KINDS[int(found.kind[child])],
        cosine=float(found.cosine[child]),
        correlation=float(found.correlation[child]),
        shared=float(found.shared[child]),
        covers=float(found.covers[child]),
    )


def _entropy(mass: Float[Tensor, "children"]) -> float:
    share = mass.double() / mass.double().sum().clamp(min=1e-300)
    return max(0.0, -sum(part * math.log2(part) for part in share.tolist() if part > 0))


def explained(narrow: Codes, parent: int, wide: Codes, children: list[int]) -> float:
    """R² over all rows of f_parent ≈ Σ w_j f_j, the w fitted by least squares without a constant.

    Only rows on which one of them fires are looked at: elsewhere both sides are 0.
    """
    at, values = narrow.columns.of_latent(parent)
    if not len(at):
        return 0.0
    columns = [wide.columns.of_latent(child) for child in children]
    rows = torch.unique(torch.cat([at, *(found for found, _ in columns)]))
    y = np.zeros(len(rows))
    y[torch.searchsorted(rows, at).numpy()] = values.double().numpy()
    x = np.zeros((len(rows), len(children)))
    for number, (found, amounts) in enumerate(columns):
        x[torch.searchsorted(rows, found).numpy(), number] = amounts.double().numpy()
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    about_mean = float((y**2).sum() - y.sum() ** 2 / narrow.code.n_rows)
    return 1.0 - float(((y - x @ weights) ** 2).sum()) / max(about_mean, 1e-30)
