"""Parts of answers, from records made by hand."""

import asyncio
from typing import get_args

import pytest

from monoscope.core.errors import BadRequest, Unavailable
from monoscope.serve.v1_answers import check_generation
from monoscope.serve.v1_logprobs import CompletionLogprobs, chat_logprobs, joined, token_text
from monoscope.serve.v1_schemas import FinishReason
from monoscope.serve.v1_waiting import unless_gone
from monoscope.steer.request import Generation, Logprob


def ids_of(toy, text):
    return toy.encode_text(text)


def scored(ids):
    return [Logprob(token, -1.0 - place, ((token, -1.0 - place),)) for place, token in enumerate(ids)]


def test_half_a_character_is_told_as_bytes(toy):
    ids = ids_of(toy, "é")
    assert len(ids) == 2, "the toy has no token for this letter"
    assert [token_text(toy, token) for token in ids] == ["bytes:\\xc3", "bytes:\\xa9"]
    first = chat_logprobs(toy, scored(ids))["content"][0]
    assert first["bytes"] == [0xC3] and first["logprob"] == -1.0 and first["top_logprobs"][0]["token"] == first["token"]


@pytest.mark.parametrize("text", ["The fox sees", "né 👩‍💻 x", "a\u0301b\u202e"])
def test_tokens_stand_where_their_text_begins(toy, text):
    prompt, reply = ids_of(toy, text), ids_of(toy, text)
    written = CompletionLogprobs(toy)
    values = joined(written.prompt(prompt, scored(prompt[1:])), written.reply(scored(reply)))
    assert values["token_logprobs"][0] is None and values["top_logprobs"][0] is None
    assert len(values["tokens"]) == len(prompt) * 2 and values["token_logprobs"][len(prompt)] == -1.0
    assert values["text_offset"][len(prompt)] == len(text)
    places = [*values["text_offset"], 2 * len(text)]
    for token, start, stop in zip(values["tokens"], places, places[1:], strict=False):
        assert token.startswith("bytes:") or (text * 2)[start:stop] == token


def test_the_token_that_stands_there_is_among_the_likeliest(toy):
    a, b = ids_of(toy, "fox")[0], ids_of(toy, "bear")[0]
    values = CompletionLogprobs(toy).reply([Logprob(a, float("-inf"), ((b, -0.5),))])
    assert values["top_logprobs"] == [{"bear": -0.5, "fox": -9999.0}]
    assert values["token_logprobs"] == [-9999.0], "JSON has no minus infinity"


def test_what_cannot_be_told_is_an_error():
    with pytest.raises(BadRequest, match="smaller values"):
        check_generation(Generation((), "", "numbers", ()))
    with pytest.raises(BadRequest, match="smaller values"):
        check_generation(Generation((1,), "a", "length", (), prompt_logprobs=(Logprob(1, float("nan")),)))
    with pytest.raises(Unavailable):
        check_generation(Generation((), "", "cancelled", ()))
    for reason in get_args(FinishReason):
        check_generation(Generation((), "", reason, ()))


def test_work_goes_on_only_for_somebody():
    async def receive(news):
        return {"type": await news.get()}

    async def scene():
        news = asyncio.Queue()
        assert await unless_gone(asyncio.sleep(0, "done"), lambda: receive(news)) == "done"
        never = asyncio.ensure_future(asyncio.sleep(60))
        news.put_nowait("http.request")
        news.put_nowait("http.disconnect")
        assert await unless_gone(never, lambda: receive(news)) is None
        await asyncio.sleep(0)
        assert never.cancelled()

    asyncio.run(scene())
