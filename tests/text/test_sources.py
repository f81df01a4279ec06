from pathlib import Path

import pytest

from monoscope.core.errors import BadSource, EmptyText, SourceNotFound
from monoscope.text.corpus import Document, Part
from monoscope.text.sources import open_documents, open_mix, parse_mix


def test_weights_are_made_to_sum_to_one() -> None:
    assert parse_mix("wiki-en=3, python-stdlib=1") == [("wiki-en", 0.75), ("python-stdlib", 0.25)]


def test_sources_without_weights_share_alike() -> None:
    assert parse_mix("toy") == [("toy", 1.0)]
    assert parse_mix("a.txt,b.txt") == [("a.txt", 0.5), ("b.txt", 0.5)]


def test_demo_is_seven_sources() -> None:
    shares = dict(parse_mix("demo"))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["wiki-en"] == pytest.approx(0.51 / 0.95)
    assert list(shares) == ["wiki-en", "wiki-fr", "wiki-es", "python-stdlib", "wiki-chat", "dna", "citations"]


def test_demo_may_be_a_part() -> None:
    shares = dict(parse_mix("demo=0.5,my.txt=0.5"))
    assert shares["my.txt"] == pytest.approx(0.5)
    assert len(shares) == 8


def test_a_path_with_commas_and_equal_signs_is_one_source(tmp_path: Path) -> None:
    path = tmp_path / "a=0.5,b.txt"
    path.write_text("hello")
    assert parse_mix(str(path)) == [(str(path), 1.0)]
    assert parse_mix(f"toy=1,{tmp_path}=3") == [("toy", 0.25), (str(tmp_path), 0.75)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "missing"),
        ("  ", "missing"),
        ("a=0.5,b", "every one"),
        ("a=x,b=1", "'a=x'"),
        ("a=0,b=1", "above zero"),
        ("a=-1", "above zero"),
        ("a=inf", "above zero"),
        ("a=nan", "above zero"),
        ("=1", "'=1'"),
        ("a,,b", "without a name"),
        ("toy,toy", "twice"),
        ("demo=1,wiki-en=1", "twice"),
        ("hf:a:b:c:d:e", "hf:SET"),
        ("hf:", "hf:SET"),
    ],
)
def test_bad_mixes_are_refused_with_a_sentence(text: str, told: str) -> None:
    with pytest.raises(BadSource, match=told):
        parse_mix(text)


def test_unknown_sources_are_refused_before_anything_is_read() -> None:
    with pytest.raises(SourceNotFound, match=r"wiki-de.*wiki-en"):
        open_documents("wiki-de")
    with pytest.raises(SourceNotFound, match="nowhere.txt"):
        open_mix("toy=1,nowhere.txt=1")


def test_toy_is_deterministic_and_depends_on_the_seed() -> None:
    one, again, other = (next(open_documents("toy", seed=seed)) for seed in (0, 0, 1))
    assert one == again != other


def test_one_toy_text_in_eight_is_a_talk_about_its_title() -> None:
    documents = [document for document, _ in zip(open_documents("toy"), range(160), strict=False)]
    talks = [document for document in documents if document.chat]
    assert len(talks) == 20
    assert all(talk.title in talk.messages[0][1] for talk in talks)


def test_extra_parts_take_their_share_of_the_whole() -> None:
    parts = open_mix("toy", extra=[Part("mine", 0.2, [Document("hello")])])
    assert [(part.source, part.weight) for part in parts] == [("toy", pytest.approx(0.8)), ("mine", 0.2)]
    with pytest.raises(BadSource, match="leave nothing"):
        open_mix("toy", extra=[Part("mine", 1.0, [])])


def test_a_part_without_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (part,) = open_mix(str(tmp_path / "empty.txt"))
    with pytest.raises(EmptyText, match=r"empty\.txt"):
        next(iter(part.documents))


def test_a_local_folder_does_not_shadow_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    assert next(open_documents("toy")).source == "toy"
