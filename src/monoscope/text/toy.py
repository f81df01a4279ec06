"""Documents of the small world, for tests and for a first look."""

from collections.abc import Iterator

from monoscope.core.toy_text import toy_text
from monoscope.text.corpus import Document

COUNT = 4_000


def toy_documents(seed: int = 0) -> Iterator[Document]:
    """Four thousand short texts, each about one concept; one in eight is a talk."""
    for number in range(COUNT):
        made = toy_text(number, seed)
        title, group = f"{made.concept} {number}", f"toy-{number}"
        known = {"title": title, "source": "toy", "language": "en", "group": group, "topic": made.concept, "id": group}
        if number // 8 % 8 == 7:
            yield Document(messages=(("user", f"the {made.concept}"), ("assistant", made.text)), **known)
        else:
            yield Document(made.text, **known)
