"""Features of a topic found, taken out and judged: by hand, against slow twins, and as a user would."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from monoscope.cli import run_command
from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode
from monoscope.core.toy_text import toy_concepts
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.removal import halves, little
from monoscope.safety.examples import Example
from monoscope.safety.passages import (
    PLAIN,
    Scores,
    Version,
    beside,
    cut_example,
    passage_of,
    plain_passage,
    score_passages,
)
from monoscope.safety.reading import Reading, read_examples
from monoscope.safety.relearning import Losses, recovery
from monoscope.safety.removing import (
    BEST,
    OWN,
    Gate,
    Removal,
    Tried,
    apart_from,
    best_gate,
    best_of,
    candidates,
    choose_features,
    control_of,
    matched_features,
    open_share,
    own_gates,
    spared_directions,
    touched,
)
from monoscope.safety.rewording import shared
from monoscope.steer.edits import parse_edit
from monoscope.steer.presets import load_preset
from monoscope.steer.resolve import resolve_all

TOPIC = "weather"  # none of its words belongs to another concept


def reading(texts: list[list[list[float]]]) -> Reading:
    """Texts of tokens of activations."""
    counts = [len(tokens) for tokens in texts]
    dense = torch.tensor([token for tokens in texts for token in tokens])
    starts = torch.tensor([0, *np.cumsum(counts)])
    nothing = torch.zeros(len(texts), dtype=torch.double)
    return Reading(
        torch.randn(len(dense), 4), SparseCode.from_dense(dense), torch.arange(len(dense)), starts, nothing, nothing
    )


@pytest.fixture
def own(planted) -> Dictionary:
    return load_dictionary(planted.folder / "dictionaries" / "planted")


def sentences(concepts: list[str], count: int, seed: int) -> list[str]:
    stream = np.random.default_rng(seed)
    words = toy_concepts()
    found = []
    for number in range(count):
        mine = words[concepts[number % len(concepts)]]
        picks = [mine[int(stream.integers(len(mine)))] for _ in range(8)]
        found.append(" ".join(f"The {a} sees the {b}." for a, b in zip(picks[::2], picks[1::2], strict=True)))
    return found


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    others = [name for name in toy_concepts() if name != TOPIC]
    paths = tmp_path / "topic.jsonl", tmp_path / "retain.jsonl"
    for path, texts in zip(paths, (sentences([TOPIC], 24, 1), sentences(others, 48, 2)), strict=True):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return paths


def test_a_feature_is_chosen_for_firing_on_the_topic_and_hardly_elsewhere() -> None:
    """Feature 0 fires on both, 1 and 2 on the topic (2 more strongly), 3 in one topic text only, 4 on the others."""
    topic = reading([[[5, 1, 0, 0, 0], [5, 0, 3, 0, 0]], [[5, 1, 0, 9, 0], [5, 0, 3, 9, 0]]])
    retain = reading([[[4, 0, 0, 0, 2], [4, 0, 0, 0, 2]], [[0, 0, 0, 0, 0], [4, 0, 0, 0, 2]]])
    found = choose_features(topic, retain, 10)
    assert [one.feature for one in found] == [2, 1]
    assert (found[0].topic_rate, found[0].retain_rate, found[0].topic_mean) == (0.5, 0.0, 1.5)
    assert [one.feature for one in choose_features(topic, retain, 1)] == [2]
    assert [one.feature for one in choose_features(topic, retain, 3, most_retain=1.0)] == [0, 2, 1]
    with pytest.raises(BadRequest, match="No feature fires"):
        choose_features(retain, topic, 10, most_retain=-1)


def test_gates_leave_other_texts_alone() -> None:
    stream = torch.Generator().manual_seed(0)
    topic = reading([(torch.rand(50, 3, generator=stream) * torch.tensor([3.0, 1.5, 1.0])).tolist()] * 4)
    retain = reading([torch.rand(1000, 3, generator=stream).tolist() for _ in range(2)])
    gates = own_gates(retain, [0, 1, 2], most_touched=0.03)
    assert [gate.feature for gate in gates] == [0, 1, 2]
    assert all(open_share(retain.code, [gate]) <= 0.01 for gate in gates)
    assert open_share(retain.code, gates) <= 0.03
    one = best_gate(topic, retain, [0, 1, 2], most_touched=0.01)
    assert one.feature == 0
    assert open_share(topic.code, [one]) == pytest.approx(2 / 3, abs=0.1)
    assert open_share(topic.code, [Gate(0, 1e9)]) == 0
    few = own_gates(reading([[[0.5, 0, 0], [0.2, 0, 0]]]), [0], most_touched=0.001)
    assert few[0].above == 0.5, "too few tokens to promise a rate: nothing that was seen gets through"


def test_each_way_has_its_grid_and_its_edits() -> None:
    some = reading([[[0.25, 0.0], [0.125, 2.0]]] * 3)
    clamps = candidates("clamp", [0, 1], some, some)
    assert [len(one.features) for one in clamps] == [1] * 4 + [2] * 4, "the first feature, then both"
    assert [str(edit) for edit in clamps[4].edits()] == ["0 clamp -0.01r", "1 clamp -0.01r"]
    gated = candidates("conditional", [0, 1], some, some, strengths=[0.5])
    assert [one.gating for one in gated] == [OWN, BEST]
    assert [str(edit) for edit in gated[0].edits()] == ["0 clamp -0.5r if 0 > 0.25", "1 clamp -0.5r if 1 > 2"]
    assert all(str(parse_edit(str(edit))) == str(edit) for one in gated for edit in one.edits())
    assert candidates("weights", [0], some, some)[0].edits() == ()
    assert touched(some, clamps[0]) == 1
    with pytest.raises(BadRequest, match="--way 'burn' is not known"):
        candidates("burn", [0], some, some)


def test_the_strongest_within_the_cost_is_taken() -> None:
    grid = [Tried(Removal("clamp", (1,), s), *found) for s, found in [(1, (0.1, 0.0)), (2, (0.4, 0.02)), (3, (2, 0.3))]]
    assert best_of(grid, 0.02) == (grid[1], True)
    assert best_of(grid, 0.01) == (grid[0], True)
    assert best_of(grid[1:], 0.01) == (grid[1], False)


def test_the_control_differs_in_the_features_only(own) -> None:
    removal = Removal("conditional", (3, 5), 0.4, (Gate(3, 1.0), Gate(5, 1.5)), OWN)
    version, drawn = control_of(removal, own, seed=1)
    assert len({*drawn, 3, 5}) == 4
    assert [str(move) for move in version.moves] == [
        f"{drawn[0]} clamp -0.4r if 3 > 1",
        f"{drawn[1]} clamp -0.4r if 5 > 1.5",
    ]
    assert control_of(removal, own, seed=1)[1] == drawn
    weights = control_of(Removal("weights", (3, 5), 1.5), own)[0].weights
    assert weights is not None
    assert (weights.basis.shape, weights.strength, weights.last_block) == ((48, 2), 1.5, 1)
    with pytest.raises(BadRequest, match="too few living features"):
        matched_features(own, range(20))


def test_weights_leave_alone_what_all_text_rests_on(toy, own) -> None:
    texts = [Example(str(n), False, text) for n, text in enumerate(sentences(list(toy_concepts()), 24, 0))]
    some = read_examples(toy, own, texts)
    spared = spared_directions(toy, some, 1)
    assert torch.allclose(spared.T @ spared, torch.eye(spared.shape[1]), atol=1e-4)
    assert 3 <= spared.shape[1] < 12, "the mean, three axes of 48, and the first token's directions"
    mean = torch.nn.functional.normalize(some.x.float().mean(0), dim=0)
    assert float((mean @ spared).norm()) == pytest.approx(1, abs=1e-2)
    basis = apart_from(own.W_dec[:4], spared)
    assert basis.shape == (48, 4)
    assert float((basis.T @ spared).abs().max()) < 1e-4
    assert apart_from(torch.cat([own.W_dec[:2], spared.T[:1]]), spared).shape == (48, 2), (
        "one that is spared is left out"
    )
    with pytest.raises(BadRequest, match="along which all text varies"):
        apart_from(spared.T, spared)


def test_scores_are_those_of_one_text_at_a_time(toy, own) -> None:
    examples = [
        Example("a", True, "The rain sees the fog."),
        Example("b", True, messages=(("user", "Tell me about snow"), ("assistant", "The snow meets a cloud."))),
        Example("c", False, "A fox."),
    ]
    some = [passage_of(toy, example) for example in examples]
    version = Version(resolve_all(["10 clamp -0.5r"], own))
    assert not np.allclose(score_passages(toy, some).loss, score_passages(toy, some, version).loss)
    for passage, loss, right, tokens in zip(
        some, *(getattr(score_passages(toy, some), name) for name in ("loss", "right", "tokens")), strict=True
    ):
        scores = toy.logits(torch.tensor([passage.ids]))[0].log_softmax(-1)
        places = [n for n in range(1, len(passage.ids)) if not passage.template[n]]
        assert tokens == len(places)
        assert loss == pytest.approx(-sum(float(scores[n - 1, passage.ids[n]]) for n in places), rel=1e-4)
        assert right == sum(int(scores[n - 1].argmax()) == passage.ids[n] for n in places)


def test_a_text_on_which_no_gate_opens_is_read_as_by_the_plain_model(toy, own, planted) -> None:
    number = planted.numbers[TOPIC]
    version = Removal("conditional", (number,), 0.8, (Gate(number, 1.5),), OWN).version(own)
    plain, edited = (
        score_passages(
            toy,
            [plain_passage(toy, "a", "The fox sees the king."), plain_passage(toy, "b", "The rain sees the fog.")],
            one,
        )
        for one in (PLAIN, version)
    )
    assert plain.loss[0] == edited.loss[0]
    assert plain.loss[1] != edited.loss[1]


def test_words_in_front_are_read_but_not_scored(toy) -> None:
    alone, behind = (plain_passage(toy, "a", "The rain sees the fog.", before=before) for before in ("", "The fox. "))
    assert sum(alone.scored()) == sum(behind.scored()) == len(toy.encode_text("The rain sees the fog."))
    last = [token for token, counts in zip(behind.ids[1:], behind.scored(), strict=True) if counts]
    assert tuple(last) == alone.ids[1:]
    assert len(behind.ids) > len(alone.ids)


def test_texts_are_cut_where_the_allowance_ends(toy) -> None:
    text = "The rain sees the fog. " * 40
    cut = cut_example(toy, Example("a", True, text), most_tokens=9)
    assert text.startswith(cut.text)
    assert len(toy.encode_text(cut.text)) == 9
    talk = Example("b", True, messages=(("user", text), ("assistant", text)))
    assert [role for role, _ in cut_example(toy, talk, most_tokens=9).messages] == ["user"]
    short = Example("c", True, messages=(("user", "A fox."), ("assistant", "A cloud.")))
    assert cut_example(toy, short) == short


def test_figures_stand_beside_plain_and_control() -> None:
    tokens = np.array([2.0, 2.0])
    plain, edited, control = (
        Scores(np.array(loss), np.array(right), tokens)
        for loss, right in [([1.0, 3.0], [2.0, 1.0]), ([3.0, 5.0], [1.0, 0.0]), ([1.0, 3.0], [2.0, 1.0])]
    )
    found = beside(plain, edited, control)
    assert found["loss"] == {"plain": 1.0, "edited": 2.0, "control": 1.0}
    assert found["loss_rise"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["loss_rise_control"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["perplexity_cost"] == pytest.approx(math.e - 1, abs=1e-4)
    assert found["perplexity_cost_interval"] == [found["perplexity_cost"]] * 2
    assert found["accuracy"] == {"plain": 0.75, "edited": 0.25, "control": 0.75}
    assert not little(found)
    assert little(beside(plain, control, control))


def test_what_came_back_is_a_share_of_what_was_lost() -> None:
    def scores(*losses: float) -> Scores:
        return Scores(np.array(losses), np.zeros(len(losses)), np.ones(len(losses)))

    before = Losses(scores(1, 1, 1), scores(2, 2, 2))
    after = Losses(scores(0.5, 0.5, 0.5), scores(0.75, 0.75, 0.75))
    found = recovery(before, after)
    assert (found["lost_before"], found["lost_after"], found["recovered"]) == (1.0, 0.25, 0.75)
    assert found["recovered_interval"] == [0.75, 0.75]
    assert (
        recovery(Losses(scores(1, 1), scores(1, 1)), after.__class__(scores(1, 1), scores(1, 1)))["recovered"] is None
    )


def test_copies_are_told_from_rewordings() -> None:
    source = "Acid is a molecule that can donate a proton."
    assert shared(source, source.upper()) == 1
    assert shared(source, "A molecule that can give away a proton is called an acid") == pytest.approx(2 / 10)
    assert shared(source, "Acid") == 0


def test_groups_stay_on_one_side_and_small_sets_are_refused() -> None:
    topic = [Example(f"t{n}", True, f"rain {n}", group=f"g{n // 2}") for n in range(40)]
    retain = [Example(f"r{n}", False, f"fox {n}", group=f"g{n // 4}") for n in range(60)]
    found = halves(topic, retain, seed=3)
    sides = [{one.group for half in found for one in getattr(half, side)} for side in ("choosing", "judging")]
    assert not sides[0] & sides[1]
    assert sum(len(half.choosing) + len(half.judging) for half in found) == 100
    with pytest.raises(BadRequest, match="The topic texts make halves of"):
        halves(topic[:8], retain)


def test_a_topic_is_taken_out_of_the_toy(run, planted, files, capsys) -> None:
    topic, retain = map(str, files)
    words = ["remove", str(run.path), "--topic", topic, "--retain", retain]
    assert run_command([*words, "--features", "1", "--preset", "no-weather", "--json"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    number = planted.numbers[TOPIC]
    assert [row["feature"] for row in found["features"]] == [number]
    assert found["edits"] == [
        f"{number} clamp -{found['strength']:g}r if {number} > {found['features'][0]['threshold']:g}"
    ]
    forget = found["forget"]
    assert forget["loss_beyond_control"]["low"] > 0, "beyond a random feature on the same tokens"
    assert forget["loss"]["edited"] > forget["loss"]["plain"]
    assert found["touched"]["retain"] <= 0.02 < found["touched"]["topic"]
    assert abs(found["retain"]["perplexity_cost"]) < 0.1
    assert {"neighbours", "few_shot", "battery", "grid", "control"} <= set(found)
    assert found["perplexity_cost"] == found["held_out"]["perplexity_cost"]
    assert list(load_preset(run.path, "no-weather").edits) == found["edits"]


def test_weights_are_taken_out_and_written(run, files, tmp_path, capsys) -> None:
    topic, retain = map(str, files)
    out = tmp_path / "forgetful"
    words = ["remove", str(run.path), "--topic", topic, "--retain", retain, "--way", "weights", "--features", "2"]
    assert run_command([*words, "--neighbour", retain, "--paraphrase", topic, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[0].startswith(("Little is forgotten", "Something is forgotten"))
    assert "written to" in told
    record = json.loads((out / "monoscope_removal.json").read_text())
    assert record["way"] == "weights"
    assert run_command([*words, "--out", str(out)]) == 2
    assert "there already" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--way", "burn"], "--way 'burn' is not known"),
        (["--features", "0"], "must lie between 1 and 64"),
        (["--out", "somewhere"], "leaves the weights as they are"),
        (["--way", "weights", "--preset", "a"], "Edited weights are no preset"),
        (["--preset", "../a"], "cannot name a preset"),
    ],
)
def test_refusals_say_what_is_wrong(run, files, capsys, extra, sentence) -> None:
    assert run_command(["remove", str(run.path), "--topic", str(files[0]), "--retain", str(files[1]), *extra]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
