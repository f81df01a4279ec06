"""Judges that answer by rule: one in the process, and one behind a real HTTP address."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from monoscope.core.toy_text import toy_concepts

Rule = Callable[[str], str]
_TEXT = re.compile(r"^Text \d+: (.*)$", re.MULTILINE)
_STRENGTH = re.compile(r'"([^"]*)" (\d+)')


def knows_the_toy(prompt: str) -> str:
    """Names the concept to which most of the strength belongs, and finds it again in texts."""
    if "Description: " not in prompt:
        return f"Several words go together here.\nLABEL: words about {_concept(prompt)}"
    label = re.search(r"^Description: (.*)$", prompt, re.MULTILINE)[1]
    words = toy_concepts().get(label.rsplit(" ", 1)[-1], ())
    if "Rate for each text" in prompt:
        return "ANSWER: " + ", ".join("3" if _marked(text) & set(words) else "0" for text in _TEXT.findall(prompt))
    found = _marked if "fits the marked words" in prompt else _said
    return "ANSWER: " + ", ".join("yes" if found(text) & set(words) else "no" for text in _TEXT.findall(prompt))


def _concept(prompt: str) -> str:
    weights = dict.fromkeys(toy_concepts(), 0)
    for word, strength in _STRENGTH.findall(prompt):
        for name, words in toy_concepts().items():
            weights[name] += int(strength) * (word.strip() in words)
    return max(weights, key=lambda name: weights[name])


def _said(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _marked(text: str) -> set[str]:
    return {word for piece in re.findall("«(.*?)»", text) for word in re.findall(r"\w+", piece)}


@dataclass
class ScriptedJudge:
    """In the process. `limit` answers are given, then `error` is raised."""

    rule: Rule = knows_the_toy
    limit: int | None = None
    error: BaseException = field(default_factory=KeyboardInterrupt)
    reads: int | None = None
    name: str = "scripted"
    identity: str = "scripted"
    price: float | None = None
    asked: list[str] = field(default_factory=list)

    def count(self, messages) -> int:
        return sum(len(message["content"]) // 4 for message in messages)

    def ask(self, messages, max_tokens: int) -> str:
        if self.limit is not None and len(self.asked) >= self.limit:
            raise self.error
        self.asked.append(json.dumps([dict(message) for message in messages]))
        return self.rule(messages[0]["content"])


@dataclass
class Endpoint:
    """What a running server heard, and how it is to answer: by rule, unless `refuse` gives a status and an error."""

    url: str
    rule: Rule = knows_the_toy
    refuse: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda _body: None
    heard: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    @property
    def judge(self) -> str:
        return f"{self.url}#toy-judge"


@contextmanager
def serving() -> Iterator[Endpoint]:
    """An OpenAI-compatible server on a free port."""
    endpoint = Endpoint("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet; two cost 40 ms each

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.heard.append({**body, "path": self.path})
            endpoint.keys.add(self.headers["Authorization"])
            refused = endpoint.refuse(body)
            if refused is not None:
                return self.answer(*refused)
            said = {"role": "assistant", "content": endpoint.rule(body["messages"][0]["content"])}
            choice = {"index": 0, "message": said, "finish_reason": "stop"}
            reply = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
            return self.answer(200, reply)

        def answer(self, status: int, value: Any) -> None:
            html = isinstance(value, str)
            data = value.encode() if html else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if html else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
