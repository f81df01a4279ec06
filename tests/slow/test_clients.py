"""Stock clients, each in an environment of its own, against a server on the toy model: the acceptance matrix.

Plain, streamed, steered, with a token, with a wrong one, with a prompt that is too long, and leaving in the middle.
What a client cannot do is said at its name. The environments take some minutes; MONOSCOPE_CLIENTS names a folder that
keeps them.
"""

import json
import os
import subprocess
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from monoscope.model.chat import render_chat
from monoscope.serve.app import free_port, start_in_background
from monoscope.steer.engine import generate
from monoscope.steer.request import Request

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent / "clients"
TOKEN = "correct horse battery staple"
QUESTION = "Tell me a story about a fox."
HELLO = [{"role": "user", "content": QUESTION}]
MOST = 12
# Nobody asks anybody but the server: no proxy, no hub, no price list.
ALONE = {"NO_PROXY": "*", "HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@dataclass(frozen=True)
class Client:
    """What is installed, and which of the cells it has."""

    script: str
    packages: tuple[str, ...]
    streams: bool = True
    sends_fields: bool = True


CLIENTS = {
    "litellm": Client("ask_litellm.py", ("litellm==1.106.2",)),
    # It sends no fields of its own: a preset in the model's name steers.
    "llm": Client("ask_llm.py", ("llm==0.32.1",), sends_fields=False),
    "inspect-ai": Client("ask_inspect.py", ("inspect-ai==0.3.285", "openai==3.54.0")),
    # It streams nothing, and has no way to send edits either.
    "lm-eval": Client(
        "ask_lm_eval.py", ("lm-eval[api]==0.4.13", "transformers==5.23.0"), streams=False, sends_fields=False
    ),
}


@pytest.fixture(scope="module")
def open_server(run, books):
    address = start_in_background(run, free_port(wanted=18_800), library=books)
    yield address
    address.close()


@pytest.fixture(scope="module")
def locked_server(run, books):
    address = start_in_background(run, free_port(wanted=18_850), library=books, token=TOKEN)
    yield address
    address.close()


@pytest.fixture(scope="module")
def scene(open_server, locked_server, toy, books, feature, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    toy.tokenizer.save_pretrained(folder / "tokenizer")
    edit = f"{feature} add 0.6r"
    preset = next(each for each in books.presets() if each.name == "first")
    return {
        "open": f"{open_server.url}v1",
        "locked": f"{locked_server.url}v1",
        "token": TOKEN,
        "messages": HELLO,
        "max_tokens": MOST,
        "edit": edit,
        "too_long": [{"role": "user", "content": "fox " * 3000}],
        "folder": str(folder),
        "tokenizer": str(folder / "tokenizer"),
        "continuations": [" The fox sees the bear.", " A"],
        "plain": _said(toy, books, ()),
        "steered": _said(toy, books, (edit,)),
        "preset": _said(toy, books, preset.edits),
    }


def _said(toy, books, edits):
    rendered = render_chat(toy, HELLO, reply_follows=True)
    asked = Request(
        rendered.ids, tuple(edits), temperature=0, top_p=1.0, repetition_penalty=1.0, max_tokens=MOST,
        template=rendered.template,
    )  # fmt: skip
    return generate(toy, books.dictionary(), [asked])[0].text


@pytest.fixture(scope="module", params=CLIENTS, ids=list(CLIENTS))
def client(request, tmp_path_factory):
    """A client and the Python of its environment."""
    kept = os.environ.get("MONOSCOPE_CLIENTS")
    folder = (Path(kept) if kept else tmp_path_factory.mktemp("environments")) / request.param
    python = folder / "bin" / "python"
    found = CLIENTS[request.param]
    if not python.exists():
        venv.create(folder, with_pip=True)
        words = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *found.packages]
        subprocess.run(words, check=True, timeout=900)
    return found, python


def ask(client, scene, what):
    found, python = client
    environment = {**os.environ, **ALONE, "MONOSCOPE_SCENE": json.dumps(scene)}
    return subprocess.run(
        [python, SCRIPTS / found.script, what],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def cells(client, scene):
    done = ask(client, scene, "cells")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_plain_and_streamed(client, cells, scene):
    assert cells["plain"] == scene["plain"]
    if client[0].streams:
        assert cells["stream"] == scene["plain"]


def test_steered_by_a_preset_and_by_edits(client, cells, scene):
    assert scene["steered"] != scene["plain"]
    assert cells["preset"] == scene["preset"]
    if client[0].sends_fields:
        assert cells["steered"] == scene["steered"]
    for streamed, wanted in (("steered stream", "steered"), ("preset stream", "preset")):
        assert cells.get(streamed, scene[wanted]) == scene[wanted]


def test_the_token_and_a_wrong_one(cells, scene):
    assert cells["token"] == scene["plain"]
    assert cells["wrong token"]["error"] and "token" in cells["wrong token"]["text"]


def test_a_prompt_that_is_too_long(cells):
    assert cells["too long"]["error"]
    assert "maximum context length" in cells["too long"]["text"]


def _loglikelihood(toy, before, after):
    """Of a continuation, and whether greedy decoding would say it; `before` may be any tokens."""
    ids = [*before, *after]
    scores = toy.logits(torch.tensor([ids]))[0].float().log_softmax(-1)[len(before) - 1 : -1]
    chosen = scores.gather(1, torch.tensor(after)[:, None])[:, 0]
    return float(chosen.sum()), bool((chosen == scores.amax(1)).all())


def test_loglikelihoods_are_the_models_own(client, cells, scene, toy):
    if client[0].script != "ask_lm_eval.py":
        assert not [name for name in cells if "loglikelihood" in name], "only lm-eval scores"
        return
    question = toy.encode_text(QUESTION)
    for name, first in (
        ("loglikelihood", ()),
        ("loglikelihood, both at once", ()),
        # Sent as a text, the prompt is read behind the model's first token.
        ("loglikelihood of texts", (toy.prefix_id,)),
    ):
        for told, after in zip(cells[name], scene["continuations"], strict=True):
            right, greedy = _loglikelihood(toy, (*first, *question), toy.encode_text(after))
            assert told[0] == pytest.approx(right, abs=1e-3) and told[1] == greedy
    assert cells["choice"] in (0, 1)


def test_who_leaves_in_the_middle_frees_the_place(client, scene, toy, books):
    batcher = books.batcher()
    slow = toy.module.register_forward_pre_hook(lambda *_: time.sleep(0.05))
    before = batcher.counts()
    try:
        done = ask(client, scene, "abort")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        until = time.monotonic() + 1
        while batcher.counts()["active"] and time.monotonic() < until:
            time.sleep(0.01)
        after = batcher.counts()
    finally:
        slow.remove()
    assert after["active"] == after["waiting"] == 0
    assert after["requests_total"] == before["requests_total"] + 1
    assert sum(v for name, v in after.items() if name.startswith(("finished_stop", "finished_length"))) == sum(
        v for name, v in before.items() if name.startswith(("finished_stop", "finished_length"))
    ), "it was cut off"
