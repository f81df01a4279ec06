"""Two checkpoints compared in features: what is found, and above all what is not."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from monoscope.core.errors import BadRequest, SiteNotFound
from monoscope.core.run import Run
from monoscope.core.site import Site
from monoscope.diffing import check_models, diff, held_passages, text_passages
from monoscope.harvest.token_store import TokenStore
from monoscope.model.toy import build_toy, planted_directions
from monoscope.model.transformer import load_model
from monoscope.pairing import open_reader
from monoscope.printing_diff import diff_text
from monoscope.safety.differing import Paired, Passage, changed_features, read_both
from monoscope.safety.elsewhere import Firings, context_changes, moved_tokens, packed

FEATURES = 400
MUSICAL = ("fox", "bear", "horse", "wolf", "rabbit")


def paired(a: torch.Tensor, b: torch.Tensor) -> Paired:
    """Counts [units, features] as the sums that the test needs."""
    sums = Paired.empty(a.shape[1])
    features = torch.arange(a.shape[1]).expand_as(a).flatten()
    sums.add(features, a.flatten(), b.flatten())
    return sums


def drawn(units: int, seed: int, factor: torch.Tensor | float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Firings per document that share a document's size and topic, in A and in B."""
    stream = np.random.default_rng(seed)
    base = stream.gamma(0.5, 8.0, (units, FEATURES)) * stream.gamma(2.0, 0.5, (units, 1))
    a, b = stream.poisson(base), stream.poisson(base * np.asarray(factor))
    return torch.tensor(a, dtype=torch.double), torch.tensor(b, dtype=torch.double)


def test_z_is_the_sum_of_differences_over_the_root_of_their_squares() -> None:
    a, b = drawn(40, 0)
    d = b - a
    assert torch.allclose(paired(a, b).z(), d.sum(0) / d.square().sum(0).sqrt())
    least = 0.3
    beyond = d - least * (a + b) / 2
    expected = beyond.sum(0) / beyond.square().sum(0).sqrt()
    found = paired(a, b).z(least)
    assert torch.allclose(found[expected > 0], expected[expected > 0])
    assert (found.abs() <= paired(a, b).z().abs() + 1e-9).all(), "a smallest change only makes it harder"
    assert torch.allclose(paired(b, a).z(least), -found), "A and B are alike but for the sign"


def test_p_agrees_with_the_signs_flipped_by_lot() -> None:
    a, b = drawn(60, 1, 1.15)
    z = paired(a, b).z()
    signs = 2.0 * np.random.default_rng(0).integers(0, 2, (20_000, 60)) - 1
    d = (b - a).numpy()
    for feature in range(8):
        lots, real = np.abs(signs @ d[:, feature]), abs(d[:, feature].sum())
        by_lot = ((lots > real + 1e-9).mean() + (lots > real - 1e-9).mean()) / 2
        assert 2 * stats.norm.sf(abs(float(z[feature]))) == pytest.approx(by_lot, abs=0.03), "ties count half"


@pytest.mark.parametrize("units", [10, 40, 300])
def test_nothing_is_found_where_nothing_changed(units) -> None:
    found = 0
    for seed in range(20):
        a, b = drawn(units, seed)
        sums, fires = paired(a, b), (a + b).sum(0) > 0
        found += int((changed_features(sums, sums, fires).q <= 0.05).sum() > 0)
    assert found <= 3, "one family in twenty may have a false discovery"


def test_of_what_is_found_few_are_false_and_most_changes_are_found() -> None:
    false = true = 0
    factor = np.ones(FEATURES)
    factor[:80] = 1.6
    for seed in range(10):
        a, b = drawn(200, seed, factor)
        sums = paired(a, b)
        found = changed_features(sums, sums, (a + b).sum(0) > 0).q <= 0.05
        true, false = true + int(found[:80].sum()), false + int(found[80:].sum())
    assert false / (true + false) <= 0.05
    assert true >= 0.8 * 80 * 10


