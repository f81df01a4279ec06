import importlib.util
import time

import pytest

from monoscope.core.errors import BadSource, SourceNotFound, Unavailable
from monoscope.text.hub import hub_documents, parse_hub, reach_hub


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("hf:org/set", ("org/set", "", "train", "")),
        ("hf:org/set:config", ("org/set", "config", "train", "")),
        ("hf:org/set::test", ("org/set", "", "test", "")),
        ("hf:org/set:config:test:body", ("org/set", "config", "test", "body")),
    ],
)
def test_the_grammar(source: str, parts: tuple[str, ...]) -> None:
    assert parse_hub(source) == parts


def test_too_many_parts() -> None:
    with pytest.raises(BadSource, match="hf:SET"):
        hub_documents("hf:a:b:c:d:e")


@pytest.mark.skipif(importlib.util.find_spec("datasets") is not None, reason="the library is installed")
def test_a_missing_library_is_one_sentence() -> None:
    with pytest.raises(Unavailable, match="datasets"):
        hub_documents("hf:org/set")


def test_an_unreachable_hub_is_one_sentence_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(SourceNotFound, match=r"hf:org/set cannot be reached .*local file"):
        reach_hub("hf:org/set")
    assert time.monotonic() - began < 20
