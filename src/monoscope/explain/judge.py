"""The contract of a language model that answers prompts, and how a question is put to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

Message = Mapping[str, str]
Found = TypeVar("Found")
_QUOTED = 600


@dataclass(frozen=True)
class Question:
    """What a judge is asked.

    `form` says how the last line of the answer is to look; `likely` is such a line, from which costs are estimated.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    form: str
    likely: str

    def again(self, answer: str) -> "Question":
        """The same, after an answer that could not be read."""
        said = answer.strip()[:_QUOTED] or "(nothing)"
        wanted = f"That answer cannot be read. Write one line and nothing else: {self.form}."
        more = ({"role": "assistant", "content": said}, {"role": "user", "content": wanted})
        return replace(self, messages=(*self.messages, *more))


def asking(task: str, material: str, form: str) -> tuple[Message, ...]:
    """A task, what it is about, and the form of the answer, once more at the end, where small models still see it.

    All in one message of the user: not every chat template knows a system's.
    """
    return ({"role": "user", "content": f"{task} {form}.\n\n{material}\n\nNow write {form}."},)


class Judge(Protocol):
    """A language model that answers prompts, as steadily as it can: greedily, at temperature 0.

    `name` is shown to people. `identity` is part of the key under which answers are kept: two judges that may answer
    differently have different ones. `price` is what a million tokens cost, None where nobody knows. `reads` is how many
    tokens question and answer may have together, None where the judge does not say.
    """

    name: str
    identity: str
    price: float | None
    reads: int | None

    def count(self, messages: Sequence[Message]) -> int:
        """About how many tokens the messages have."""
        ...

    def ask(self, messages: Sequence[Message], max_tokens: int) -> str:
        """The answer.

        Raises
            Unavailable  the judge cannot be reached, or refuses.
        """
        ...


class Asks(Protocol):
    """Whoever puts questions to a judge, or pretends to."""

    unread: int

    def fits(self, question: Question) -> bool:
        """Whether the judge can read the question."""
        ...

    def ask(self, question: Question) -> str:
        """The answer."""
        ...


def understood(asks: Asks, question: Question, read: Callable[[str], Found | None]) -> Found | None:
    """The answer as `read` understands it; where it does not the judge is asked once more, and then given up: None."""
    for _ in range(2):
        if not asks.fits(question):
            break
        answer = asks.ask(question)
        found = read(answer)
        if found is not None:
            return found
        question = question.again(answer)
    asks.unread += 1
    return None
