"""Requests to an application in this process, without a socket; and HTML as tests look at it."""

import asyncio
import json
from html.parser import HTMLParser

import httpx

PORT = 8421
BASE = f"http://127.0.0.1:{PORT}"


class Client:
    """`client.get(path)` as a browser without script would."""

    def __init__(self, app):
        self.app = app

    def __call__(self, method, path, **request):
        return asyncio.run(self._request(method, path, request))

    def get(self, path, **request):
        return self("GET", path, **request)

    def post(self, path, **request):
        return self("POST", path, **request)

    async def _request(self, method, path, request):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            return await client.request(method, path, **request)


class Page(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def check_policy(self):
        """Nothing that the policy would have to stop."""
        for tag, attrs in self.tags:
            assert not [name for name in attrs if name.startswith("on") or name == "style"], (tag, attrs)
            assert tag not in ("style", "iframe", "img", "object", "embed", "base"), tag
            if tag == "script":
                assert attrs.get("src", "").startswith("/static/"), attrs
            for name in ("href", "src", "action"):
                value = attrs.get(name) or ""
                assert value == "" or value.startswith(("/", "#")) or value == "data:,", (tag, attrs)


def events(text):
    """Server-sent events as (name, data)."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines["event"], json.loads(lines["data"])))
    return found
