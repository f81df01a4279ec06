import pytest
import torch

from monoscope.evaluate.codes import Codes
from monoscope.evaluate.likeness import Likeness, correlations, nearest
from monoscope.evaluate.splitting import (
    KINDS,
    Splits,
    explained,
    find_splits,
    grow,
    parents_by_direction,
    parents_by_firing,
    summary,
)

from .planted import codes_of, sparse_rows


def split_of(
    rows_narrow: torch.Tensor, rows_wide: torch.Tensor, narrow: Codes, wide: Codes, *, by_firing: bool = False
) -> Splits:
    near = nearest(rows_narrow, rows_wide)
    firing, forward, backward = correlations(narrow, wide, near)
    found = Likeness(near, firing, forward, backward, narrow.fires, wide.fires, narrow.code.n_rows)
    family = parents_by_firing(firing, rows_narrow, rows_wide) if by_firing else parents_by_direction(found)
    return find_splits(narrow, wide, rows_wide, family)


def planted() -> tuple[torch.Tensor, torch.Tensor, Codes, Codes]:
    """Narrow: 0 countries, 1 colours. Wide: France, Spain, Spain again, colour, red, new, silent, apart.

    France and Spain share out what the countries do; red was taken out of colour, which does the rest.
    """
    axis = torch.eye(8)
    rows_narrow = torch.stack([axis[0], axis[1]])
    spain = axis[0] - 0.4 * axis[2]
    rows_wide = torch.stack(
        [axis[0] + 0.4 * axis[2], spain, spain + 0.05 * axis[7], axis[1] + 0.1 * axis[3], axis[1] + axis[4]]
        + [axis[5], axis[1] + 0.9 * axis[6], axis[0] + 0.8 * axis[6]]
    )
    rows = 1000
    at = torch.arange(rows) % 20
    france, spain_now, red, colour = at == 0, at == 1, at == 2, (at >= 3) & (at < 15)
    strength = 1 + sparse_rows(rows, 1, 1.0)[:, 0]
    narrow, wide = torch.zeros(rows, 2), torch.zeros(rows, 8)
    narrow[:, 0] = strength * (france | spain_now)
    narrow[:, 1] = strength * (colour | red)
    wide[:, 0], wide[:, 1] = strength * france, strength * spain_now
    wide[:, 2] = 0.5 * strength * (spain_now & (torch.arange(rows) % 3 > 0))
    wide[:, 3], wide[:, 4] = strength * colour, strength * red
    wide[:, 5] = 1.0 * (at == 17)
    wide[:, 7] = 1.0 * (at == 18)
    return rows_narrow, rows_wide, codes_of(narrow), codes_of(wide)


def test_a_planted_split_is_found() -> None:
    found = split_of(*planted())
    assert [KINDS[kind] for kind in found.kind.tolist()] == [
        *("part", "part", "duplicate", "heir", "absorbed", "new", "silent", "loose")
    ]
    assert found.parent[:5].tolist() == [0, 0, 0, 1, 1]
    assert found.children(0) == [0, 1, 2]
    assert found.children(1) == [3, 4]
    assert torch.allclose(found.shared[:5], torch.ones(5))
    assert float(found.covers[0]) == 0.5
    assert float(found.covers[4]) == pytest.approx(50 / 650)
    told = summary(found)
    assert told["parents"] == 2
    assert told["split_share"] == 1
    assert told["children_per_parent"] == 2.5
    assert told["kinds"]["silent"] == 1


def test_parents_by_firing_need_no_directions() -> None:
    rows_narrow, rows_wide, narrow, wide = planted()
    turned = split_of(rows_narrow.flip(0), rows_wide, narrow, wide, by_firing=True)
    assert turned.parent[:5].tolist() == [0, 0, 0, 1, 1]
    kinds = [KINDS[kind] for kind in turned.kind.tolist()]
    assert kinds == ["part", "part", "duplicate", "heir", "absorbed", "new", "silent", "new"]
    assert float(turned.cosine[3]) < 0.2 < 0.9 < float(turned.correlation[3])


def test_the_tree_tells_how_much_the_children_explain() -> None:
    _, _, narrow, wide = parts = planted()
    tree = grow([narrow, wide], [split_of(*parts)], 0)
    assert [branch.feature for branch in tree.children] == [0, 1, 2]
    assert tree.explained is not None and tree.explained > 0.999
    assert tree.entropy is not None and 1 < tree.entropy < 1.6
    assert all(branch.level == 1 and not branch.children for branch in tree.children)
    assert explained(narrow, 0, wide, [5]) <= 0


def test_explained_is_the_r2_of_dense_least_squares() -> None:
    y, x = sparse_rows(400, 3, 0.2), sparse_rows(400, 5, 0.2, 1)
    y[:, 1] += x[:, 2] + 0.5 * x[:, 4]
    target = y[:, 1].double()
    fitted = x.double() @ torch.linalg.lstsq(x.double(), target[:, None]).solution[:, 0]
    wanted = 1 - (target - fitted).square().sum() / (target - target.mean()).square().sum()
    found = explained(codes_of(y), 1, codes_of(x), [0, 1, 2, 3, 4])
    assert abs(found - float(wanted)) < 1e-9


def test_a_tree_over_three_widths_goes_on_to_the_leaves() -> None:
    rows_narrow, rows_wide, narrow, wide = planted()
    near = split_of(rows_narrow, rows_wide, narrow, wide)
    same = split_of(rows_wide, rows_wide, wide, wide)
    tree = grow([narrow, wide, wide], [near, same], 1)
    assert [branch.feature for branch in tree.children] == [3, 4]
    assert [leaf.feature for branch in tree.children for leaf in branch.children] == [3, 4]
    assert all(leaf.level == 2 and leaf.kind == "heir" for branch in tree.children for leaf in branch.children)


def test_nothing_that_fires_gives_no_tree() -> None:
    rows_narrow, rows_wide, _, wide = planted()
    still = codes_of(torch.zeros(1000, 2))
    found = split_of(rows_narrow, rows_wide, still, wide)
    assert summary(found)["parents"] == 0
    assert grow([still, wide], [found], 0).children == ()
