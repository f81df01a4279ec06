import inspect
import re

import pytest
from starlette.routing import Mount

from monoscope.serve import guard
from monoscope.serve.app import create_app

from .client import PORT, Client

TOKEN = "correct horse battery staple"


@pytest.fixture(scope="module")
def locked(run, books):
    return create_app(run, library=books, port=PORT, token=TOKEN)


def routes(app, books):
    """Every route as (method, address), from the router itself."""
    found = [("GET", "/static/app.css"), ("GET", "/nowhere")]

    def walk(items):
        for route in items:
            if hasattr(route, "original_router"):
                walk(route.original_router.routes)
                continue
            if isinstance(route, Mount):
                continue
            path = re.sub(r"\{dictionary[^}]*\}", "toy", route.path)
            path = re.sub(r"\{feature[^}]*\}", "1", path)
            path = re.sub(r"\{[^}]*\}", "x", path)
            found.extend((method, path) for method in route.methods - {"HEAD"})

    walk(app.app.routes)
    return found


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "127.0.0.1.evil.test:8421",
        "localhost.evil.test:8421",
        "",
        "0.0.0.0:8421",
        "127.0.0.1:1",
        "localhost",
        "127.0.0.1:8421@evil.test",
        "evil.test:8421",
        "[::1]",
        "127.0.0.1:8421 ",
    ],
)
@pytest.mark.parametrize("path", ["/", "/static/app.css", "/api/v1/about", "/healthz", "/nowhere"])
def test_other_hosts_are_turned_away(client, host, path):
    assert client.get(path, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_the_names_of_this_machine_are_let_in(client, host):
    assert client.get("/healthz", headers={"host": host}).text == "ok"


def test_allowed_hosts(run, books):
    app = Client(create_app(run, library=books, port=PORT, allow_hosts=["lab.test", "other.test:99"]))
    for host, status in [
        ("lab.test", 200),
        ("lab.test:7", 200),
        ("other.test:99", 200),
        ("other.test", 421),
        ("x.lab.test", 421),
    ]:
        assert app.get("/healthz", headers={"host": host}).status_code == status, host


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": f"http://127.0.0.1:{PORT}"}, 200),
        ({"origin": "http://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
    ],
)
def test_writes_come_from_our_own_pages(client, headers, status, feature):
    body = {"text": "a fox", "feature": feature}
    assert client.post("/api/v1/encode", json=body, headers=headers).status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_interfaces_take_json_only(client, kind):
    answer = client.post("/api/v1/encode", content=b'{"text": "a"}', headers={"content-type": kind})
    assert answer.status_code == 415


def test_no_cross_origin_permission_is_given(client):
    answer = client(
        "OPTIONS", "/api/v1/steer", headers={"origin": "http://evil.test", "access-control-request-method": "POST"}
    )
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_large_bodies_are_refused_announced_or_not(client):
    big = b"x" * (guard.MOST_BODY + 1)
    json_kind = {"content-type": "application/json"}
    assert client.post("/api/v1/encode", content=big, headers=json_kind).status_code == 413

    async def pieces():
        for _ in range(11):
            yield b"x" * 100_000

    assert client.post("/api/v1/encode", content=pieces(), headers=json_kind).status_code == 413


def test_every_answer_carries_the_headers(client):
    for path in ("/", "/static/app.js", "/api/v1/about", "/nowhere", "/api/v1/search"):
        headers = client.get(path).headers
        for name, value in guard.HEADERS.items():
            if name != "cache-control":
                assert headers[name] == value, (path, name)
    policy = guard.HEADERS["content-security-policy"]
    assert "unsafe" not in policy and "require-trusted-types-for 'script'" in policy and "default-src 'none'" in policy


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": f"Bearer {TOKEN[:-1]}"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer"},
     {"authorization": b"Bearer \xff\xfe"}, {"cookie": f"monoscope={TOKEN}"}, {"cookie": "monoscope=%%%"}],
)  # fmt: skip
def test_every_route_needs_the_token(locked, books, headers):
    client = Client(locked)
    for method, path in routes(locked, books):
        if path == "/healthz":
            continue
        json = {} if method in ("POST", "PUT") else None
        assert client(method, path, headers=headers, json=json).status_code == 401, (method, path)
        with_query = client(method, f"{path}?token={TOKEN}", headers=headers, json=json)
        assert with_query.status_code == 401, (method, path)


def test_all_routes_were_walked(locked, books):
    paths = {path for _, path in routes(locked, books)}
    assert {"/", "/search", "/f/toy/1", "/prompt", "/steer", "/api/v1/about", "/api/v1/steer", "/api/v1/presets/x",
            "/api/v1/openapi.json", "/healthz"} <= paths  # fmt: skip


def test_health_is_open_and_the_token_opens_the_rest(locked):
    client = Client(locked)
    assert client.get("/healthz").status_code == 200
    assert client.get("/api/v1/about", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_logging_in_sets_a_cookie_that_scripts_cannot_read(locked):
    client = Client(locked)
    page = client.get("/", headers={"accept": "text/html"})
    assert page.status_code == 401 and '<form method="post" action="/login"' in page.text
    assert client.post("/login", data={"token": "wrong"}).status_code == 401
    answer = client.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    assert client.get("/", headers={"cookie": cookie.split(";")[0]}).status_code == 200


def test_the_token_is_compared_in_constant_time():
    source = inspect.getsource(guard)
    assert "hmac.compare_digest" in source and "== self._token" not in source
