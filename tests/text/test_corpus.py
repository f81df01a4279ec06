from hypothesis import given
from hypothesis import strategies as st

from monoscope.text.corpus import Document, shuffled, text_digest, unit_hash


def test_same_words_share_group_and_id_whatever_the_title() -> None:
    one, other = Document("the same", title="a"), Document("the same", title="b")
    assert one.group == other.group == one.id == text_digest("the same")
    assert Document("another").group != one.group


def test_a_given_group_is_kept() -> None:
    document = Document("words", group="wiki:Bee")
    assert (document.group, document.id) == ("wiki:Bee", text_digest("words"))


def test_messages_make_a_talk() -> None:
    talk = Document(messages=(("user", "hello"), ("assistant", "hi")))
    assert talk.chat
    assert not Document("hello").chat
    assert talk.group == text_digest("user", "hello", "assistant", "hi")


def test_digests_tell_parts_apart_and_take_half_surrogates() -> None:
    assert text_digest("ab", "c") != text_digest("a", "bc")
    assert len(text_digest("\ud800")) == 16


@given(st.lists(st.text(), unique=True), st.integers())
def test_shuffling_is_a_permutation_that_ignores_the_order_it_was_given(texts: list[str], seed: int) -> None:
    documents = [Document(text) for text in texts]
    assert sorted(shuffled(documents, seed), key=lambda d: d.text) == sorted(documents, key=lambda d: d.text)
    assert list(shuffled(documents, seed)) == list(shuffled(reversed(documents), seed))


def test_shuffling_holds_only_its_buffer() -> None:
    endless = (Document(str(number)) for number in iter(int, 1))
    assert next(shuffled(endless, 0, buffer=5)).text == "0"


def test_the_die_is_fair_enough() -> None:
    rolls = [unit_hash(0, number) for number in range(4000)]
    assert min(rolls) >= 0 and max(rolls) < 1
    assert abs(sum(roll < 0.15 for roll in rolls) / 4000 - 0.15) < 0.02
