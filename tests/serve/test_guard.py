import inspect
import re
from pathlib import Path

import pytest
from starlette.routing import Mount

from monoscope.serve import guard, tokens
from monoscope.serve.app import create_app
from monoscope.serve.intake import Limits
from monoscope.serve.writes import ASKING, SAFE_METHODS, is_desk_write

from .client import PORT, Client

ROOT = Path(__file__).parents[2]
TOKEN = "correct horse battery staple"
HEALTH = "/healthz"
# What a client may send for each route without being turned away by the guard for its form.
BODIES = {"POST": {}, "PUT": {}, "PATCH": {}}


@pytest.fixture(scope="module")
def locked(run, books):
    return create_app(run, library=books, port=PORT, token=TOKEN)


@pytest.fixture(scope="module")
def listed(run, books):
    """A server that lets pages of one other origin ask."""
    origins = ["https://lab.test:8888", "http://[::1]:3000"]
    return Client(create_app(run, library=books, port=PORT, token=TOKEN, allow_origins=origins))


def routes(app):
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


def writing(app):
    return [(method, path) for method, path in routes(app) if method not in SAFE_METHODS]


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
        "evil.test@127.0.0.1:8421",
        "127.0.0.1:8421#evil.test",
        "evil.test:8421",
        "[::1]",
        "[::ffff:127.0.0.1]:8421",
        "127.0.0.1:8421 ",
        "127.0.0.1.:8421",
        "127.1:8421",
        "2130706433:8421",
    ],
)
@pytest.mark.parametrize("path", ["/", "/static/app.css", "/api/v1/about", "/healthz", "/metrics", "/nowhere"])
def test_other_hosts_are_turned_away(client, host, path):
    assert client.get(path, headers={"host": host}).status_code == 421


def test_other_hosts_are_turned_away_from_every_route(client):
    for method, path in routes(client.app):
        answer = client(method, path, headers={"host": "evil.test"}, json=BODIES.get(method))
        assert answer.status_code == 421, (method, path)
    two = [("host", f"127.0.0.1:{PORT}"), ("host", "evil.test")]
    assert client.get("/", headers=two).status_code == 421


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_the_names_of_this_machine_are_let_in(client, host):
    assert client.get(HEALTH, headers={"host": host}).text == "ok"


def test_allowed_hosts(run, books):
    app = Client(create_app(run, library=books, port=PORT, allow_hosts=["lab.test", "other.test:99"]))
    for host, status in [
        ("lab.test", 200),
        ("lab.test:7", 200),
        ("other.test:99", 200),
        ("other.test", 421),
        ("x.lab.test", 421),
    ]:
        assert app.get(HEALTH, headers={"host": host}).status_code == status, host


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


