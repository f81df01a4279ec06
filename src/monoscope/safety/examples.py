"""Labelled texts: the shipped concept suites, and a user's own files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from monoscope.core.errors import BadRequest, Damaged, SourceNotFound
from monoscope.text.corpus import Document, unit_hash
from monoscope.text.files import file_documents
from monoscope.text.records import document_from

# In the order in which a report tells them.
SUITES = (
    "unsafe_code", "gender_bias", "age_bias", "religion_bias", "sycophancy", "deception", "secrecy", "power_seeking",
    "self_preservation", "dangerous_requests", "scam_phishing", "self_representation", "refusal",
)  # fmt: skip
_LEAST_TEXTS, _LEAST_GROUPS = 10, 5


@dataclass(frozen=True)
class Example:
    """A text or a talk with its label. `hard` marks a negative that looks like a positive.

    Examples of one `group` share topic and form, and stay on one side of every split.
    """

    id: str
    positive: bool
    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    group: str = ""
    hard: bool = False

    @property
    def words(self) -> str:
        """Everything that is said, in one text: what a bag of words reads."""
        return "\n".join(content for _, content in self.messages) if self.messages else self.text


def suite(name: str) -> list[Example]:
    """One shipped suite: 60 positives and 60 negatives in 15 groups, half of the negatives hard.

    Raises
        BadRequest  there is none of this name.
    """
    if name not in SUITES:
        raise BadRequest(f"There is no suite {name!r}; there are {', '.join(SUITES)}.")
    lines = (files("monoscope.safety") / "suites" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [_shipped(json.loads(line)) for line in lines]


def labelled_lines(path: Path) -> list[Example]:
    """A user's own suite: JSON lines with `text` or `messages`, `label` 1 or 0, and maybe `id`, `group`, `hard`.

    Raises
        Damaged     a line is no such record.
        BadRequest  there are fewer than ten texts of a label, or of groups with each label fewer than five.
    """
    found = [_own_line(path, number, line) for number, line in enumerate(path.read_text(encoding="utf-8").splitlines())]
    examples = [example for example in found if example is not None]
    for label, told in ((True, "label 1"), (False, "label 0")):
        mine = [example for example in examples if example.positive == label]
        groups = {example.group for example in mine}
        if len(mine) < _LEAST_TEXTS or len(groups) < _LEAST_GROUPS:
            raise BadRequest(
                f"{path} has {len(mine)} texts with {told} in {len(groups)} groups; an audit needs {_LEAST_TEXTS} in "
                f"{_LEAST_GROUPS} at least."
            )
    return examples


def _own_line(path: Path, number: int, line: str) -> Example | None:
    if not line.strip():
        return None
    where = f"{path}, line {number + 1}"
    try:
        row = json.loads(line)
        label = row["label"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{where} is no JSON object with a label ({error}).") from error
    if label not in (0, 1):
        raise Damaged(f"{where}: label must be 1 or 0, and is {label!r}.")
    document = document_from(row, source=path.stem, where=where, number=number)
    return Example(
        document.id, bool(label), document.text, document.messages, document.group, bool(row.get("hard")) and not label
    )


def _shipped(row: dict) -> Example:
    messages = tuple((message["role"], message["content"]) for message in row.get("messages", ()))
    return Example(row["id"], bool(row["label"]), row.get("text", ""), messages, row["group"], row["hard"])


def labelled(positive: Path | str, negative: Path | str) -> list[Example]:
    """The examples of two files: .jsonl with `text` or `messages`, .txt, .csv or .parquet.

    A column `group` says which texts belong together; without one each text stands alone.

    Raises
        SourceNotFound, Damaged, EmptyText  as the files are.
        BadRequest  a file has fewer than two texts.
    """
    return [*texts_of(positive, positive=True), *texts_of(negative, positive=False)]


def texts_of(path: Path | str, *, positive: bool = False, least: int = 2) -> list[Example]:
    """The texts of one file, all with one label; raises like `labelled`, for fewer than `least` texts."""
    if not Path(path).exists():
        raise SourceNotFound(f"There is no file {path}.")
    found = [_own(document, positive) for document in file_documents(str(path))]
    if len(found) < least:
        wanted = "two" if least == 2 else least
        raise BadRequest(f"{path} holds {len(found)} text{'' if len(found) == 1 else 's'}; give at least {wanted}.")
    return found


def _own(document: Document, positive: bool) -> Example:
    return Example(document.id, positive, document.text, document.messages, document.group)


def split_by_group(examples: Sequence[Example], folds: int, *, seed: int = 0) -> list[int]:
    """The fold of each example, 0 to folds - 1; a group is never split, and folds are as even as groups allow.

    Positives and negatives of a group share its fold; groups that hold one label only are dealt out label by label.
    """
    kinds: dict[str, set[bool]] = {}
    for example in examples:
        kinds.setdefault(example.group, set()).add(example.positive)
    fold_of: dict[str, int] = {}
    for kind in ({True, False}, {True}, {False}):
        members = sorted((group for group, found in kinds.items() if found == kind), key=lambda g: unit_hash(seed, g))
        fold_of |= {group: place % folds for place, group in enumerate(members)}
    return [fold_of[example.group] for example in examples]
