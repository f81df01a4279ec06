import dataclasses
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monoscope.core.sparse import SparseCode
from monoscope.evaluate.completeness import (
    Units,
    completeness,
    fit_presence,
    make_units,
    presence_bins,
    read_units,
    shuffled,
)
from monoscope.evaluate.mentions import find_mentions, titles

NAMES = tuple(f"name {number}" for number in range(60))


def planted(known: int, seed: int = 0) -> tuple[SparseCode, Units]:
    """Sixty names, the rarest last; the first `known` have a latent of their own, with a few misses and false alarms.

    Ten more latents fire at random on a tenth of the units.
    """
    random = np.random.default_rng(seed)
    counts = np.maximum(4, 300 // np.arange(1, 61))
    concept = np.concatenate([np.repeat(np.arange(60), counts), np.full(400, -1)])
    dense = np.zeros((len(concept), 70), dtype=np.float32)
    for name in range(known):
        dense[(concept == name) & (random.random(len(concept)) < 0.95), name] = 2.0
        dense[random.random(len(concept)) < 0.0005, name] = 1.0
    dense[:, 60:] = np.where(random.random((len(concept), 10)) < 0.1, random.random((len(concept), 10)), 0)
    place = np.arange(len(concept))
    tunes = np.zeros(len(concept), dtype=bool)
    for name in range(-1, 60):
        tunes[np.flatnonzero(concept == name)[1::2]] = True
    units = Units(NAMES, concept, place, place + 1, tunes, counts / 20_000)
    return SparseCode.from_dense(torch.from_numpy(dense)), units


def test_planted_concepts_are_present_and_the_others_are_not() -> None:
    code, units = planted(30)
    found = completeness(code, units)
    assert [concept.name for concept in found] == list(NAMES)
    right = [concept.present == (number < 30) for number, concept in enumerate(found)]
    assert np.mean(right) > 0.95
    known = found[0]
    assert known.feature == 0
    assert known.precision > 0.98
    assert 0.85 < known.recall <= 1
    assert known.leak < 0.05
    assert known.f1 == pytest.approx(2 * known.precision * known.recall / (known.precision + known.recall))


def test_mentions_dealt_out_at_random_leave_nothing_present() -> None:
    code, units = planted(60)
    assert np.mean([concept.present for concept in completeness(code, units)]) > 0.9
    control = completeness(code, shuffled(units))
    assert [concept.mentions for concept in control] == [concept.mentions for concept in completeness(code, units)]
    assert np.mean([concept.present for concept in control]) < 0.05


def test_the_measuring_half_has_no_say_in_the_choice() -> None:
    """A latent that fires on a name's measuring half alone is not found; one that does so in tuning alone is no use."""
    concept = np.repeat(np.arange(3), 20)
    tunes = np.tile([False, True], 30)
    dense = np.zeros((60, 3), dtype=np.float32)
    dense[(concept == 0) & ~tunes, 0] = 1
    dense[(concept == 1) & tunes, 1] = 1
    dense[concept == 2, 2] = 1
    units = Units(("a", "b", "c"), concept, np.arange(60), np.arange(60) + 1, tunes, np.full(3, 0.1))
    found = completeness(SparseCode.from_dense(torch.from_numpy(dense)), units)
    assert [concept.present for concept in found] == [False, False, True]
    assert [concept.feature for concept in found] == [-1, 1, 2]


def test_the_threshold_is_the_best_of_all_on_the_tuning_half() -> None:
    """Against trying every threshold of every latent on a dense matrix."""
    random = np.random.default_rng(3)
    dense = np.round(np.where(random.random((200, 6)) < 0.3, random.random((200, 6)), 0), 1).astype(np.float32)
    concept = random.integers(0, 4, 200)
    tunes = random.random(200) < 0.5
    units = Units(tuple("abcd"), concept, np.arange(200), np.arange(200) + 1, tunes, np.full(4, 0.1))
    for number, concept_found in enumerate(completeness(SparseCode.from_dense(torch.from_numpy(dense)), units)):
        best = max(
            (_f1(dense[tunes, latent] >= cut, concept[tunes] == number), latent, cut)
            for latent in range(6)
            for cut in np.unique(dense[dense > 0])
        )
        ways = [
            _f1(dense[~tunes, latent] >= cut, concept[~tunes] == number)
            for latent in range(6)
            for cut in np.unique(dense[dense > 0])
            if _f1(dense[tunes, latent] >= cut, concept[tunes] == number) == best[0]
        ]
        assert any(abs(concept_found.f1 - way) < 1e-9 for way in ways)


def _f1(said: np.ndarray, true: np.ndarray) -> float:
    return 2 * (said & true).sum() / max(1, said.sum() + true.sum())


def test_a_planted_curve_is_found_again() -> None:
    random = np.random.default_rng(0)
    reach = 10 ** random.uniform(-2, 2, 20_000)
    present = random.random(20_000) < 1 / (1 + np.exp(-(1.0 + 2.0 * np.log10(reach))))
    fit = fit_presence(reach, present)
    assert fit.a == pytest.approx(1.0, abs=0.1)
    assert fit.b == pytest.approx(2.0, abs=0.1)
    assert fit.half == pytest.approx(10**-0.5, rel=0.1)
    bins = presence_bins(reach, present)
    assert sum(bin_["concepts"] for bin_ in bins) == 20_000
    assert all(abs(b["present"] - 1 / (1 + np.exp(-(1 + 2 * np.log10(b["reach"]))))) < 0.06 for b in bins)


def test_the_half_point_moves_as_one_over_the_latents() -> None:
    """Presence of a name planted at frequency above 1 / latents, for two widths: the multiple stays the same."""
    frequency = 10 ** np.linspace(-5, -2, 400)
    halves = [fit_presence(frequency * width, frequency * width > 0.5).half for width in (2000, 16_000)]
    assert halves == pytest.approx([0.5, 0.5], rel=0.15)


@settings(max_examples=10)
@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(0, 5))
def test_the_fit_is_finite_whatever_is_present(present: list[bool], seed: int) -> None:
    reach = 10 ** np.random.default_rng(seed).uniform(-3, 3, len(present))
    fit = fit_presence(reach, present)
    assert np.isfinite([fit.a, fit.b]).all()
    assert fit.half is None or fit.half > 0


