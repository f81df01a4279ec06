"""The command `llm` in an environment of its own asks the server; see test_clients.py."""

import os
import subprocess
import sys
from pathlib import Path

from scene import SCENE, answer_with

LLM = str(Path(sys.executable).parent / "llm")
HOME = Path(SCENE["folder"]) / "llm"
MODELS = """
- model_id: {name}
  model_name: {model}
  api_base: {base}
  api_key_name: {name}
"""


def settle():
    HOME.mkdir(exist_ok=True)
    known = [("plain", "toy", "open"), ("steered", "toy:first", "open"), ("locked", "toy", "locked")]
    text = "".join(MODELS.format(name=name, model=model, base=SCENE[base]) for name, model, base in known)
    (HOME / "extra-openai-models.yaml").write_text(text)


def command(model, *more, key="none", most=SCENE["max_tokens"]):
    return [LLM, "-m", model, "--key", key, "-o", "temperature", "0", "-o", "max_tokens", str(most), *more]


def run(*words, prompt=SCENE["messages"][0]["content"], **more):
    return subprocess.run(
        command(*words, **more), input=prompt, text=True, capture_output=True, check=False, env=environment()
    )


def environment():
    return {**os.environ, "LLM_USER_PATH": str(HOME)}


def text(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def refused(done):
    return {"error": f"exit {done.returncode}" if done.returncode else None, "text": done.stderr}


def cells():
    settle()
    long = SCENE["too_long"][0]["content"]
    return {
        "plain": text(run("plain", "--no-stream")),
        "stream": text(run("plain")),
        "preset": text(run("steered", "--no-stream")),
        "preset stream": text(run("steered")),
        "token": text(run("locked", key=SCENE["token"])),
        "wrong token": refused(run("locked", key="something else")),
        "too long": refused(run("plain", prompt=long)),
    }


def abort():
    settle()
    words = command("plain", SCENE["messages"][0]["content"], most=400)
    talking = subprocess.Popen(
        words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**environment(), "PYTHONUNBUFFERED": "1"}
    )
    assert talking.stdout.read(1)
    talking.kill()


answer_with(cells, abort)
