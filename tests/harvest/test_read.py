import torch

from monoscope.core.blocks import TokenBlock
from monoscope.core.site import Site
from monoscope.harvest.read import (
    BATCH_TOKENS,
    GROUP_WINDOWS,
    Gate,
    batches_of,
    calibrate,
    groups_of_windows,
    live_blocks,
)
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel


def test_groups_deal_every_window_of_their_side_once(toy_store: TokenStore) -> None:
    for held in (False, True):
        groups = groups_of_windows(toy_store, held=held, seed=3)
        numbers = torch.cat(groups)
        assert sorted(numbers.tolist()) == torch.nonzero(toy_store.windows.held == held).flatten().tolist()
        assert all(len(group) == GROUP_WINDOWS for group in groups[:-1])
        assert numbers.tolist() != sorted(numbers.tolist())
        assert all(
            torch.equal(a, b) for a, b in zip(groups, groups_of_windows(toy_store, held=held, seed=3), strict=True)
        )


def test_batches_deal_every_window_once_within_their_budget(toy_store: TokenStore) -> None:
    windows = torch.arange(len(toy_store.windows))
    batches = list(batches_of(toy_store, windows))
    assert sorted(torch.cat(batches).tolist()) == windows.tolist()
    for batch in batches:
        assert toy_store.block(batch).ids.numel() <= BATCH_TOKENS or len(batch) == 1


def test_the_gate_lets_own_tokens_pass_that_are_no_sinks(toy_store: TokenStore) -> None:
    block = TokenBlock(
        ids=torch.zeros(2, 4, dtype=torch.long),
        lengths=torch.tensor([4, 3]),
        prefix=torch.tensor([1, 0]),
        first=torch.tensor([100, 200]),
    )
    x = torch.ones(2, 4, 1)
    x[0, 2] = 11.0
    mask, token, counts = Gate(sink_limit=10.0, template_rate=1.0, seed=0).rows(x, block, toy_store)
    # First row: a start token, 100, a sink at 101, 102. Second: its own first token is a sink by place, then padding.
    assert mask.tolist() == [[False, True, False, True], [False, True, True, False]]
    assert token[mask].tolist() == [100, 102, 201, 202]
    assert counts == {"tokens": 6, "sinks": 2, "thinned": 0}


def test_template_tokens_are_thinned_at_their_rate_and_by_nothing_else(toy_store: TokenStore) -> None:
    template = torch.nonzero(toy_store.template).flatten()
    assert len(template) > 300
    block = TokenBlock(
        ids=torch.zeros(1, toy_store.n_tokens + 1, dtype=torch.long),
        lengths=torch.tensor([toy_store.n_tokens + 1]),
        prefix=torch.tensor([1]),
        first=torch.tensor([0]),
    )
    x = torch.ones(1, toy_store.n_tokens + 1, 1)
    gate = Gate(10.0, 0.3, 0)
    mask, _, counts = gate.rows(x, block, toy_store)
    kept = mask[0, 1:]
    assert kept[~toy_store.template].all()
    share = float(kept[template].float().mean())
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / len(template)) ** 0.5
    assert counts["thinned"] == int((~kept).sum())
    assert torch.equal(gate.rows(x, block, toy_store)[0], mask)
    assert not torch.equal(Gate(10.0, 0.3, 1).rows(x, block, toy_store)[0], mask)


def test_calibration_finds_the_toys_sink(toy: LanguageModel, toy_store: TokenStore) -> None:
    gate = calibrate(toy, toy_store, Site(2), seed=0)
    x = toy.residual(toy_store.block([0]).ids, Site(2))[0].norm(dim=-1)
    assert x[0] > gate.sink_limit > 2 * float(x[1:].median())


def test_live_activations_are_the_stored_ones(
    toy: LanguageModel, toy_store: TokenStore, toy_shards: ShardStore
) -> None:
    groups = groups_of_windows(toy_store, held=True, seed=0)
    live = list(live_blocks(toy, toy_store, toy_shards.site, toy_shards.gate, groups))
    stored = list(toy_shards.blocks("held"))
    assert torch.equal(torch.cat([b.token for b in live]), torch.cat([b.token for b in stored]).long())
    assert torch.equal(torch.cat([b.x for b in live]).bfloat16(), torch.cat([b.x for b in stored]))
