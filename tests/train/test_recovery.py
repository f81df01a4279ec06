"""What was planted in the toy is found again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from monoscope.core.site import Site
from monoscope.harvest.feed import Feed
from monoscope.harvest.shards import ShardStore
from monoscope.model.toy import planted_directions
from monoscope.model.transformer import LanguageModel
from monoscope.train.loop import train
from monoscope.train.recipes import Recipe


@pytest.fixture(scope="module")
def planted(toy: LanguageModel) -> Tensor:
    return planted_directions(toy, Site(2))[1]


def _found(planted: Tensor, rows: Tensor) -> float:
    """Share of the planted directions with a decoder row at cosine above 0.9."""
    return float(((planted @ torch.nn.functional.normalize(rows).T).amax(1) > 0.9).float().mean())


def test_batchtopk_finds_what_was_planted(planted: Tensor, toy_trained: Any) -> None:
    assert len(planted) >= 20
    assert _found(planted, toy_trained.dictionary.W_dec) >= 0.85


def test_topk_finds_what_was_planted(planted: Tensor, toy_shards: ShardStore, tmp_path: Path) -> None:
    recipe = Recipe("topk", latents=96, k=3, tokens=150_000, batch_rows=512, learning_rate=1e-2, dead_tokens=20_000)
    found = train(Feed(toy_shards, batch_rows=512, seed=0), recipe, tmp_path, request={})
    assert found is not None
    assert _found(planted, found[0].decoder) >= 0.85


def test_chance_and_an_untrained_dictionary_do_not(planted: Tensor, toy_trained: Any, toy_shards: ShardStore) -> None:
    random = torch.randn(96, planted.shape[1], generator=torch.Generator().manual_seed(0))
    assert _found(planted, random) < 0.1
    # Nor do as many of the data's own rows.
    rows = next(iter(toy_shards.blocks("train"))).x[:96].float() - toy_trained.scaling.reads.mean
    assert _found(planted, rows) < 0.5
