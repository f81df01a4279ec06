"""The file of principles, when another draft follows, and the whole measurement on the toy."""

import json
from pathlib import Path

import pytest

from monoscope.constituting import fit_constitution, measure_constitution
from monoscope.core.artifact import write_json
from monoscope.core.errors import ArtifactNotFound, BadRequest, Damaged
from monoscope.core.run import Run
from monoscope.dictionary.shelf import save_dictionary
from monoscope.printing_constitution import constitution_text
from monoscope.safety.alert import Alert
from monoscope.safety.constitution import Principle, broken, load_constitution, may_redraft, withheld
from monoscope.steer.request import Generation

GOOD = {"name": "calm", "principle": "Stay calm.", "monitor": "m.json"}


def written(folder, *rows, **more):
    write_json(folder / "c.json", {"version": 1, "principles": list(rows), **more})
    return folder / "c.json"


def alert(monitor, action, stopped=True):
    return Alert("i", "w", "r", 0, monitor, action, 2.0, 1.0, 5, "reply", 1, stopped)


def test_a_constitution_is_read(tmp_path):
    examples = {"positive": "yes.jsonl", "negative": "no.jsonl"}
    second = {"name": "kind", "principle": "Be kind.", **examples, "action": "redraft", "redrafts": 3}
    one, two = load_constitution(written(tmp_path, GOOD, second))
    assert one == Principle("calm", "Stay calm.", tmp_path / "m.json", "flag", 2)
    assert two.monitor == tmp_path / "c.monitors" / "kind.json" and two.positive == tmp_path / "yes.jsonl"
    assert (two.action, two.redrafts) == ("redraft", 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "a b"}, "principle 1: The name"),
        ({"name": None}, "`name` must be a text"),
        ({"principle": " "}, "`principle` must be a text"),
        ({"action": "watch"}, "`action` must be one of flag, block, redraft"),
        ({"redrafts": True}, "`redrafts` must be a number from 1 to 5"),
        ({"redrafts": 6}, "`redrafts` must be a number from 1 to 5"),
        ({"colour": "red"}, "no setting 'colour'"),
        ({"positive": "x.jsonl"}, "go together"),
        ({"monitor": 3}, "`monitor` must be a text"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, change, sentence):
    with pytest.raises(BadRequest, match=sentence):
        load_constitution(written(tmp_path, {**GOOD, **change}))


def test_other_refusals(tmp_path):
    with pytest.raises(BadRequest, match="two principles are named calm"):
        load_constitution(written(tmp_path, GOOD, GOOD))
    with pytest.raises(BadRequest, match="a list of 1 to 100"):
        load_constitution(written(tmp_path))
    with pytest.raises(BadRequest, match="give a `monitor`"):
        load_constitution(written(tmp_path, {"name": "a", "principle": "b"}))
    with pytest.raises(BadRequest, match="no setting 'rules'"):
        load_constitution(written(tmp_path, GOOD, rules=[]))
    (tmp_path / "c.json").write_text('{"version": 2, "principles": []}')
    with pytest.raises(Damaged, match="of version 1"):
        load_constitution(tmp_path / "c.json")
    with pytest.raises(BadRequest, match="nothing to fit"):
        fit_constitution(Run(tmp_path), written(tmp_path, GOOD))


def test_when_another_draft_follows():
    two = Principle("two", "x", Path(), "redraft", 2)
    one = Principle("one", "y", Path(), "redraft", 1)
    known = {"two": two, "one": one}
    fired = broken(known, [alert("two", "redraft"), alert("one", "flag"), alert("none", "redraft"), "other"])
    assert fired == [two]
    assert [may_redraft([two], [], draft) for draft in range(3)] == [True, True, False]
    assert [may_redraft([two, one], [], draft) for draft in range(2)] == [True, False]
    assert not may_redraft([], [], 0)
    assert not may_redraft([two], [alert("b", "block")], 0) and may_redraft([two], [alert("b", "block", False)], 0)


def test_nothing_of_a_withheld_reply_is_left():
    done = withheld(Generation((1, 2), "secret", "stop", (), alerts=("a",)))
    assert done == Generation((), "", "content_filter", (), alerts=("a",)) and "secret" not in repr(done)


def test_what_it_finds_and_costs(toy_trained, tmp_path):
    run = Run(tmp_path / "run")
    save_dictionary(
        run.dictionary("toy"), toy_trained.dictionary, probe=toy_trained.probe, request={}, provenance={"model": "toy"}
    )
    rows = []
    for name, threshold, action in (("always", -1.0, "redraft"), ("never", 1e9, "redraft"), ("told", -1.0, "flag")):
        rule = {"name": "r", "feature": 1, "threshold": threshold}
        write_json(tmp_path / f"{name}.json", {"version": 1, "rules": [rule]})
        rows.append({"name": name, "principle": "p", "monitor": f"{name}.json", "action": action, "redrafts": 1})
    prompts, benign = tmp_path / "p.jsonl", tmp_path / "b.jsonl"
    prompts.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("The fox", "A story", "The sea")))
    benign.write_text(json.dumps({"messages": [{"role": "user", "content": "Who are you?"}]}) + "\n")
    settings = {"benign": benign, "max_tokens": 5}
    with pytest.raises(ArtifactNotFound, match="no file"):
        measure_constitution(run, written(tmp_path, GOOD), prompts, **settings)
    found = measure_constitution(run, written(tmp_path, *rows), prompts, **settings)
    figures, under = found["prompts"], found["prompts"]["with"]
    assert {name: each["share"] for name, each in figures["without"]["fires"].items()} == {
        "always": 1.0, "never": 0.0, "told": 1.0,
    }  # fmt: skip
    assert (under["redrafts"], under["redrafted"], under["blocked"], under["empty"]) == (3, 3, 3, 3)
    assert under["actions"] == {"flag": 6, "redraft": 6} and under["unchanged"] == 0
    assert found["benign"]["count"] == 1 and found["benign"]["with"]["blocked"] == 1
    calm = measure_constitution(run, written(tmp_path, rows[1]), prompts, **settings)["prompts"]
    assert calm["with"]["unchanged"] == 3 and calm["with"]["redrafts"] == calm["with"]["blocked"] == 0
    text = constitution_text(found)
    assert "always" in text and "3 blocked in the end" in text and "100.0%" in text
