"""From a toy atlas to judged labels, through a real client and a real server, and through a model on this machine."""

import json
import os

import pytest

from monoscope.atlas.query import Atlas
from monoscope.cli import run_command
from monoscope.core.errors import BadRequest, BadSource, FeatureNotFound, Unavailable
from monoscope.explain.endpoint import EndpointJudge
from monoscope.explain.feature import living_features
from monoscope.explain.local import LocalJudge
from monoscope.explaining import explain
from monoscope.model.toy import build_toy
from monoscope.model.transformer import LanguageModel
from monoscope.steer.engine import generate
from monoscope.steer.request import Request

from .scripted import ScriptedJudge, knows_the_toy

KEY = "MONOSCOPE_JUDGE_KEY"


def test_without_a_judge_the_statistics_are_reported_beside_chance(run, opened):
    found = explain(run)
    assert (found["labelled"], found["method"]) == (24, "statistics")
    assert found["score_median"] > found["control_median"]
    assert 0 <= found["below_chance"] < 0.2
    assert (found["calls"], found["features"]) == (0, [])
    assert not opened.desk.path.exists()
    assert [one["feature"] for one in explain(run, features=[7, 3])["features"]] == [7, 3]


def test_a_judge_at_an_address_names_the_planted_concepts(run, planted, some, endpoint, monkeypatch):
    monkeypatch.setenv(KEY, "sk-very-secret")
    found = explain(run, endpoint.judge, features=some)
    assert (found["labelled"], found["failed"], found["unread"], found["method"]) == (3, 0, 0, "judge:toy-judge")
    labels = {one["feature"]: one for one in found["features"]}
    for name in ("animals", "music", "chemistry"):
        one = labels[planted.numbers[name]]
        assert one["label"] == f"words about {name}"
        assert one["score"] >= 0.85
        assert one["shuffled"] < one["score"]
        assert one["fuzzing"] >= 0.85
        assert one["specificity"] > 2
    assert found["score_median"] > 0.85 > found["control_median"]
    assert found["calls"] == found["estimate"]["calls"] == len(endpoint.heard)
    for body in endpoint.heard:
        assert (body["path"], body["model"], body["temperature"]) == ("/v1/chat/completions", "toy-judge", 0)
    assert endpoint.keys == {"Bearer sk-very-secret"}


def test_the_key_is_kept_nowhere(run, some, endpoint, monkeypatch, capsys):
    monkeypatch.setenv(KEY, "sk-very-secret")
    words = ["explain", str(run.path), "--judge", endpoint.judge, "--features", str(some[0]), "--json"]
    assert run_command(words) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["labelled"] == 1
    assert "about 29 questions" in told.err
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    assert b"toy-judge" in written
    assert b"very-secret" not in written + told.err.encode() + told.out.encode()


def test_the_label_that_scores_higher_is_shown(run, planted, some, opened):
    before = {feature: opened.feature(feature) for feature in some}
    found = explain(run, ScriptedJudge(), features=some)
    kept = opened.desk.labels()
    for one in found["features"]:
        record = opened.feature(one["feature"])
        assert one["kept"] is (one["score"] > round(before[one["feature"]].label_score, 4))
        assert record.label == (one["label"] if one["kept"] else before[one["feature"]].label)
        assert kept[one["feature"]].method == "judge:scripted"
        assert kept[one["feature"]].score == pytest.approx(one["score"], abs=1e-4)
        assert set(kept[one["feature"]].details) >= {"detection", "fuzzing", "specificity", "shuffled", "kind"}
    assert found["replaced"] == sum(one["kept"] for one in found["features"]) > 0


def test_a_judged_label_that_scores_lower_stays_on_the_desk_and_is_not_shown(run, some, opened):
    def doubts(prompt: str) -> str:
        answer = knows_the_toy(prompt)
        return answer.replace("yes", "no") if "Description: " in prompt else answer

    before = opened.feature(some[0])
    found = explain(run, ScriptedJudge(doubts), features=some[:1])
    assert (found["labelled"], found["replaced"]) == (1, 0)
    assert found["features"][0]["score"] == 0.5 < before.label_score
    assert opened.desk.labels()[some[0]].text == found["features"][0]["label"]
    assert opened.feature(some[0]).label == before.label
    assert opened.labels[some[0]] == before.label


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Unavailable("The judge at … cannot be reached.")])
def test_a_stopped_run_goes_on_with_no_question_asked_twice(run, some, opened, error):
    whole = ScriptedJudge()
    explain(run, whole, features=some, dry_run=True)
    assert whole.asked == []
    first = ScriptedJudge(limit=40, error=error)
    with pytest.raises(type(error)):
        explain(run, first, features=some)
    assert list(opened.desk.labels()) == some[:1]
    second = ScriptedJudge()
    found = explain(run, second, features=some)
    assert (len(first.asked), found["cached"]) == (40, 40)
    assert found["labelled"] == 3
    asked = first.asked + second.asked
    assert len(asked) == len(set(asked)) == 40 + found["calls"]
    third = ScriptedJudge()
    again = explain(run, third, features=some)
    assert third.asked == []
    assert again["features"] == found["features"]