FOREIGN = [{"origin": "http://evil.test"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
           {"sec-fetch-site": "same-site", "origin": f"http://127.0.0.1:{PORT}"},
           {"sec-fetch-site": "cross-site", "origin": f"http://127.0.0.1:{PORT}"}]  # fmt: skip


def test_another_site_reaches_no_route_that_takes_a_body(client):
    """A form or a simple request of a page elsewhere, with whatever content type it may choose without asking."""
    tried = writing(client.app)
    assert len(tried) > 10
    for method, path in tried:
        for headers in FOREIGN:
            answer = client(method, path, headers=headers, json={"text": "a", "prompt": "a"})
            assert answer.status_code == 403, (method, path, headers)
        if path.startswith(("/api/", "/v1/")):
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
                answer = client(method, path, headers={"content-type": kind}, content=b'{"text": "a"}')
                assert answer.status_code == 415, (method, path, kind)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_interfaces_take_json_only(client, kind):
    answer = client.post("/api/v1/encode", content=b'{"text": "a"}', headers={"content-type": kind})
    assert answer.status_code == 415


def preflight(client, path, origin, **more):
    asked = {"origin": origin, "access-control-request-method": "POST", **more}
    answer = client("OPTIONS", path, headers=asked)
    return answer.status_code, {name: value for name, value in answer.headers.items() if name.startswith("access-")}


def test_no_cross_origin_permission_is_given_by_default(client):
    for _, path in routes(client.app):
        for origin in ("http://evil.test", "null", "https://lab.test:8888"):
            assert preflight(client, path, origin) == (403, {}), path
    seen = client.get("/api/v1/about", headers={"origin": "http://evil.test"})
    assert seen.status_code == 200 and not [name for name in seen.headers if name.startswith("access-")]


def test_a_listed_origin_asks_without_a_token_and_sends_with_one(listed):
    wanted = "authorization, content-type, x-stainless-os, x-evil, cookie"
    origin = "https://lab.test:8888"
    status, given = preflight(listed, "/v1/chat/completions", origin, **{"access-control-request-headers": wanted})
    assert status == 204 and given["access-control-allow-origin"] == origin
    assert given["access-control-allow-headers"] == "authorization, content-type, x-stainless-os"
    assert "access-control-allow-credentials" not in given and "*" not in str(given)
    ask = {"origin": origin, "sec-fetch-site": "cross-site"}
    assert listed.post("/api/v1/encode", json={"text": "a fox"}, headers=ask).status_code == 401
    sent = listed.post(
        "/api/v1/encode", json={"text": "a fox"}, headers={**ask, "authorization": f"Bearer {TOKEN}"}
    )  # fmt: skip
    assert sent.status_code == 200 and sent.headers["access-control-allow-origin"] == origin
    assert sent.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin",
    ["https://lab.test", "http://lab.test:8888", "https://lab.test:88888", "https://x.lab.test:8888", "null", "",
     "https://lab.test:8888.evil.test", "HTTPS://LAB.TEST:8888", "https://lab.test:8888/"],
)  # fmt: skip
def test_only_that_very_origin_is_listed(listed, origin):
    assert preflight(listed, "/api/v1/encode", origin) == (403, {})
    headers = {"origin": origin, "authorization": f"Bearer {TOKEN}"}
    assert listed.post("/api/v1/encode", json={"text": "a"}, headers=headers).status_code == 403


def test_a_cookie_proves_nothing_for_another_origin(listed):
    cookie = listed.post("/login", data={"token": TOKEN}).headers["set-cookie"].split(";")[0]
    assert listed.get("/api/v1/about", headers={"cookie": cookie}).status_code == 200
    for origin in ("https://lab.test:8888", "http://[::1]:3000"):
        assert listed.get("/api/v1/about", headers={"cookie": cookie, "origin": origin}).status_code == 401
    two = [("origin", "https://lab.test:8888"), ("origin", "http://evil.test"), ("cookie", cookie)]
    assert listed.post("/api/v1/encode", json={"text": "a"}, headers=two).status_code == 403


def test_large_bodies_are_refused_announced_or_not(client):
    most = Limits().body_bytes
    json_kind = {"content-type": "application/json"}
    for path in ("/api/v1/encode", "/v1/chat/completions", "/prompt"):
        assert client.post(path, content=b"x" * (most + 1), headers=json_kind).status_code == 413
    for length in ("9" * 30, "-1", "1e3", "+5", "1_0"):
        announced = {**json_kind, "content-length": length}
        assert client.post("/api/v1/encode", content=b"{}", headers=announced).status_code == 413

    read = 0

    async def pieces():
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x" * 100_000

    assert client.post("/api/v1/encode", content=pieces(), headers=json_kind).status_code == 413


def test_every_answer_carries_the_headers(client):
    for path in ("/", "/static/app.js", "/api/v1/about", "/nowhere", "/api/v1/search", "/metrics", "/v1/nowhere"):
        headers = client.get(path).headers
        for name, value in guard.HEADERS.items():
            if name != "cache-control":
                assert headers[name] == value, (path, name)
    policy = guard.HEADERS["content-security-policy"]
    assert "unsafe" not in policy and "require-trusted-types-for 'script'" in policy and "default-src 'none'" in policy


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": f"Bearer {TOKEN[:-1]}"}, {"authorization": f"Bearer {TOKEN}x"},
     {"authorization": f"Basic {TOKEN}"}, {"authorization": TOKEN}, {"authorization": "Bearer"},
     {"authorization": f"Bearer {TOKEN.upper()}"}, {"authorization": b"Bearer \xff\xfe"},
     {"cookie": f"monoscope={TOKEN}"}, {"cookie": f"monoscope-{PORT}={TOKEN}"}, {"cookie": "monoscope=%%%"},
     {"x-api-key": TOKEN}],
)  # fmt: skip
def test_every_route_needs_the_token(locked, headers):
    client = Client(locked)
    for method, path in routes(locked):
        if path == HEALTH:
            continue
        json = BODIES.get(method)
        assert client(method, path, headers=headers, json=json).status_code == 401, (method, path)
        with_query = client(method, f"{path}?token={TOKEN}&api_key={TOKEN}", headers=headers, json=json)
        assert with_query.status_code == 401, (method, path)


