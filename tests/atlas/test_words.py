import numpy as np
import pytest

from monoscope.atlas.words import Words, stem, word_pieces
from monoscope.harvest.tokenise import write_store
from monoscope.model.transformer import load_model
from monoscope.text.corpus import Document, Part

TEXTS = ("Unbelievable bridges, said é-type 2013!\n\n  def my_func(ValueError):", "más café")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    texts = [Document(text, title=str(i)) for i, text in enumerate(TEXTS * 3)]
    model = load_model("toy")
    store = write_store(
        tmp_path_factory.mktemp("text") / "t", [Part("x", 1.0, texts)], model, name="t", tokens=1000, held_min=1
    )
    return Words.of_store(store), store


def test_sub_tokens_become_whole_words(words):
    words, store = words
    for document in range(store.n_documents):
        text = store.text_of(int(store.offsets[document]), int(store.offsets[document + 1]))
        mine = np.flatnonzero(words.document == document)
        found = [words.surfaces[words.surface[word]] for word in mine]
        expected = {
            TEXTS[0]: ["Unbelievable", "bridges", ",", "said", "é", "-", "type", "2013", "!"],
            TEXTS[1]: ["más", "café"],
        }[text]
        assert [one for one in found if one.strip()][: len(expected)] == expected


def test_each_token_lies_in_its_word(words):
    words, store = words
    assert words.of_token[0] == 0
    assert words.of_token[-1] == len(words.first) - 1
    np.testing.assert_array_equal(words.of_token[words.first], np.arange(len(words.first)))
    assert words.stem_share.sum() == pytest.approx(1)
    assert (words.previous[words.of_token[store.offsets[:-1].numpy()]] == -1).all()


@pytest.mark.parametrize(
    ("word", "root"),
    [("bridges", "bridg"), ("Bridge", "bridg"), ("countries", "country"), ("glass", "glass"), ("was", "was"),
     ("raised", "rais"), ("raise", "rais"), ("2013", "2013"), ("king's", "king"), ("sing", "sing"), ("red", "red")],
)  # fmt: skip
def test_light_stems(word, root):
    assert stem(word) == root


def test_names_of_code_are_cut():
    assert word_pieces("HTTPError my_func ValueError café 2013") == [
        "http",
        "error",
        "my",
        "func",
        "value",
        "error",
        "café",
        "2013",
    ]
