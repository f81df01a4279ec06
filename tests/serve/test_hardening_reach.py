"""The server reaches for nothing that a request names: no socket is opened, whatever URL stands in it."""

import socket

import pytest

URLS = [
    "http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xa9fea9fe/", "http://[::ffff:a9fe:a9fe]/",
    "http://127.0.0.1:22/", "http://localhost:8421/healthz", "http://0/", "http://[::1]/", "http://0177.0.0.1/",
    "http:\\\\evil.test\\x", "http://evil.test\\@127.0.0.1/", "http://user:pass@evil.test/", "//evil.test/x.png",
    "https://evil.test/a.safetensors", "ftp://evil.test/a", "file:///etc/passwd", "file:C:\\x", "gopher://evil.test/1",
    "data:image/png;base64,AAAA", "hf://gpt2", "pypi://somewhere", "jar:http://evil.test!/",
]  # fmt: skip


@pytest.fixture
def connects(monkeypatch):
    """Every attempt to find or reach another machine."""
    tried = []

    def record(*what, **_):
        tried.append(what)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", record)
    monkeypatch.setattr(socket.socket, "connect_ex", record)
    monkeypatch.setattr(socket, "create_connection", record)
    monkeypatch.setattr(socket, "getaddrinfo", record)
    monkeypatch.setattr(socket, "gethostbyname", record)
    return tried


def test_urls_in_a_text_are_texts(client, connects):
    words = " ".join(URLS)
    for path, params in [("/search", {"q": words}), ("/search", {"q": words, "by": "prompt"}), ("/map", {"q": words}),
                         ("/api/v1/search", {"q": words, "by": "token"}), ("/steer", {"prompt": words})]:  # fmt: skip
        assert client.get(path, params=params).status_code in (200, 400), path
    asked = {"model": "toy", "messages": [{"role": "user", "content": words}], "max_tokens": 1}
    assert client.post("/v1/chat/completions", json=asked).status_code in (200, 400)
    assert client.post("/api/v1/encode", json={"text": words}).status_code in (200, 400)
    assert client.post("/prompt", data={"text": words}).status_code in (200, 400)
    assert connects == []


@pytest.mark.parametrize("url", URLS)
def test_a_url_in_place_of_a_name_or_of_a_content_is_refused(client, connects, url):
    assert client.get("/api/v1/about", params={"dictionary": url}).status_code in (400, 404)
    assert client.get("/steer", params={"preset": url}).status_code in (400, 404)
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "input_file", "file_url": url}]
    for body in [
        {"model": url, "messages": [{"role": "user", "content": "a"}]},
        *({"model": "toy", "messages": [{"role": "user", "content": [part]}]} for part in content),
        {"model": "toy", "messages": [{"role": "user", "content": "a"}], "edits": [f"{url}/1 add 1"]},
    ]:
        assert client.post("/v1/chat/completions", json=body).status_code in (400, 404), body
    assert connects == []