def test_every_described_operation_was_walked_and_is_locked(locked):
    client = Client(locked)
    page = client.get("/api/v1/openapi.json", headers={"authorization": f"Bearer {TOKEN}"}).json()
    assert page["security"] == [{"token": []}]
    walked = routes(locked)
    for path, operations in page["paths"].items():
        for name, operation in operations.items():
            assert operation.get("security", page["security"]) == [{"token": []}]
            shape = re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)))
            assert any(method == name.upper() and shape.fullmatch(at) for method, at in walked), (name, path)
    paths = {path for _, path in walked}
    assert {"/", "/search", "/f/toy/1", "/prompt", "/steer", "/api/v1/about", "/api/v1/steer", "/api/v1/presets/x",
            "/v1/models", "/v1/chat/completions", "/v1/completions", "/metrics", "/api/v1/openapi.json", HEALTH
            } <= paths  # fmt: skip


def test_every_route_that_takes_a_body_is_known_to_ask_or_counts_as_a_write(client):
    """Whoever adds a route that keeps nothing lists it; without that it needs the admin token, and a ledger line."""
    asking = {path for method, path in writing(client.app) if not is_desk_write(method, path)}
    assert asking == ASKING - {"/login"}
    assert all(is_desk_write(method, path) for method, path in writing(client.app) if path not in asking)


def test_health_is_open_and_the_token_opens_the_rest(locked):
    client = Client(locked)
    assert client.get(HEALTH).status_code == 200
    for path in ("/api/v1/about", "/metrics", "/v1/models"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_logging_in_sets_a_cookie_that_scripts_cannot_read(locked, run, books):
    client = Client(locked)
    page = client.get("/", headers={"accept": "text/html"})
    assert page.status_code == 401 and '<form method="post" action="/login"' in page.text
    for wrong in ({"token": "wrong"}, {"token": ""}, {}, {str(n): "x" for n in range(9)}):
        assert client.post("/login", data=wrong).status_code == 401, wrong
    big = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content=b"token=" + b"x" * 5000, headers=big).status_code == 413
    assert client.post("/login", data={"token": TOKEN}, headers={"origin": "http://evil.test"}).status_code == 403
    answer = client.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    kept = {"cookie": cookie.split(";")[0]}
    assert client.get("/", headers=kept).status_code == 200
    # Another server, and this one after a start, does not know it.
    assert Client(create_app(run, library=books, port=PORT, token=TOKEN)).get("/", headers=kept).status_code == 401


def test_the_page_on_security_names_all_threats_and_tests_that_are_there():
    page = (ROOT / "docs" / "security.md").read_text()
    assert re.findall(r"^\| (N\d+) \|", page, re.MULTILINE) == [f"N{number}" for number in range(1, 19)]
    named = set(re.findall(r"`(?:(\w+)/)?(test_\w+\.py)`", page))
    assert len(named) > 15
    for room, name in named:
        assert (ROOT / "tests" / (room or "serve") / name).exists(), (room, name)


def test_the_token_is_compared_in_constant_time():
    source = inspect.getsource(tokens)
    assert source.count("hmac.compare_digest") == 2 and "== known" not in source and "sha256" in source


@pytest.mark.parametrize("token", ["Schlüssel à", "пароль пароль", "🔑🔑🔑🔑 keys", "ends in à"])
def test_tokens_of_any_letters(run, books, token):
    client = Client(create_app(run, library=books, port=PORT, token=token))
    right = client.get("/api/v1/about", headers={"authorization": b"Bearer " + token.encode()})
    assert right.status_code == 200
    for wrong in (token[:-1].encode(), token.encode("utf-16"), b"\xff" * 12, "é".encode("latin-1")):
        answer = client.get("/api/v1/about", headers={"authorization": b"Bearer " + wrong})
        assert answer.status_code == 401
    assert client.post("/login", data={"token": token}).status_code == 303
