import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.relu import ReluDictionary
from monoscope.evaluate.fidelity import fidelity
from monoscope.evaluate.report import report
from monoscope.evaluate.splice import Splice, splice
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore
from monoscope.model.transformer import LanguageModel

TOKENS = 1500


def _dictionary(rows: Tensor, bias: float, b_dec: Tensor, stats: Stats) -> Dictionary:
    weights = Weights(rows.T.contiguous(), torch.full((len(rows),), bias), rows, b_dec)
    sized = dataclasses.replace(stats, **dict.fromkeys(("max", "p999", "density"), torch.zeros(len(rows))))
    return ReluDictionary(weights, site=Site(2), name="made", stats=sized, settings={})


def test_recovered_worked_by_hand() -> None:
    made = Splice(100, ce_clean=4.6936, ce_spliced=4.7141, ce_zero=13.0766, ce_mean=13.0766, kl=0.02)
    assert made.ce_recovered == pytest.approx(0.99755, abs=1e-5)
    assert made.ce_recovered_zero == pytest.approx(0.99755, abs=1e-5)


def test_a_dictionary_that_keeps_everything_changes_nothing(
    toy: LanguageModel, toy_store: TokenStore, toy_trained: Any
) -> None:
    both = torch.cat([torch.eye(toy.d_model), -torch.eye(toy.d_model)])
    whole = _dictionary(both, 0.0, torch.zeros(toy.d_model), toy_trained.dictionary.stats)
    found = splice(whole, toy, toy_store, tokens=TOKENS)
    assert found.ce_recovered == pytest.approx(1.0, abs=1e-5)
    assert found.kl == pytest.approx(0.0, abs=1e-6)
    assert found.ce_zero > found.ce_clean + 1 and found.ce_mean > found.ce_clean + 1


def test_a_dictionary_that_only_knows_the_mean_recovers_nothing(
    toy: LanguageModel, toy_store: TokenStore, toy_trained: Any
) -> None:
    stats = toy_trained.dictionary.stats
    found = splice(_dictionary(torch.eye(toy.d_model), -1e6, stats.mean_vector, stats), toy, toy_store, tokens=TOKENS)
    assert found.ce_spliced == pytest.approx(found.ce_mean, rel=1e-6)
    assert found.ce_recovered == pytest.approx(0.0, abs=1e-6) and found.kl > 1


def test_cross_entropies_are_those_of_windows_run_one_by_one(
    toy: LanguageModel, toy_store: TokenStore, toy_trained: Any
) -> None:
    dictionary = toy_trained.dictionary
    limit = dictionary.stats.sink_limit

    def change(x: Tensor) -> Tensor:
        out = x.clone()
        for place in range(1, x.shape[1]):
            if x[0, place].norm() <= limit:
                out[0, place] = dictionary.decode(dictionary.encode(x[0, place : place + 1]))[0]
        return out

    windows, clean, spliced, count = toy_store.windows, 0.0, 0.0, 0
    for number in torch.nonzero(windows.held).flatten().tolist():
        start, length = int(windows.start[number]), int(windows.length[number])
        ids = [toy_store.prefix_id] * int(windows.prefixed[number]) + toy_store.ids[start : start + length].tolist()
        ids = torch.tensor([ids])
        count += ids.shape[1] - 1
        clean += float(cross_entropy(toy.logits(ids)[0, :-1], ids[0, 1:], reduction="sum"))
        changed = toy.logits(ids, site=dictionary.site, change=change)
        spliced += float(cross_entropy(changed[0, :-1], ids[0, 1:], reduction="sum"))
    found = splice(dictionary, toy, toy_store, tokens=10**9)
    assert found.tokens == count
    assert found.ce_clean == pytest.approx(clean / count, rel=1e-5)
    assert found.ce_spliced == pytest.approx(spliced / count, rel=1e-4)


def test_a_trained_dictionary_lies_between_and_its_report_says_so(
    toy: LanguageModel, toy_store: TokenStore, toy_shards: ShardStore, toy_trained: Any
) -> None:
    measured = fidelity(toy_trained.dictionary, toy_shards)
    found = report(measured, splice(toy_trained.dictionary, toy, toy_store, tokens=TOKENS))
    # A reconstruction this good may by chance predict a little better than the activation itself.
    assert abs(found["ce_spliced"] - found["ce_clean"]) < 0.1 * (found["ce_mean"] - found["ce_clean"])
    assert 0.9 < found["ce_recovered"] < 1.1 and 0 < found["kl"] < 0.5
    assert 0 < found["fvu"] < 0.15
    assert found["fvu"] == measured.fvu and found["tokens"] == toy_shards.rows("held")
    assert found["n_latents"] == toy_trained.dictionary.n_latents
    assert found["dead_fraction"] == found["dead"] / found["n_latents"]
