"""The audit: what it writes, that it goes on where it was stopped, and that its page says first what failed."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from monoscope import auditing
from monoscope.cli import run_command
from monoscope.core.run import Run
from monoscope.safety import concept_audit
from monoscope.safety.audit_page import audit_html
from monoscope.safety.comparison import WAYS

from .conftest import talk_of


def own(path: Path, seed: int, groups: int = 8) -> Path:
    lines = [
        json.dumps({"id": one.id, "label": int(one.positive), "group": one.group, "text": one.text})
        for one in talk_of(groups=groups, seed=seed)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def place(planted, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "run"
    shutil.copytree(planted.folder, folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _two_folds():
    """As many as tell whether folds are kept apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concept_audit, "FOLDS", 2)
        yield


@pytest.fixture(scope="module")
def concepts(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("concepts")
    return [own(folder / "weather.jsonl", 0), own(folder / "storms.jsonl", 7)]


@pytest.fixture(scope="module")
def result(place, concepts) -> dict[str, Any]:
    """An audit that is stopped after its first concept, and goes on."""
    calls = iter([False, True])
    with pytest.raises(InterruptedError):
        auditing.audit(Run(place), own=concepts, should_stop=lambda: next(calls))
    first = place / "audits" / "planted" / "concepts" / "weather.json"
    assert first.is_file() and not first.with_name("storms.json").exists()
    before = first.stat().st_mtime_ns
    found = auditing.audit(Run(place), own=concepts)
    assert first.stat().st_mtime_ns == before
    return found


def test_it_finds_a_planted_concept_and_tells_every_rival(result) -> None:
    assert [each["name"] for each in result["concepts"]] == ["weather", "storms"]
    for each in result["concepts"]:
        assert each["auroc_heldout"] > 0.95
        assert set(each["ways"]) == set(WAYS)
        assert set(each["baseline"]) == {"probe", "bag_of_words", "random_feature"}
        assert each["found"] and each["features"]
        assert {"ablated", "amplified", "random"} == set(each["leading"]["effects"])
        assert 0 <= each["alarms"]["features"]["ordinary"] <= 1


def test_what_is_there_is_told_again_and_other_texts_are_audited_anew(result, place, concepts) -> None:
    again = auditing.audit(Run(place), own=concepts)
    assert again["skipped"] and again["concepts"] == result["concepts"]
    assert again["fvu_ordinary"] == result["fvu_ordinary"] is not None
    own(concepts[1], 8)
    changed = auditing.audit(Run(place), own=concepts)
    assert not changed["skipped"]
    assert changed["concepts"][0] == result["concepts"][0]
    own(concepts[1], 7)


class Reader(HTMLParser):
    """Collects what a page holds."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.marks: set[str] = set()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.marks.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_page_stands_alone_and_shows_no_text_of_a_suite(result, place, concepts) -> None:
    page = Path(result["report"]).read_text()
    found = read(page)
    assert "script" not in found.marks
    assert all(source.startswith("#") for source in found.sources)
    words = " ".join(found.words)
    for line in concepts[0].read_text().splitlines():
        assert json.loads(line)["text"] not in words
    assert json.loads((place / "audits" / "planted" / "audit.json").read_text())["headlines"] == result["headlines"]


def test_labels_and_names_are_never_markup(result) -> None:
    told = json.loads(json.dumps(result))
    told["concepts"][0]["name"] = "<script>alert(1)</script>"
    told["concepts"][0]["features"][0]["label"] = "<img src=x onerror=alert(2)>"
    told["model"] = "<b>model</b>"
    found = read(audit_html(told))
    assert not {"script", "img", "b"} & found.marks


def test_the_first_lines_say_where_features_lose_and_what_was_not_found(result) -> None:
    lost = json.loads(json.dumps(result["concepts"][0]))
    lost |= {"name": "lost", "beats_words": False, "found": False, "auroc_heldout": 0.5}
    lines = auditing.headlines([lost, result["concepts"][1]])
    assert lines[0].startswith("A bag of words does better") and "lost" in lines[0]
    assert lines[1].startswith("We found nothing") and "lost" in lines[1]
    page = audit_html({**result, "concepts": [lost], "headlines": lines})
    assert page.index("A bag of words does better") < page.index("How to read this")
    assert "nothing found beyond chance" in page


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--concept", "courtesy"], "There is no concept 'courtesy'"),
        (["--examples", "missing.jsonl"], "There is no file missing.jsonl"),
    ],
)
def test_refusals(place, capsys, words, told) -> None:
    assert run_command(["audit", str(place), *words]) != 0
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no json\n", "line 1 is no JSON object with a label"),
        ('{"text": "a", "label": 3}\n', "label must be 1 or 0"),
        ('{"text": "a", "label": 1}\n' * 3, "an audit needs 10 in 5 at least"),
    ],
)
def test_a_bad_suite_is_refused_in_one_sentence(place, tmp_path, capsys, text, told) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(text)
    assert run_command(["audit", str(place), "--examples", str(path)]) != 0
    assert told in capsys.readouterr().err
