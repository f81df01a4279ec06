import json
from pathlib import Path

import pytest

from monoscope.core.errors import Damaged
from monoscope.text.sources import open_documents
from monoscope.text.wheels_text import harmful_file, wiki_file


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that holds small files in the place of those that the wheels carry."""

    def article(title: str, text: str, topic: str = "") -> dict[str, str]:
        return {"title": title, "extract": text, "description": "", "topic": topic}

    english = {
        "Plato": article("Plato", "Plato taught Aristotle at Athens in 387.", "People"),
        "Paris": article("Paris", "Paris is the capital of France.", "Geography"),
        "Iron": article("Iron", "Iron is a metal.", "Physical sciences"),
        "Nothing": article("Nothing", ""),
    }
    french = {
        "Aliment": article("Aliment", "Un aliment se mange."),
        "Platon": article("Platon", "Platon, maître d'Aristote à Athènes en 387.", "Personnalités"),
        "Paris": article("Paris", "Paris est une ville."),
    }
    for language, articles in (("en", english), ("fr", french)):
        place(tmp_path, wiki_file(language), json.dumps(articles))
    return tmp_path


def place(cache: Path, ref: object, text: str) -> None:
    path = cache / "wheels" / ref.sha256[:16] / Path(ref.member).name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_articles_without_text_are_left_out(cache: Path) -> None:
    documents = {document.title: document for document in open_documents("wiki-en", cache=cache)}
    assert set(documents) == {"Plato", "Paris", "Iron"}
    plato = documents["Plato"]
    assert plato.text == "Plato\nPlato taught Aristotle at Athens in 387."
    assert (plato.source, plato.language, plato.topic, plato.id) == ("wiki-en", "en", "People", "wiki-en:Plato")


def test_translations_and_talks_share_a_group_and_come_first(cache: Path) -> None:
    english = {document.title: document.group for document in open_documents("wiki-en", cache=cache)}
    french = list(open_documents("wiki-fr", cache=cache))
    assert {document.title: document.group for document in french} == {
        "Platon": english["Plato"],
        "Paris": english["Paris"],
        "Aliment": "wiki:Aliment",
    }
    assert french[-1].title == "Aliment"
    talks = {document.title: document for document in open_documents("wiki-chat", cache=cache)}
    assert {title: talk.group for title, talk in talks.items()} == english
    (role, question), (answerer, answer) = talks["Iron"].messages
    assert (role, answerer, answer) == ("user", "assistant", "Iron is a metal.")
    assert "Iron" in question


def test_the_order_depends_on_the_seed_alone(cache: Path) -> None:
    orders = {tuple(d.title for d in open_documents("wiki-en", cache=cache, seed=seed)) for seed in range(8)}
    assert len(orders) > 1
    assert list(open_documents("wiki-en", cache=cache)) == list(open_documents("wiki-en", cache=cache))


def test_requests_are_single_messages(cache: Path) -> None:
    seeds = "".join(f"- value: 'Request: number {number}'\n  data_type: text\n" for number in range(520))
    place(cache, harmful_file(), f"dataset_name: x\nseeds:\n{seeds}")
    documents = list(open_documents("harmful-requests", cache=cache))
    assert len(documents) == 520
    assert documents[0].messages == (("user", "Request: number 0"),)


@pytest.mark.parametrize("text", ["", "seeds: 3", "seeds:\n- value: one\n", "{", "- a\n- b"])
def test_a_changed_file_is_damaged(cache: Path, text: str) -> None:
    place(cache, harmful_file(), text)
    with pytest.raises(Damaged, match="delete it"):
        list(open_documents("harmful-requests", cache=cache))


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {}}'])
def test_changed_articles_are_damaged(tmp_path: Path, text: str) -> None:
    place(tmp_path, wiki_file("en"), text)
    with pytest.raises(Damaged, match="delete it"):
        list(open_documents("wiki-en", cache=tmp_path))
