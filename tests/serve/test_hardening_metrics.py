"""Figures and health for machines: true, bounded, and without a word of a visitor."""

import re
import shutil

from monoscope.serve.app import create_app
from monoscope.serve.metrics import SECONDS

from .client import PORT, Client

LINE = re.compile(
    r'(# TYPE [a-z_]+ (counter|gauge|histogram)|[a-z_]+(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? [0-9.e+-]+)'
)


def figures(client):
    text = client.get("/metrics").text
    assert text.endswith("\n")
    for line in text.splitlines():
        assert LINE.fullmatch(line), line
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_requests_are_counted_by_route_and_status(lone):
    for feature in range(7):
        assert lone.get(f"/api/v1/features/toy/{feature}").status_code == 200
    lone.get("/api/v1/features/toy/96")
    lone.get("/secret-path")
    lone.post("/api/v1/encode", content=b"x", headers={"content-type": "text/plain"})
    lone("BREW", "/healthz", json={})
    found = figures(lone)
    route = "/api/v1/features/{dictionary}/{feature}"
    assert found[f'monoscope_requests_total{{method="GET",route="{route}",status="200"}}'] == 7
    assert found[f'monoscope_requests_total{{method="GET",route="{route}",status="404"}}'] == 1
    assert found['monoscope_requests_total{method="GET",route="none",status="404"}'] == 1
    assert found['monoscope_requests_total{method="POST",route="none",status="415"}'] == 1
    assert [name for name in found if 'method="other"' in name] and not [name for name in found if "BREW" in name]
    assert found["monoscope_requests_active"] == 1  # this very one
    buckets = [found[f'monoscope_request_seconds_bucket{{route="{route}",le="{edge:g}"}}'] for edge in SECONDS]
    assert buckets == sorted(buckets) and max(buckets) <= 8
    assert found[f'monoscope_request_seconds_bucket{{route="{route}",le="+Inf"}}'] == 8
    assert found[f'monoscope_request_seconds_count{{route="{route}"}}'] == 8
    assert found[f'monoscope_request_seconds_sum{{route="{route}"}}'] > 0


def test_any_number_of_addresses_makes_a_bounded_number_of_lines(lone):
    lone.get("/metrics")
    before = len(figures(lone))
    for number in range(25):
        lone.get(f"/nowhere/{number}")
        lone.get(f"/api/v1/lists/list-{number}")
        lone(f"M{number}", "/")
    assert len(figures(lone)) - before < 60


def test_the_model_tells_its_counts_once_it_runs(lone):
    assert not [name for name in figures(lone) if name.startswith("monoscope_model_")]
    body = {"model": "toy", "prompt": "The fox", "max_tokens": 5, "temperature": 0}
    assert lone.post("/v1/completions", json=body).status_code == 200
    found = figures(lone)
    assert found["monoscope_model_active"] == found["monoscope_model_waiting"] == 0
    assert found["monoscope_model_requests_total"] == 1 and 1 <= found["monoscope_model_tokens_total"] <= 6
    assert sum(value for name, value in found.items() if name.startswith("monoscope_model_finished_")) == 1


def test_health_says_what_it_can(lone, tmp_path, run):
    assert lone.get("/healthz").text == "ok" and lone("HEAD", "/healthz").status_code == 200
    assert lone.books.running_batcher is None  # looking starts nothing
    bare = Client(create_app(tmp_path, port=PORT))
    assert bare.get("/healthz").status_code == 200
    shutil.rmtree(tmp_path)
    assert bare.get("/healthz").status_code == 200