def test_somebody_may_ask_for_a_stop(run, some, opened):
    judge = ScriptedJudge()
    with pytest.raises(InterruptedError):
        explain(run, judge, features=some, should_stop=lambda: len(judge.asked) >= 35)
    assert len(judge.asked) == 35
    assert list(opened.desk.labels()) == some[:1]


def test_another_judge_or_seed_asks_for_itself(run, some):
    explain(run, ScriptedJudge(), features=some[:1])
    other = ScriptedJudge(identity="another")
    assert explain(run, other, features=some[:1])["cached"] == 0
    seeded = explain(run, ScriptedJudge(), features=some[:1], seed=1)
    assert seeded["cached"] >= 1  # the question for a label is the same
    assert seeded["calls"] > 10


def test_the_price_is_told_before_anything_is_asked(run, some, opened):
    told = []
    judge = ScriptedJudge()
    found = explain(run, judge, features=some, dry_run=True, tell=told.append)
    assert (found["dry_run"], found["labelled"], judge.asked) == (True, 0, [])
    assert not opened.desk.path.exists()
    assert told == [
        f"3 features: about {found['calls']:,} questions, {found['estimate']['prompt_tokens']:,} tokens to read and "
        f"{found['estimate']['answer_tokens']:,} to write"
    ]
    explain(run, judge, features=some)
    assert len(judge.asked) == found["calls"]
    real = sum(len(json.loads(asked)[0]["content"]) // 4 for asked in judge.asked)
    assert found["estimate"]["prompt_tokens"] == pytest.approx(real, rel=0.05)


def test_one_text_in_a_question_where_asked_for(run, some):
    judge = ScriptedJudge()
    found = explain(run, judge, features=some[:1], batch=1)
    assert found["labelled"] == 1
    assert not any("Text 2: " in json.loads(asked)[0]["content"] for asked in judge.asked[1:])


def test_a_judge_that_talks_nonsense_labels_nothing(run, some, endpoint, capsys, opened):
    endpoint.rule = lambda _prompt: "As a language model I like turtles."
    numbers = ",".join(map(str, some))
    words = ["explain", str(run.path), "--judge", endpoint.judge, "--features", numbers]
    assert run_command([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["labelled"], found["failed"], found["score_median"], found["replaced"]) == (0, 3, None, 0)
    assert found["calls"] == len(endpoint.heard) == 6  # each asked once more, and no scores
    assert [one["label"] for one in found["features"]] == [None] * 3
    assert all(one["statistical_label"] for one in found["features"])
    assert opened.desk.labels() == {}
    assert run_command(words) == 0
    assert "3 got no label that can be read from judge:toy-judge" in capsys.readouterr().out
    assert len(endpoint.heard) == 6


def test_scores_survive_single_answers_that_cannot_be_read(run, some):
    def mumbles(prompt: str) -> str:
        hard = "Text 4: " in prompt and "Description: " in prompt and len(prompt) % 3 == 0
        return "hm" if hard else knows_the_toy(prompt)

    found = explain(run, ScriptedJudge(mumbles), features=some)
    assert found["labelled"] == 3
    assert found["unread"] > 0
    assert all(0 <= one["score"] <= 1 for one in found["features"])


def test_examples_come_from_no_document_that_is_scored_on(run, some, opened):
    judge = ScriptedJudge()
    explain(run, judge, features=some)
    held = opened.store.held_documents
    records = [opened.feature(feature) for feature in some]
    inside = [bool(held[context.document]) for record in records for context in record.contexts]
    assert any(inside), "some contexts are held out, so that there is something to leave out"
    questions = [json.loads(asked)[0]["content"] for asked in judge.asked if "Description: " not in asked]
    assert len(questions) == 3
    for record, question in zip(records, questions, strict=True):
        for context in record.contexts:
            if held[context.document]:
                text = "".join(context.tokens).replace("\n", "⏎")[:60].strip()
                assert text not in question.replace("«", "").replace("»", "")


def test_a_rare_feature_is_skipped_and_costs_nothing(run, opened, monkeypatch):
    feature = next(iter(living_features(opened)))
    monkeypatch.setattr(Atlas, "trials", lambda _self, _feature: [])
    judge = ScriptedJudge()
    found = explain(run, judge, features=[feature])
    assert (found["skipped"], found["failed"], found["calls"], judge.asked) == (1, 0, 0, [])


# --- the address


def _error(status: int, message: str, **fields: str):
    return status, {"error": {"message": message, "type": "invalid_request_error", **fields}}


def test_newer_models_that_want_other_settings_get_them(run, some, endpoint):
    def picky(body):
        if "max_tokens" in body:
            return _error(400, "Use 'max_completion_tokens' instead.", param="max_tokens", code="unsupported_parameter")
        if "temperature" in body:
            return _error(400, "Only the default (1) value.", param="temperature", code="unsupported_value")
        return None

    endpoint.refuse = picky
    assert explain(run, endpoint.judge, features=some[:1])["labelled"] == 1
    assert endpoint.heard[-1]["max_completion_tokens"] > 0


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (_error(401, "Incorrect API key provided: sk-very-secret."), f"refuses the key; set {KEY}"),
        (_error(404, "The model `toy-judge` does not exist"), "answers 404: .*does not exist"),
        (_error(400, "context of 512 exceeded, key sk-very-secret"), "refuses the question: .*context of 512"),
        ((500, {"error": "on fire"}), "answers 500"),
        ((200, "<html>Welcome</html>"), "is it OpenAI-compatible"),
        ((200, {"choices": []}), "is it OpenAI-compatible"),
        ((200, {"choices": [{}]}), "is it OpenAI-compatible"),
    ],
)
def test_a_refusal_is_one_sentence_without_the_key(refusal, says, endpoint, monkeypatch):
    monkeypatch.setenv(KEY, "sk-very-secret")
    endpoint.refuse = lambda _body: refusal
    judge = EndpointJudge(endpoint.judge, retries=0)
    with pytest.raises(Unavailable, match=says) as refused:
        judge.ask([{"role": "user", "content": "?"}], 5)
    assert "very-secret" not in str(refused.value)
    assert endpoint.url in str(refused.value)


