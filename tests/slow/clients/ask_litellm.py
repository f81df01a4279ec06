"""LiteLLM in an environment of its own asks the server; see test_clients.py."""

import litellm
from scene import SCENE, answer_with, told

litellm.suppress_debug_info = True


def ask(base="open", key="none", messages=SCENE["messages"], model="toy", **more):
    return litellm.completion(
        model=f"openai/{model}", api_base=SCENE[base], api_key=key, messages=messages, temperature=0, num_retries=0,
        **{"max_tokens": SCENE["max_tokens"], **more},
    )  # fmt: skip


def text(answer):
    return answer.choices[0].message.content


def spoken(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def cells():
    steered = ask(extra_body={"edits": [SCENE["edit"]]})
    return {
        "plain": text(ask()),
        "stream": spoken(ask(stream=True)),
        "steered": text(steered),
        "steered stream": spoken(ask(stream=True, extra_body={"edits": [SCENE["edit"]]})),
        "preset": text(ask(model="toy:first")),
        "proof": (steered.model_extra or {}).get("monoscope", {}).get("edits", []),
        "token": text(ask("locked", SCENE["token"])),
        "wrong token": told(lambda: ask("locked", "something else")),
        "too long": told(lambda: ask(messages=SCENE["too_long"])),
    }


def abort():
    next(iter(ask(stream=True, max_tokens=400)))


answer_with(cells, abort)