def test_a_change_below_the_least_is_no_discovery_however_sure_it_is() -> None:
    a, b = drawn(3000, 0, 1.04)
    sums, fires = paired(a, b), torch.ones(FEATURES, dtype=torch.bool)
    assert (changed_features(sums, sums, fires).q <= 0.05).double().mean() > 0.1
    assert not (changed_features(sums, sums, fires, least=0.1).q <= 0.05).any()


def test_a_handful_of_documents_proves_nothing() -> None:
    a, b = torch.zeros(4, FEATURES), torch.full((4, FEATURES), 100.0)
    assert float(paired(a, b).z().max()) == pytest.approx(2.0), "the root of four"


def spooled(rows: list[tuple[int, int, int, int]]) -> Firings:
    """(feature, unit, token, kind) as the pass keeps them."""
    table = torch.tensor(rows)
    return Firings(packed(table[:, 0], table[:, 1], table[:, 2]).numpy(), table[:, 3].numpy().astype(np.uint8))


def fired(stream, feature: int, laws: tuple[np.ndarray, np.ndarray], rates: tuple[float, float]) -> list:
    """Firings in 60 documents, of A and of B, at token types drawn from a law each."""
    rows = []
    for unit in range(60):
        for kind, law, rate in zip((1, 2), laws, rates, strict=True):
            tokens = stream.choice(len(law), stream.poisson(rate), p=law)
            rows += [(feature, unit, int(token), kind) for token in tokens]
    return rows


def test_a_feature_that_fires_on_other_tokens_is_found_and_one_that_only_fires_more_is_not() -> None:
    stream = np.random.default_rng(0)
    law = np.ones(12) / 12
    other = np.roll(np.repeat([2.0, 0.5], 6) / 15, 3)
    rows = [row for f in range(20) for row in fired(stream, f, (law, law), (3.0, 3.0))]
    rows += [row for f in range(20, 40) for row in fired(stream, f, (law, law), (2.0, 6.0))]
    more = [row for f in range(40, 60) for row in fired(stream, f, (law, law), (2.0, 4.0))]
    rows += [(f, unit, token, 3 if kind == 1 else 2) for f, unit, token, kind in more]
    rows += [row for f in range(60, 70) for row in fired(stream, f, (law, other), (3.0, 6.0))]
    q = context_changes(spooled(rows), range(70), seed=0)
    assert sum(q[f] <= 0.05 for f in range(60)) <= 1
    assert all(q[f] <= 0.05 for f in range(60, 70))
    assert q == context_changes(spooled(rows), range(70), seed=0)


def test_the_tokens_on_which_it_fires_more_are_counted() -> None:
    rows = [(7, 0, 5, 1), (7, 0, 5, 3), (7, 1, 9, 2), (7, 2, 9, 2), (7, 3, 9, 3), (8, 0, 5, 2)]
    assert moved_tokens(spooled(rows), [7, 8, 9]) == {
        7: ([(9, 1, 3)], [(5, 2, 1)]),
        8: ([(5, 0, 1)], []),
        9: ([], []),
    }


@pytest.fixture(scope="session")
def retrained(tmp_path_factory) -> str:
    """The toy, but five animals are now heard as music."""
    names, rows = planted_directions()
    module, tokenizer = build_toy()
    direction = {name: rows[place] for place, name in enumerate(names)}
    embedding = module.get_input_embeddings().weight
    places = [tokenizer.get_vocab()[f"Ġ{word}"] for word in MUSICAL]
    with torch.no_grad():
        embedding[places] += 3 * (direction["music"] - direction["animals"])
    folder = tmp_path_factory.mktemp("retrained")
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_same_weights_differ_by_nothing(planted) -> None:
    found = diff(Run(planted.folder), "toy", tokens=1500)
    assert (found["changed"], found["changed_elsewhere"], found["features"]) == (0, 0, [])
    assert found["fvu_a"] == found["fvu_b"]
    assert found["valid"]
    assert diff_text(found).startswith("Both models have the same weights.")