def test_mentions_are_found_as_whole_words_with_their_tokens(toy_store) -> None:
    names = titles(toy_store)
    word = _words(toy_store)[0]
    found = find_mentions(toy_store, (word, "neverthere", word[:3]))
    assert len(found)
    for name, first, last in zip(found.name.tolist(), found.first.tolist(), found.last.tolist(), strict=True):
        assert found.names[name].casefold() in toy_store.text_of(first, last).casefold()
        assert found.names[name].casefold() not in toy_store.text_of(first + 1, last).casefold()
    assert "neverthere" not in {found.names[name] for name in found.name.tolist()}
    assert all(len(name) >= 3 and "(" not in name for name in names)


def _words(store) -> list[str]:
    """Whole words of the text's beginning, the longest first."""
    return sorted(set(re.findall(r"[a-z]+", store.text_of(0, 200))[:-1]), key=lambda word: (-len(word), word))


def test_units_are_mentions_and_other_tokens_and_every_half_has_some(toy_store, toy_trained, toy_shards) -> None:
    word = _words(toy_store)[0]
    mentions = find_mentions(toy_store, (word,))
    units = make_units(toy_store, mentions)
    mine = units.concept == 0
    assert abs(int(units.tunes[mine].sum()) - int((~units.tunes[mine]).sum())) <= 1
    inside = np.zeros(toy_store.n_tokens, dtype=int)
    for first, last in zip(units.first.tolist(), units.last.tolist(), strict=True):
        inside[first:last] += 1
    assert inside.max() == 1
    held = toy_store.held_documents[toy_store.document_of(mentions.first)]
    train_tokens = int(toy_store.offsets.diff()[~toy_store.held_documents].sum())
    assert units.frequency[0] == pytest.approx(int((~held).sum()) / train_tokens)
    code, seen = read_units(toy_trained.dictionary, toy_shards, units, toy_store.n_tokens)
    assert code.n_rows == len(seen.concept) <= len(units.concept)
    _check_largest(code, seen, toy_trained.dictionary, toy_shards)


def _check_largest(code, seen, dictionary, shards) -> None:
    dense = {}
    for block in shards.blocks("all"):
        for token, row in zip(block.token.tolist(), dictionary.encode(block.x.float()).to_dense(), strict=True):
            dense[token] = row
    for unit in range(0, code.n_rows, max(1, code.n_rows // 20)):
        tokens = range(int(seen.first[unit]), int(seen.last[unit]))
        wanted = torch.stack([dense[token] for token in tokens if token in dense]).amax(0)
        assert torch.allclose(code.row_slice(unit, unit + 1).to_dense()[0], wanted, atol=1e-4)


def test_a_template_mentions_nothing(toy_store) -> None:
    mentions = find_mentions(toy_store, (_words(toy_store)[0],))
    template = torch.zeros(toy_store.n_tokens, dtype=torch.bool)
    template[int(mentions.first[0]) : int(mentions.last[0])] = True
    units = make_units(dataclasses.replace(toy_store, template=template), mentions)
    assert int((units.concept == 0).sum()) == len(mentions) - 1
    assert int(mentions.first[0]) not in units.first
