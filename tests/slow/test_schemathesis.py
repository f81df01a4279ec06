"""The interface as a stranger's program reads it: schemathesis sends what its OpenAPI page allows, and what not.

It gets an environment of its own, which needs a package index; MONOSCOPE_SCHEMATHESIS names an `st` that is there.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
WANTED = "schemathesis==4.32.5"
EXAMPLES = os.environ.get("MONOSCOPE_SCHEMATHESIS_EXAMPLES", "200")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    if found := os.environ.get("MONOSCOPE_SCHEMATHESIS"):
        return Path(found)
    folder = tmp_path_factory.mktemp("schemathesis")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", WANTED], check=True)
    return folder / "bin" / "st"


def test_no_finding(program, toy_server, tmp_path):
    page = f"http://{toy_server.host}:{toy_server.port}/api/v1/openapi.json"
    here = Path(__file__).parent
    command = [
        program, "--config-file", here / "schemathesis.toml", "run",
        page, "--checks", "all", "--max-examples", EXAMPLES, "--seed", "1",
        "--header", f"Authorization: {toy_server.headers['authorization']}", "--request-timeout", "20",
        "--continue-on-failure",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(here / "schemathesis_hooks.py")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    told = [line.strip() for line in done.stdout.splitlines() if "Tested:" in line or " generated" in line]
    sys.stdout.write(f"{', '.join(told)}\n")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
