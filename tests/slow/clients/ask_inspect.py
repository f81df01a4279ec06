"""inspect-ai in an environment of its own asks the server; see test_clients.py."""

import asyncio
import os
from pathlib import Path

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
from scene import SCENE, answer_with

LOGS = str(Path(SCENE["folder"]) / "inspect")


def model_of(base="open", key="none", model="toy", **more):
    os.environ["LOCAL_BASE_URL"], os.environ["LOCAL_API_KEY"] = SCENE[base], key
    # It would keep the first model of a name, with the first key.
    return get_model(f"openai-api/local/{model}", memoize=False, **more)


def log_of(base="open", key="none", messages=SCENE["messages"], model="toy", stream=False, **config):
    (question,) = (message["content"] for message in messages)
    task = Task(dataset=[Sample(input=question, target=" ")], solver=generate(), scorer=includes())
    settings = GenerateConfig(temperature=0, max_retries=0, **{"max_tokens": SCENE["max_tokens"], **config})
    (log,) = eval(task, model=model_of(base, key, model, stream=stream, config=settings), display="none", log_dir=LOGS)
    return log


def text(log):
    assert log.status == "success", log.error
    return log.samples[0].output.completion


def refused(log):
    return {"error": log.error.message if log.error else None, "text": log.error.message if log.error else ""}


def cells():
    edits = {"edits": [SCENE["edit"]]}
    long = log_of(messages=SCENE["too_long"])
    return {
        "plain": text(log_of()),
        "stream": text(log_of(stream=True)),
        "steered": text(log_of(extra_body=edits)),
        "steered stream": text(log_of(stream=True, extra_body=edits)),
        "preset": text(log_of(model="toy:first")),
        "token": text(log_of("locked", SCENE["token"])),
        "wrong token": refused(log_of("locked", "something else")),
        # Its own kind of answer to a prompt that is too long.
        "too long": {"error": long.samples[0].output.stop_reason, "text": long.samples[0].output.completion},
    }


def abort():
    async def scene():
        model = model_of(stream=True, config=GenerateConfig(max_tokens=400))
        talking = asyncio.ensure_future(model.generate(SCENE["messages"][0]["content"]))
        await asyncio.sleep(1.5)
        assert not talking.done()
        # As if it were killed, in the middle.
        os._exit(0)

    asyncio.run(scene())


answer_with(cells, abort)
