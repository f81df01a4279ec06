import gzip
import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from monoscope.core.errors import BadSource, Damaged, EmptyText, SourceNotFound
from monoscope.text.corpus import Document
from monoscope.text.files import file_documents, looks_local, stdin_documents

RECORDS = [
    {"text": "plain words", "title": "one", "language": "en", "id": "a"},
    {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]},
]


def read(path: Path | str) -> list[Document]:
    return list(file_documents(str(path)))


def lines_of(records: list[dict]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes("\ufeffà la carte\r\nand more".encode())
    (document,) = read(tmp_path / "notes.txt")
    assert document.text == "à la carte\nand more"
    assert (document.title, document.source, document.group) == ("notes.txt",) * 3


def test_a_long_text_is_cut_at_empty_lines_and_loses_nothing(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 300 for number in range(60))
    (tmp_path / "book.md").write_text(text)
    documents = read(tmp_path / "book.md")
    assert "".join(document.text for document in documents) == text
    assert len(documents) > 5
    assert max(len(document.text) for document in documents) <= 12_000
    assert all(document.text.startswith("Paragraph") for document in documents)
    assert {document.group for document in documents} == {"book.md"}
    assert len({document.id for document in documents}) == len(documents)


def test_a_text_without_any_break_is_cut_too(tmp_path: Path) -> None:
    text = "é" * 2_000_001
    (tmp_path / "long.txt").write_text(text)
    assert "".join(document.text for document in read(tmp_path / "long.txt")) == text


@pytest.mark.parametrize("pack", ["", ".gz", ".zst"])
def test_json_lines_also_compressed(tmp_path: Path, pack: str) -> None:
    data = lines_of(RECORDS)
    packed = {"": data, ".gz": gzip.compress(data), ".zst": zstandard.compress(data)}[pack]
    path = tmp_path / f"data.jsonl{pack}"
    path.write_bytes(packed)
    plain, talk = read(path)
    assert (plain.text, plain.title, plain.language, plain.id) == ("plain words", "one", "en", "a")
    assert talk.messages == (("user", "hello"), ("assistant", "hi"))
    assert talk.id == f"{path.name}:2"


def test_parquet_and_csv(tmp_path: Path) -> None:
    messages = [[{"role": "user", "content": "hello"}], [{"role": "user", "content": "bye"}]]
    pq.write_table(pa.table({"messages": messages, "title": ["x", None], "n": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["one", None], "id": [7, 8]}), tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text('text,title\n"two\nlines, quoted",t\n')
    assert [document.messages for document in read(tmp_path / "a.parquet")] == [
        (("user", "hello"),),
        (("user", "bye"),),
    ]
    assert [(document.text, document.id) for document in read(tmp_path / "b.parquet")] == [("one", "7"), ("", "8")]
    assert [(document.text, document.title) for document in read(tmp_path / "c.csv")] == [("two\nlines, quoted", "t")]


def test_content_in_parts_is_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    (tmp_path / "a.jsonl").write_bytes(lines_of([{"messages": [{"role": "user", "content": parts}]}]))
    assert read(tmp_path / "a.jsonl")[0].messages == (("user", "ab"),)


def test_a_folder_gives_known_kinds_and_passes_over_hidden_files(tmp_path: Path) -> None:
    for name in ("a.txt", "deep/b.md", ".hidden/c.txt", "d.png", ".e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert sorted(document.text for document in read(tmp_path)) == ["a.txt", "deep/b.md"]
    assert sorted(document.text for document in read(f"{tmp_path}/**/*.md")) == ["deep/b.md"]
    assert all(str(tmp_path) not in document.title + document.source + document.id for document in read(tmp_path))


def test_blank_lines_and_empty_texts_are_let_through(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"text": ""}\n\n{"text": "x"}')
    assert [document.text for document in read(tmp_path / "a.jsonl")] == ["", "x"]


@pytest.mark.parametrize(
    ("name", "data", "error", "told"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', Damaged, r"a\.jsonl line 2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n[1]\n', Damaged, r"a\.jsonl line 2 holds no JSON object"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', Damaged, r"a\.jsonl line 2 is not UTF-8 \(byte 0xff\)"),
        ("a.jsonl", b'{"body": "x"}\n', EmptyText, r"a\.jsonl line 1 lacks a column text or messages; it has body"),
        ("a.jsonl", b'{"text": 3}\n', Damaged, r"line 1: text holds 3"),
        ("a.jsonl", b'{"messages": []}\n', Damaged, "at least one"),
        ("a.jsonl", b'{"messages": [{"content": "x"}]}\n', Damaged, "a role and a content"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": 3}]}\n', Damaged, "must be a text"),
        ("a.jsonl", b"[" * 100_000, Damaged, "not JSON"),
        ("a.txt", "é\n".encode("latin-1"), Damaged, r"a\.txt line 1 is not UTF-8 \(byte 0xe9\)"),
        ("a.txt", b"fine\n" * 300_000 + b"\xff", Damaged, r"a\.txt line 300001 is not UTF-8"),
        ("a.csv", b"title\nx\n", EmptyText, r"a\.csv line 2 lacks a column text"),
        ("a.csv", b'text\n"open', Damaged, "not CSV"),
        ("a.csv", b"text\n\xff\n", Damaged, "not UTF-8"),
        ("a.parquet", b"PAR1 no", Damaged, "not a whole Parquet file"),
        ("a.txt.gz", b"not gzip", Damaged, "cannot be read"),
        ("a.txt.gz", gzip.compress(b"words " * 5000)[:-20], Damaged, "cannot be read"),
        ("a.txt.zst", b"not zstd", Damaged, "cannot be read"),
        ("a.json", b"[]", BadSource, r"\.jsonl"),
    ],
)
def test_bad_files_are_refused_with_name_and_line(
    tmp_path: Path, name: str, data: bytes, error: type, told: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=told):
        read(tmp_path / name)


def test_wrong_columns_of_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(EmptyText, match=r"a\.parquet lacks a column text or messages; it has body, n"):
        read(tmp_path / "a.parquet")


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no file or folder"):
        read(tmp_path / "no.txt")
    with pytest.raises(SourceNotFound, match="no file or folder"):
        read(tmp_path / "*.txt")
    with pytest.raises(EmptyText, match="has no file of the kinds"):
        read(tmp_path)
    assert not looks_local("wiki-en")
    assert not looks_local("a" * 5000)
    assert not looks_local("nul\0byte")


@pytest.mark.parametrize(
    ("data", "found"), [(b"some words", "some words"), (b'{"text": "some words"}\n', "some words")]
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes, found: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert [document.text for document in stdin_documents()] == [found]
