"""The toy run of the server's tests, and a server of it, for those of them that take long."""

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from monoscope.serve.app import create_app, free_port
from monoscope.serve.intake import Limits
from monoscope.serve.library import Library
from monoscope.serve.wire import end, server_of
from serve.conftest import books, feature, run

__all__ = ["books", "feature", "run"]
TOKEN = "a token that the tests know"


@dataclass(frozen=True)
class ToyServer:
    """A server at work; `headers` let in."""

    host: str
    port: int
    headers: dict[str, str]
    library: Library


@pytest.fixture(scope="module")
def toy_server(run, toy, tmp_path_factory) -> Iterator[ToyServer]:
    """A server of a copy of the run, for which no number of writes is too many."""
    folder = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(run, folder)
    library = Library(folder)
    library.give_model(toy)
    port = free_port(wanted=19_000)
    app = create_app(folder, token=TOKEN, port=port, library=library, limits=Limits(desk_writes_a_minute=10**6))
    server = server_of(app, "127.0.0.1", port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield ToyServer("127.0.0.1", port, {"authorization": f"Bearer {TOKEN}"}, library)
    end(server)
    thread.join(5)
    library.close()
