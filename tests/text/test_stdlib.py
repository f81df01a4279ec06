import ast
from itertools import islice
from pathlib import Path

from monoscope.text.stdlib import _pieces, stdlib_documents


def test_pieces_come_from_many_files() -> None:
    documents = list(islice(stdlib_documents(), 60))
    assert documents == list(islice(stdlib_documents(), 60))
    assert documents != list(islice(stdlib_documents(seed=1), 60))
    assert len({document.group for document in documents}) >= 20
    assert all(document.language == "python" and document.source == "python-stdlib" for document in documents)
    assert max(len(document.text.split()) for document in documents) <= 800
    sizes = sorted(len(document.text.split()) for document in documents)
    assert 150 <= sizes[30] <= 800
    assert not any(document.title.startswith("/") or ".test." in document.title for document in documents)


def test_pieces_of_a_file_add_up_to_it() -> None:
    path = Path(ast.__file__)
    assert "".join(piece.text for piece in _pieces("ast.py", path)) == path.read_text()
    titles = [piece.title for piece in _pieces("ast.py", path)]
    assert titles[0].startswith("ast")
    assert any(title == "ast._Unparser" for title in titles)
