import dataclasses

import pytest

from monoscope.core.errors import BadRequest
from monoscope.train.recipes import RULES, Recipe, paper


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arch", "grated"),
        ("latents", 0),
        ("k", 0),
        ("target_l0", 10_000.0),
        ("target_l0", 0.5),
        ("penalty", 3.0),
        ("read_l0", -1.0),
        ("read_l0", 1e6),
        ("options", (("bandwidth", 1.0),)),
        ("tokens", 0),
        ("batch_rows", -1),
        ("learning_rate", 0.0),
        ("learning_rate", 2.0),
        ("dead_tokens", 0),
    ],
)
def test_a_setting_out_of_range_is_named(field: str, value: object) -> None:
    words = {"arch": "Architecture", "options": "bandwidth"}
    with pytest.raises(BadRequest, match=words.get(field, field.replace("target_l0", "target.L0|target_l0"))):
        Recipe(**{field: value})


def test_what_is_read_by_a_count_takes_no_other() -> None:
    with pytest.raises(BadRequest, match="read by its k"):
        Recipe(arch="topk", read_l0=20)


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().k = 3  # type: ignore[misc]


def test_every_architecture_has_a_rule() -> None:
    for arch in RULES:
        assert Recipe(arch=arch).rule().unit_decoder == (arch != "relu")


def test_the_papers_recipe() -> None:
    recipe = paper(4096, 10**9)
    assert (recipe.arch, recipe.penalty, recipe.learning_rate, recipe.decay_share) == ("relu", 5.0, 5e-5, 0.2)
