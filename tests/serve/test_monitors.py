"""Monitors at work in the server: what is flagged, blocked and written again, what is told, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import openai
import pytest
import torch

from monoscope.core.artifact import read_json, write_json
from monoscope.core.errors import ArtifactNotFound, BadRequest, Busy, Damaged, FeatureNotFound, RequestDiffers
from monoscope.core.run import Run
from monoscope.model.chat import render_chat
from monoscope.patrolling import Duty, open_patrol, parse_monitor
from monoscope.safety import constitution as room
from monoscope.serve.app import create_app, free_port, start_in_background
from monoscope.serve.library import Library
from monoscope.serve.v1_schemas import ChatAnswer
from monoscope.steer.engine import generate
from monoscope.steer.request import Request

from .client import PORT, Client, events

HELLO = [{"role": "user", "content": "Tell me a story about a fox."}]
GREEDY = {"temperature": 0, "max_tokens": 12}
PLAIN = {"repetition_penalty": 1.0, "top_p": 1.0}


def said(toy, messages=HELLO):
    """The plain greedy reply."""
    rendered = render_chat(toy, messages, reply_follows=True)
    request = Request(rendered.ids, template=rendered.template, **PLAIN, **GREEDY)
    return rendered.ids, generate(toy, None, [request])[0]


@pytest.fixture(scope="module")
def firing(toy, books):
    """A feature, a threshold, and the token of the plain reply that is the first above it."""
    prompt, done = said(toy)
    dictionary = books.dictionary()
    x = toy.residual(torch.tensor([[*prompt, *done.ids]]), dictionary.site)[0, len(prompt) :].float()
    code = dictionary.encode(x).to_dense()
    # Silent at first, loud later, by a wide margin.
    for place in range(3, len(done.ids) - 1):
        quiet = code[:place].amax(0)
        best = int((code[place] - quiet).argmax())
        if float(quiet[best]) < 0.3 * float(code[place, best]):
            return best, 0.6 * float(code[place, best]), place
    raise AssertionError("no feature begins to fire in the reply")


def rule(folder, firing, name="loud", **more):
    feature, threshold, _ = firing
    values = {"name": name, "feature": feature, "threshold": threshold, "part": "reply", **more}
    path = folder / f"{name}.json"
    write_json(path, {"version": 1, "rules": [values]})
    return path


@pytest.fixture
def serving(run, toy, tmp_path, firing):
    """A server in this process under some duty."""
    made = []

    def make(**duty):
        patrol = open_patrol(Run(run), Duty(alerts=tmp_path / "alerts.jsonl", **duty))
        library = Library(run, patrol=patrol)
        library.give_model(toy)
        made.append(library)
        client = Client(create_app(run, library=library, port=PORT))
        client.books = library
        return client

    yield make
    for library in made:
        library.close()


def chat(client, **fields):
    body = {"model": "toy", "messages": HELLO, **GREEDY, **fields}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def streamed(answer):
    """The text, the reason and the alerts of a stream."""
    lines = [line.removeprefix("data: ") for line in answer.text.strip().split("\n\n")]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return text, choices[-1]["finish_reason"], chunks[-1]["monoscope"]["alerts"]


def lines_of(tmp_path):
    return [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("action", ["watch", "flag", "block"])
def test_an_answer_under_a_monitor(serving, toy, firing, tmp_path, action):
    feature, threshold, place = firing
    client, (prompt, plain) = serving(monitors=(f"{rule(tmp_path, firing)}={action}",)), said(toy)
    answer = ChatAnswer.model_validate(chat(client).json())
    (choice,) = answer.choices
    (line,) = lines_of(tmp_path)
    assert (line["monitor"], line["action"], line["where"], line["token"]) == ("loud", action, "reply", place)
    assert line["position"] == len(prompt) + place and line["stopped"] == (action == "block")
    assert line["score"] > line["threshold"] == pytest.approx(threshold, abs=1e-5) and "text" not in line
    assert line["features"][0]["feature"] == feature
    if action == "watch":
        assert answer.monoscope.alerts == []
    else:
        assert [alert.id for alert in answer.monoscope.alerts] == [line["id"]] and answer.monoscope.alerts[
            0
        ].choice == 0
    if action == "block":
        assert choice.finish_reason == "content_filter" and answer.usage.completion_tokens == place
        assert plain.text.startswith(choice.message.content) and choice.message.content != plain.text
    else:
        assert (choice.message.content, choice.finish_reason) == (plain.text, plain.finish_reason)
    text, reason, alerts = streamed(chat(client, stream=True))
    assert (text, reason) == (choice.message.content, choice.finish_reason)
    assert [alert["monitor"] for alert in alerts] == ([] if action == "watch" else ["loud"])
    told = client.get("/api/v1/monitors").json()
    assert told["texts"] == 2 and told["monitors"][0]["alerts"] == 2 and told["monitors"][0]["action"] == action
    assert told["monitors"][0]["features"][0]["feature"] == feature
    figures = client.get("/metrics").text
    assert f'monoscope_alerts_total{{monitor="loud",action="{action}"}} 2\n' in figures
    assert "monoscope_alerts_undelivered 0\n" in figures


def test_the_page_and_completions_are_watched_too(serving, toy, firing, tmp_path):
    client = serving(monitors=(f"{rule(tmp_path, firing)}=block",))
    body = {"prompt": HELLO[0]["content"], "edits": [], "max_tokens": 12, "temperature": 0}
    records = events(client.post("/api/v1/steer", json=body).text)
    assert records[-1][1]["finish_reason"]["baseline"] in ("content_filter", "length", "stop")
    prompt, plain = said(toy)
    answer = client.post("/v1/completions", json={"model": "toy", "prompt": list(prompt), **GREEDY}).json()
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["monoscope"]["alerts"][0]["token"] == firing[2]
    assert client.get("/api/v1/monitors").json()["texts"] == 3


def test_alerts_carry_text_only_when_asked(serving, toy, firing, tmp_path):
    client = serving(monitors=(str(rule(tmp_path, firing)),), alert_text=True)
    chat(client)
    (line,) = lines_of(tmp_path)
    prompt, plain = said(toy)
    assert line["text"] == toy.decode([*prompt, *plain.ids][: line["position"] + 1][-24:])


def constitution(tmp_path, firing, **more):
    rule(tmp_path, firing)
    row = {"name": "calm", "principle": "Say nothing loud.", "monitor": "loud.json", "action": "redraft", **more}
    path = tmp_path / "constitution.json"
    write_json(path, {"version": 1, "principles": [row]})
    return path


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_always_breaks_a_principle_is_withheld(serving, firing, tmp_path, stream):
    """A threshold below every activation: each draft fires with its first token."""
    always = (firing[0], -1.0, 0)
    client = serving(constitution=constitution(tmp_path, always, redrafts=2))
    answer = chat(client, stream=stream, report=[firing[0]])
    if stream:
        text, reason, alerts = streamed(answer)
    else:
        values = ChatAnswer.model_validate(answer.json()).model_dump()
        text, reason = values["choices"][0]["message"]["content"], values["choices"][0]["finish_reason"]
        alerts = values["monoscope"]["alerts"]
        assert values["usage"]["completion_tokens"] == 0 and values["monoscope"]["report"] == []
    assert (text, reason) == ("", "content_filter")
    assert [(alert["monitor"], alert["draft"], alert["token"]) for alert in alerts] == [
        ("calm", i, 0) for i in range(3)
    ]
    assert len({alert["request"] for alert in alerts}) == 1 and len({alert["id"] for alert in alerts}) == 3
    assert [line["draft"] for line in lines_of(tmp_path)] == [0, 1, 2]


def test_a_better_draft_takes_the_place_of_a_bad_one(serving, toy, firing, tmp_path, monkeypatch):
    """What the model says once the principle is named is told, and nothing of the first draft."""
    client, seen, short = serving(constitution=constitution(tmp_path, firing)), [], {**GREEDY, "max_tokens": firing[2]}
    prompt, _ = said(toy)
    other = generate(toy, None, [Request(prompt, **PLAIN, **short)])[0]

    def obedient(model, messages, fired, request):
        """The toy does not obey, so its second draft ends before it is loud."""
        seen.append((messages, [principle.sentence for principle in fired]))
        return replace(request, max_tokens=firing[2])

    monkeypatch.setattr("monoscope.serve.v1_redrafting.next_draft", obedient)
    answer = ChatAnswer.model_validate(chat(client, n=2, seed=1).json())
    for choice in answer.choices:
        assert (choice.message.content, choice.finish_reason) == (other.text, other.finish_reason)
    assert [(alert.choice, alert.action, alert.draft) for alert in answer.monoscope.alerts] == [
        (0, "redraft", 0), (1, "redraft", 0),
    ]  # fmt: skip
    assert seen[0] == (tuple(HELLO), ["Say nothing loud."])
    text, _, _ = streamed(chat(client, stream=True))
    assert text == other.text


def test_the_principle_joins_a_system_message_that_is_there(toy):
    principle = room.Principle("calm", "Say nothing loud.", Path("x.json"))
    given, request = [{"role": "system", "content": "Be brief."}, *HELLO], Request((1,), max_tokens=7)
    text = toy.decode(room.next_draft(toy, given, [principle, principle], request).prompt_ids)
    assert text.index("Be brief.") < text.index("Say nothing loud.") < text.index(HELLO[0]["content"])
    assert text.count("Say nothing loud.") == 1 == text.count("<|system|>")
    with pytest.raises(BadRequest, match="no room for another draft"):
        room.next_draft(toy, [{"role": "user", "content": "fox " * 600}], [principle], request)


def test_the_stock_client_hears_of_flags_and_blocks(run, toy, firing, tmp_path):
    for action in ("flag", "block"):
        duty = Duty((f"{rule(tmp_path, firing)}={action}",), alerts=tmp_path / "a.jsonl")
        library = Library(run, patrol=open_patrol(Run(run), duty))
        library.give_model(toy)
        address = start_in_background(run, free_port(wanted=18_900), library=library)
        try:
            with openai.OpenAI(base_url=f"{address.url}v1", api_key="none", max_retries=0) as ai:
                chunks = list(ai.chat.completions.create(model="toy", messages=HELLO, stream=True, **GREEDY))
        finally:
            address.close()
            library.close()
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        plain = said(toy)[1].text
        assert text == plain if action == "flag" else plain.startswith(text) and text != plain
        assert (chunks[-1].choices[0].finish_reason == "content_filter") == (action == "block")
        (alert,) = chunks[-1].model_extra["monoscope"]["alerts"]
        assert (alert["monitor"], alert["action"], alert["token"]) == ("loud", action, firing[2])


def test_what_is_not_right_is_refused_before_the_server_starts(run, firing, tmp_path):
    place, good = Run(run), rule(tmp_path, firing)

    def refuse(error, match, **duty):
        with pytest.raises(error, match=match):
            open_patrol(place, Duty(alerts=tmp_path / "refused.jsonl", **duty))

    refuse(BadRequest, "no such file", monitors=(f"{good}=shout",))
    refuse(ArtifactNotFound, "no file", monitors=(str(tmp_path / "none.json"),))
    refuse(BadRequest, "Two monitors are named loud", monitors=(str(good), f"{good}=block"))
    refuse(FeatureNotFound, "no feature 9999", monitors=(str(rule(tmp_path, (9999, 1.0, 0), "wrong")),))
    refuse(BadRequest, "may hold letters", monitors=(str(rule(tmp_path, firing, 'x"{}')),))
    (tmp_path / "torn.json").write_text('{"version": 1')
    refuse(Damaged, "not readable", monitors=(str(tmp_path / "torn.json"),))
    fitted = {"version": 1, "dictionary": "toy", "name": "other"}
    write_json(tmp_path / "half.json", fitted)
    refuse(Damaged, "no whole monitor", monitors=(str(tmp_path / "half.json"),))
    refuse(BadRequest, "--webhook", monitors=(str(good),), webhook="file:///etc/passwd")
    refuse(BadRequest, "nothing to be told of", webhook="http://127.0.0.1/")
    assert open_patrol(place, Duty()) is None
    patrol = open_patrol(place, Duty((str(good),), alerts=tmp_path / "refused.jsonl"))
    refuse(Busy, "another server", monitors=(str(good),))
    patrol.close()
    assert parse_monitor("a=b.json=block")[1] == "block"


def test_a_monitor_of_another_dictionary_is_refused(run, books, firing, tmp_path):
    from monoscope.safety.detector import Detector
    from monoscope.safety.monitor import Monitor, save_monitor

    dictionary = books.dictionary()
    detector = Detector(torch.tensor([firing[0]]), torch.ones(1).double(), 0.0)
    for digest, error in (("0" * 64, RequestDiffers), (books.digest("toy"), None)):
        monitor = Monitor("mine", "features", detector, 1.0, "toy", digest, dictionary.site)
        save_monitor(tmp_path / "mine.json", monitor)
        duty = Duty((str(tmp_path / "mine.json"),), alerts=tmp_path / "a.jsonl")
        if error is None:
            open_patrol(Run(run), duty).close()
        else:
            with pytest.raises(error, match="another state of dictionary"):
                open_patrol(Run(run), duty)
    assert read_json(tmp_path / "mine.json")["dictionary"] == "toy"
