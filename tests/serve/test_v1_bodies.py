import pytest
from pydantic import ValidationError

from monoscope.serve.v1_bodies import ChatBody, CompletionBody

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "toy", "messages": HELLO}
TEXT = {"model": "toy", "prompt": "hello"}


def refusal(kind, **fields):
    """The one complaint about a body: its place and its sentence."""
    base = CHAT if kind is ChatBody else TEXT
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({**base, **fields})
    (error,) = caught.value.errors()
    return ".".join(map(str, error["loc"])), error["msg"]


def test_the_smallest_bodies():
    chat, text = ChatBody.model_validate(CHAT), CompletionBody.model_validate(TEXT)
    assert chat.stops == () == text.stops and chat.reported == ()
    assert (chat.temperature, chat.seed, chat.n) == (None, None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "user": "me", "n": None, "stop": None},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "functions": None, "function_call": "none"},
        {"response_format": {"type": "text"}, "modalities": ["text"], "store": False, "metadata": {"a": "b"}},
        {"service_tier": "auto", "verbosity": "medium", "reasoning_effort": None, "safety_identifier": "x"},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"edits": ["8011 add 0.4r"], "report": [7449, "fine/3"], "repetition_penalty": 1.1, "seed": -(2**53)},
        {"edits": None, "report": None, "stream_options": None, "metadata": None, "seed": 2**53},
    ],
)
def test_what_stock_clients_send_is_taken(fields):
    ChatBody.model_validate({**CHAT, **fields})


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"presence_penalty": 0.5}, "presence_penalty", "presence penalty"),
        ({"frequency_penalty": False}, "frequency_penalty", "frequency penalty"),
        ({"logit_bias": {str(i): 1 for i in range(10_000)}}, "logit_bias", "edits"),
        ({"tools": [{"type": "function"}]}, "tools", "no tools"),
        ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
        ({"store": True}, "store", "stored"),
        ({"top_k": 5}, "top_k", "Extra"),
        ({"n": 9}, "n", "8"),
        ({"n": 10**9}, "n", "8"),
        ({"n": True}, "n", "integer"),
        ({"max_tokens": 10**9}, "max_tokens", "4096"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "1"),
        ({"top_logprobs": 10**6}, "top_logprobs", "20"),
        ({"temperature": 2.1}, "temperature", "2"),
        ({"temperature": float("nan")}, "temperature", ""),
        ({"top_p": float("inf")}, "top_p", ""),
        ({"stop": ["x"] * 100_000}, "stop", "up to 4"),
        ({"stop": "x" * 101}, "stop", "100 characters"),
        ({"stop": ""}, "stop", "1 to 100"),
        ({"edits": ["1 add 1"] * 65}, "edits", "64"),
        ({"report": list(range(17))}, "report", "up to 16"),
        ({"report": [-1]}, "report", "a number"),
        ({"report": [2**63]}, "report", "a number"),
        ({"report": ["a b"]}, "report", "a number"),
        ({"messages": []}, "messages", "1"),
        ({"messages": HELLO * 1001}, "messages", "1000"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "no tools"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", "text"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content", "text"),
        ({"messages": [{"role": "user", "content": "x", "mood": "good"}]}, "messages.0.mood", "Extra"),
        ({"messages": [{"role": "user", "content": "x", "name": "bob"}]}, "messages.0.name", "names"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages.0.tool_calls", "tools"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content", "text"),
        ({"model": "\udfff"}, "model", ""),
        ({"user": "x" * 513}, "user", "512"),
    ],
)
def test_what_is_over_a_limit_or_not_offered_is_refused_by_name(fields, place, words):
    where, sentence = refusal(ChatBody, **fields)
    assert where == place and words in sentence


URLS = [
    "http://169.254.169.254/", "http://2130706433/", "https:\\\\127.0.0.1\\x", "file:///etc/passwd",
    "data:image/png;base64,", "gopher://localhost", "//localhost/x", "http://[::1]/", "http://localhost@evil.test/",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_nothing_that_would_have_to_be_fetched(url, kind):
    part = {"type": kind, kind: {"url": url}}
    where, sentence = refusal(ChatBody, messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, part]}])
    assert where == "messages.0.content" and "nothing is fetched" in sentence


@pytest.mark.parametrize("prompt", ["", "a", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_the_four_kinds_of_prompt(prompt):
    assert CompletionBody.model_validate({**TEXT, "prompt": prompt}).prompt == prompt


@pytest.mark.parametrize("prompt", [None, [], [[]], ["a", 1], [1.5], [-1], [True], {}, "\ud800", ["a"] * 65])
def test_other_prompts(prompt):
    where, sentence = refusal(CompletionBody, prompt=prompt)
    assert where == "prompt" and "token ids" in sentence


def test_a_whole_number_may_have_a_point():
    body = CompletionBody.model_validate({**TEXT, "prompt": [[1.0, 2]], "report": [281.0], "n": 2.0, "seed": 3.0})
    assert (body.prompt, body.reported, body.n, body.seed) == ([[1, 2]], ("281",), 2, 3)
    assert all(type(number) is int for number in (*body.prompt[0], body.n, body.seed))


def test_completions_have_their_own_fields():
    assert refusal(CompletionBody, best_of=2)[0] == "best_of"
    assert refusal(CompletionBody, suffix="end")[0] == "suffix"
    assert refusal(CompletionBody, logprobs=21)[0] == "logprobs"
    assert refusal(CompletionBody, messages=HELLO)[0] == "messages"
    CompletionBody.model_validate({**TEXT, "best_of": 1, "suffix": None, "max_tokens": 0, "echo": True, "logprobs": 20})


def test_a_field_taken_at_some_values_says_which():
    described = ChatBody.model_json_schema()["properties"]
    assert described["presence_penalty"]["enum"] == [None, 0]
    assert described["response_format"]["enum"] == [None, {"type": "text"}]


def test_limits_of_numbers_are_described_as_json_schema_says_them():
    described = ChatBody.model_json_schema()["properties"]
    assert {"type": "integer", "minimum": 1, "maximum": 8} in described["n"]["anyOf"]
    assert {"type": "integer", "minimum": 1, "maximum": 4096} in described["max_tokens"]["anyOf"]
