import re
from xml.etree import ElementTree

from monoscope.render.tree import Twig, tree_svg

NAME = "{http://www.w3.org/2000/svg}"
TREE = Twig(
    "countries",
    note="0.9 %",
    children=(
        Twig("France & <Paris>", size=0.5, bond=0.9, told="cosine 0.8", children=(Twig("Paris"), Twig("Lyon"))),
        Twig("Spain", size=0.1, mark="dashed", more=3, children=(Twig("Madrid", mark="hollow"),)),
    ),
)


def test_the_tree_has_every_node_and_one_line_to_each_but_the_root() -> None:
    picture = ElementTree.fromstring(tree_svg(TREE, ("2,048", "8,192", "32,768"), title="Countries"))
    words = [text.text or "" for text in picture.iter(f"{NAME}text")]
    for label in ("countries", "France & <Paris>", "Paris", "Lyon", "Spain", "Madrid", "and 3 more", "32,768"):
        assert label in words
    assert len([c for c in picture.iter(f"{NAME}circle")]) == 6
    assert len([p for p in picture.iter(f"{NAME}path")]) == 6


def test_leaves_have_rows_of_their_own_and_parents_stand_in_their_middle() -> None:
    picture = ElementTree.fromstring(tree_svg(TREE, ("a", "b", "c")))
    at = {
        group[-1].text: (float(circle.get("cx")), float(circle.get("cy")))
        for group in picture.iter(f"{NAME}g")
        for circle in group.iter(f"{NAME}circle")
    }
    leaves = sorted(at[name][1] for name in ("Paris", "Lyon", "Madrid"))
    assert all(b - a >= 19 for a, b in zip(leaves, leaves[1:], strict=False))
    assert at["France & <Paris>"][1] == (at["Paris"][1] + at["Lyon"][1]) / 2
    assert at["countries"][0] < at["Spain"][0] < at["Madrid"][0]
    assert at["Spain"][0] == at["France & <Paris>"][0]


def test_a_lone_root_is_a_tree_too() -> None:
    picture = tree_svg(Twig("only", size=float("nan"), bond=-1), ())
    assert "only" in picture
    assert not re.search(r"\bnan\b", picture)


def test_the_legend_stands_below() -> None:
    picture = tree_svg(TREE, ("a",), legend=(("", "a part"), ("dashed", "absorbed")))
    assert picture.index("absorbed") > picture.index("Madrid")
