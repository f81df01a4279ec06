"""Documents of the small world, for tests and for a first look."""

from collections.abc import Iterator
from typing import Any

from monoscope.core.toy_text import toy_texts
from monoscope.text.corpus import Document

_COUNT = 20_000


def toy_documents(seed: int = 0) -> Iterator[Document]:
    """Short texts in the toy model's own language, each about one or two concepts; one in eight is a talk."""
    for number, (title, text) in enumerate(toy_texts(seed, _COUNT)):
        known: dict[str, Any] = {
            "title": title,
            "source": "toy",
            "language": "en",
            "topic": title.split()[0],
            "id": f"toy-{number}",
        }
        if number % 8 == 7:
            yield Document(messages=(("user", f"Write about {title}"), ("assistant", text)), **known)
        else:
            yield Document(text, **known)