def test_a_content_filter_is_no_answer(endpoint):
    endpoint.refuse = lambda _body: _error(400, "filtered", code="content_filter")
    assert EndpointJudge(endpoint.judge, retries=0).ask([{"role": "user", "content": "?"}], 5) == ""


def test_an_address_at_which_nobody_listens(run, some, endpoint, capsys, monkeypatch):
    monkeypatch.setattr(EndpointJudge.__init__, "__kwdefaults__", {"retries": 0, "seconds": 5.0})
    words = ["explain", str(run.path), "--judge", "http://127.0.0.1:9/v1#m", "--features", str(some[0]), "--json"]
    assert run_command(words) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "The judge at http://127.0.0.1:9/v1 cannot be reached" in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    "source",
    ["http://host/v1", "http://host/v1#", "ftp://host/v1#m", "http://#m", "http://u:p@host/v1#m", "http://h/?k=1#m"],
)
def test_an_address_that_cannot_be_read(source):
    with pytest.raises(BadSource):
        EndpointJudge(source)


def test_without_the_client_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"pip install 'monoscope\[explain\]'"):
        EndpointJudge("http://127.0.0.1:9/v1#m")


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        (["--features", "1,x"], 2, "'1,x'"),
        (["--features", "99"], 1, "0 to 24"),
        (["--features", "24", "--judge", "toy"], 1, "never fires"),
        (["--limit", "0"], 2, "--limit"),
        (["--batch", "0"], 2, "--batch"),
        (["--judge", "http://nowhere"], 2, "URL#MODEL"),
        (["--name", "other"], 1, "no atlas named 'other'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(flags, status, says, run, capsys):
    assert run_command(["explain", str(run.path), *flags]) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert len(told.err.splitlines()) == 1


# --- a model on this machine


@pytest.fixture(scope="module")
def wide_toy() -> LanguageModel:
    """The toy with a context that is long enough for the questions, which its tokenizer mostly spells in bytes."""
    module, tokenizer = build_toy()
    module.config.max_position_embeddings = 16_384
    return LanguageModel(module, tokenizer, source="toy", digest="wide")


def test_a_local_judge_answers_greedily_through_its_template(wide_toy):
    judge = LocalJudge(wide_toy)
    messages = [{"role": "user", "content": "Tell me about the bridge"}]
    text = "<s><|system|>\nYou are a helpful toy.<|end|>\n<|user|>\nTell me about the bridge<|end|>\n<|assistant|>\n"
    ids = tuple(wide_toy.encode_text(text))
    assert judge.count(messages) == len(ids)
    asked = Request(ids, temperature=0.0, repetition_penalty=1.0, max_tokens=12)
    assert judge.ask(messages, 12) == generate(wide_toy, None, [asked])[0].text != ""


def test_a_local_judge_end_to_end(run, some, wide_toy, opened):
    told = []
    found = explain(run, LocalJudge(wide_toy), features=some[:1], tell=told.append)
    assert (found["labelled"], found["failed"], found["calls"], found["method"]) == (0, 1, 2, "judge:toy")
    assert len(told) == 2
    assert told[1].startswith("the first answer took")
    assert explain(run, LocalJudge(wide_toy), features=some[:1])["cached"] == 2
    assert opened.desk.labels() == {}


def test_a_judge_that_reads_too_little_gets_fewer_examples_or_is_not_asked(run, some):
    judge = ScriptedJudge(reads=1000)
    assert explain(run, judge, features=some[:1])["labelled"] == 1
    assert "Text 3: " in json.loads(judge.asked[0])[0]["content"]
    assert "Text 16: " not in json.loads(judge.asked[0])[0]["content"]
    small = explain(run, "toy", features=some[:1])
    assert (small["labelled"], small["failed"], small["calls"]) == (0, 1, 0)


def test_python_gets_the_same_refusals(run):
    with pytest.raises(BadRequest, match="--limit"):
        explain(run, limit=0)
    with pytest.raises(FeatureNotFound):
        explain(run, features=[99])
    assert os.environ.get(KEY) is None