def test_a_rerounded_copy_is_the_same_model(planted, tmp_path) -> None:
    module, tokenizer = build_toy()
    module.to(torch.float16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = diff(Run(planted.folder), str(tmp_path), tokens=1500)
    assert not found["same_weights"]
    assert found["changed"] + found["changed_elsewhere"] == 0


def test_halves_of_the_documents_are_no_two_models(toy, planted) -> None:
    run = Run(planted.folder)
    store = TokenStore.load(run.text("toy"))
    passages = held_passages(store, 100_000)
    dictionary = open_reader(run, None).dictionary
    sums = {}
    for each in sorted({passage.unit for passage in passages}):
        ten = [replace(p, unit=place) for place in range(10) for p in passages if p.unit == each]
        if len(sums) < 40:
            sums[each] = read_both(toy, toy, dictionary, ten).firings_a.double() / 10
    rows = torch.stack(list(sums.values()))
    halves = paired(rows[0::2], rows[1::2])
    assert not (changed_features(halves, halves, rows.sum(0) > 0).q <= 0.05).any()


def test_a_planted_change_is_found_with_its_tokens(planted, retrained, tmp_path) -> None:
    found = diff(Run(planted.folder), retrained, text="toy", tokens=20_000, out=tmp_path / "all.json")
    rows = {row["feature"]: row for row in found["features"]}
    music, animals = rows[planted.numbers["music"]], rows[planted.numbers["animals"]]
    assert music["effect"] > 0 > animals["effect"]
    for row in (music["more_in_b"], animals["more_in_a"]):
        assert {each["token"].strip() for each in row} == set(MUSICAL)
    assert music["rate_b"] > music["rate_a"]
    assert music["mean_b"] > music["mean_a"]
    effects = [round(abs(row["effect"]), 1) for row in found["features"]]
    assert effects == sorted(effects, reverse=True)
    kept = json.loads((tmp_path / "all.json").read_text())
    assert len(kept["features"]) == found["tested"]
    assert "' fox'" in diff_text(found)


def test_a_beginning_that_texts_share_counts_once(toy, planted, retrained) -> None:
    dictionary, ids = open_reader(Run(planted.folder), None).dictionary, [0, *toy.encode_text("The fox sees a bear.")]
    alone = [Passage(tuple(ids), (False,) * len(ids), 0)]
    ends = toy.encode_text(" a b c d e f g h i j")
    many = [Passage((*ids, end), (False,) * (len(ids) + 1), unit) for unit, end in enumerate(dict.fromkeys(ends))]
    assert len(many) >= 10
    found = read_both(toy, load_model(retrained), dictionary, many)
    assert found.tokens == len(ids) - 1 + len(many)
    fox = planted.numbers["animals"]
    assert int(found.firings_a[fox]) < 10 + len(many)
    assert float(found.rate.squares[fox]) == pytest.approx(float(found.rate.difference[fox] ** 2), abs=len(many))
    with pytest.raises(BadRequest, match="give at least 10"):
        read_both(toy, toy, dictionary, alone)


def test_counts_are_those_of_a_slow_reading(toy, planted, retrained) -> None:
    run, other = Run(planted.folder), load_model(retrained)
    dictionary = open_reader(run, None).dictionary
    passages = held_passages(TokenStore.load(run.text("toy")), 1500)
    found = read_both(toy, other, dictionary, passages)
    begun = set()
    fresh = [
        [p.ids[: i + 1] not in begun and not begun.add(p.ids[: i + 1]) for i in range(len(p.ids))] for p in passages
    ]
    tables = []
    for model in (toy, other):
        rows = [
            dictionary.encode(model.residual(torch.tensor([p.ids]), dictionary.site)[0, 1:]).to_dense()[new[1:]]
            for p, new in zip(passages, fresh, strict=True)
        ]
        tables.append(torch.cat(rows))
    a, b = ((table > 0) for table in tables)
    assert torch.equal(found.firings_a, a.sum(0))
    assert torch.equal(found.firings_b, b.sum(0))
    assert torch.equal(found.both, (a & b).sum(0))
    assert found.tokens == len(a)
    assert torch.allclose(found.activation.difference, (tables[1] - tables[0]).double().sum(0), atol=1e-3)


def test_talks_are_read_to_where_the_answer_begins(toy, tmp_path) -> None:
    path = tmp_path / "talks.jsonl"
    talk = [{"role": "user", "content": "Tell me about bears."}]
    answered = [*talk, {"role": "assistant", "content": "A bear is an animal."}]
    path.write_text("\n".join(json.dumps({"messages": m}) for m in (talk, answered)))
    found = {toy.decode(each.ids) for each in text_passages(toy, str(path), tokens=1000, limit=512)}
    assert {text.endswith("<|assistant|>\n") for text in found} == {True, False}
    for each in text_passages(toy, str(path), tokens=1000, limit=512):
        said = toy.decode([i for i, t in zip(each.ids, each.template, strict=True) if not t])
        assert said.startswith("Tell me about bears.")


def test_template_tokens_count_unless_told_otherwise(toy, planted, tmp_path) -> None:
    path = tmp_path / "talks.jsonl"
    lines = [{"messages": [{"role": "user", "content": f"Tell me about {word}."}]} for word in "abcdefghijkl"]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    whole = diff(Run(planted.folder), "toy", text=str(path))
    said = diff(Run(planted.folder), "toy", text=str(path), template=False)
    assert said["tokens"] < whole["tokens"]
    assert whole["documents"] == 12
    assert said["fvu_template_a"] == whole["fvu_template_a"]


def test_windows_stand_in_for_documents_that_are_few(planted, tmp_path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("The fox sees a bear near the bridge. " * 400)
    found = diff(Run(planted.folder), "toy", text=str(path))
    assert found["unit"] == "window"
    assert "windows count as evidence" in diff_text(found)
    path.write_text("The fox sees a bear.")
    with pytest.raises(BadRequest, match="give at least 10"):
        diff(Run(planted.folder), "toy", text=str(path))


def test_a_dictionary_that_no_longer_fits_is_told_first(planted, retrained) -> None:
    found = diff(Run(planted.folder), retrained, tokens=2000)
    worse = {**found, "valid": False, "fvu_b": 2 * found["fvu_a"]}
    assert diff_text(worse).startswith("The dictionary does not speak for B on this text")
    there = {**found, "valid_template": False, "fvu_template_a": 0.05, "fvu_template_b": 0.2}
    assert diff_text(there).startswith("At template tokens the dictionary does not speak for B")
    assert "does not speak" not in diff_text({**there, "template": False})


def test_models_that_cannot_be_compared_are_refused(planted, tmp_path) -> None:
    pair = open_reader(Run(planted.folder), None)
    other = load_model("toy")
    other.d_model = 64
    with pytest.raises(BadRequest, match="64 numbers and toy one of 48"):
        check_models(pair, other)
    other = load_model("toy")
    other.vocabulary[9] = b"?"
    with pytest.raises(BadRequest, match="tokenizers differ: token 9"):
        check_models(pair, other)
    other = load_model("toy")
    other.blocks, other.n_layers = other.blocks[:1], 1
    with pytest.raises(SiteNotFound, match=r"there is no resid_post\.1"):
        check_models(pair, other)
    assert pair.dictionary.site == Site(1)


def test_settings_that_make_no_sense_are_refused(planted) -> None:
    with pytest.raises(BadRequest, match="--least 2"):
        diff(Run(planted.folder), "toy", least=2)
