import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import ArtifactNotFound, BadRequest, Damaged, EmptyText, RequestDiffers
from monoscope.harvest.packing import cut
from monoscope.harvest.split import hold_out, join_groups, signature
from monoscope.harvest.tokenise import TokenStore, write_store
from monoscope.model.transformer import LanguageModel
from monoscope.text.corpus import Document, Part

WORDS = ["fox", "bear", "horse", "wolf", "otter", "salmon", "python", "crane", "turkey", "moon", "comet", "orbit"]


def text_of(number: int) -> str:
    """Sixty words, different ones for different numbers."""
    die = random.Random(number)
    return " ".join(die.choice(WORDS) for _ in range(60))


def documents_of(store: TokenStore) -> list[str]:
    bounds = store.offsets.tolist()
    return [store.text_of(first, last) for first, last in zip(bounds[:-1], bounds[1:], strict=True)]


# ---- the law of packing


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=12),
    st.integers(2, 40),
    st.randoms(use_true_random=False),
)
def test_windows_take_every_token_once_and_stay_inside_documents(lengths, context, die) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    goodness = np.array([die.choice([0, 1, 2]) for _ in range(offsets[-1])], np.int8)
    start, length, document = cut(goodness, offsets, context)
    covered = [token for first, count in zip(start, length, strict=True) for token in range(first, first + count)]
    assert covered == list(range(offsets[-1]))
    assert (length >= 1).all() and (length <= context).all()
    assert (offsets[document] <= start).all() and (start + length <= offsets[document + 1]).all()


def test_windows_end_early_to_begin_well() -> None:
    goodness = np.array([2, 1, 1, 2, 1, 0, 0, 1, 0, 0, 0, 0], np.int8)
    start, length, _ = cut(goodness, np.array([0, 12]), 6)
    assert start.tolist() == [0, 3, 7]  # 3 opens a word, 7 is at least no white space
    assert length.tolist() == [3, 4, 5]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 60)), min_size=1, max_size=20), st.integers(0, 5))
def test_the_store_keeps_every_token_and_parts_no_group(toy: LanguageModel, shapes, seed: int) -> None:
    documents = [
        Document(f"{number} " + " ".join(WORDS[(number + k) % 12] for k in range(words)), group=f"g{group}")
        for number, (group, words) in enumerate(shapes)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "x", documents, toy, tokens=10**6, context=16, held_min=0, seed=seed)
        assert documents_of(store) == [document.text for document in documents]
        windows = store.windows
        assert int(windows.length.sum()) == store.n_tokens
        pairs = set(zip(store.documents["group"].to_pylist(), store.documents["split"].to_pylist(), strict=True))
        assert len(pairs) == len({group for group, _ in pairs})
        assert torch.equal(windows.held, store.held_documents[windows.document.long()])


# ---- what goes in


def test_text_comes_back_byte_for_byte(toy: LanguageModel, tmp_path: Path) -> None:
    texts = [
        "The fox sees every bear.",
        "naïve café — 日本語 \U0001f98a",
        "two\n\nlines\tand a tab",
        "a <|end|> in words",
    ]
    store = write_store(tmp_path / "x", [Document(text) for text in texts], toy, tokens=10_000, held_min=0)
    assert documents_of(store) == texts
    assert not store.template.any()
    assert not set(store.ids.tolist()) & toy.special_ids


def test_leading_white_space_goes_and_empty_documents_are_counted(toy: LanguageModel, tmp_path: Path) -> None:
    texts = ["\n\n\n The fox.", "   ", "", "\ufeffThe bear.", "\ufeff", "half \ud83d pair"]
    store = write_store(tmp_path / "x", [Document(text) for text in texts], toy, tokens=1000, held_min=0)
    assert documents_of(store) == ["The fox.", "The bear.", "half ? pair"]
    assert store.manifest["counts"]["dropped_empty"] == 3


def test_talks_go_through_the_template(toy: LanguageModel, tmp_path: Path) -> None:
    talk = Document(messages=(("user", "What is it"), ("assistant", "The fox sees a bear.")))
    store = write_store(tmp_path / "x", [talk, Document("The wolf.")], toy, tokens=1000, held_min=0)
    said = toy.tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in talk.messages], tokenize=False
    )
    assert documents_of(store) == [said, "The wolf."]
    spoken = b"".join(store.vocabulary[i] for i in store.ids[~store.template].tolist()).decode()
    assert spoken == "What is itThe fox sees a bear.The wolf."
    assert store.documents["chat"].to_pylist() == [True, False]
    assert store.windows.prefixed.tolist() == [False, True]
    empty = Document(messages=(("user", " "), ("assistant", "")))
    with pytest.raises(EmptyText):
        write_store(tmp_path / "y", [empty], toy, tokens=1000)


def test_only_the_first_window_of_a_talk_goes_without_prefix(toy: LanguageModel, tmp_path: Path) -> None:
    talk = Document(messages=(("user", text_of(1)), ("assistant", text_of(2))))
    store = write_store(tmp_path / "x", [talk, Document(text_of(3))], toy, tokens=1000, context=16, held_min=0)
    first_of_talk = store.windows.start == 0
    assert len(store.windows) > 6
    assert torch.equal(store.windows.prefixed, ~first_of_talk)


def test_doubles_are_dropped_and_near_doubles_share_a_side(toy: LanguageModel, tmp_path: Path) -> None:
    near = [text_of(number) for number in range(20)]
    documents = [Document(text, title=f"{copy}{n}") for n, text in enumerate(near) for copy in "ab"]
    documents += [Document(text.title() + " more") for text in near]
    store = write_store(tmp_path / "x", documents, toy, tokens=10**6, held_share=0.3, held_min=0)
    counts = store.manifest["counts"]
    assert (counts["documents"], counts["dropped_doubles"], counts["joined_near_doubles"]) == (40, 20, 20)
    split = store.documents["split"].to_pylist()
    assert split[:20] == split[20:]
    assert 0 < split.count("held") < 40


def test_likeness_ignores_case_and_sees_through_small_changes() -> None:
    words = [f"word{number}" for number in range(200)]
    changed = ["WORD0,", *words[1:100], "other", *words[101:]]
    one, other, far = (signature(" ".join(each)) for each in (words, changed, words[::-1]))
    assert join_groups(["a", "b", "c"], [one, other, far]) == ["a", "a", "c"]
    assert signature("only four short words") is None
    assert join_groups(["a", "b"], [None, None]) == ["a", "b"]


# ---- the split


def test_the_held_out_share_is_raised_to_its_least_but_not_above_thirty_per_cent() -> None:
    groups = [f"g{number}" for number in range(2000)]
    tokens = np.full(2000, 10)
    plain = hold_out(groups, tokens, share=0.15, least=0, seed=0)
    more = hold_out(groups, tokens, share=0.15, least=4_500, seed=0)
    most = hold_out(groups, tokens, share=0.15, least=10**9, seed=0)
    assert abs(plain.mean() - 0.15) < 0.03
    assert tokens[more].sum() == 4_500
    assert tokens[most].sum() == 6_000
    assert (plain <= more).all() and (more <= most).all()
    assert (hold_out(groups, tokens, share=0.15, least=0, seed=1) != plain).any()
    assert not hold_out(groups, tokens, share=0.0, least=0, seed=0).any()


def test_one_long_file_is_split_by_its_pieces(toy: LanguageModel, tmp_path: Path) -> None:
    pieces = [Document(text_of(number), group="book.txt") for number in range(30)]
    store = write_store(tmp_path / "x", pieces, toy, tokens=10**6, held_min=0)
    split = Counter(store.documents["split"].to_pylist())
    assert 0 < split["held"] <= 9
    assert len(set(store.documents["group"].to_pylist())) == 30


def test_two_documents_are_enough_for_a_split(toy: LanguageModel, tmp_path: Path) -> None:
    store = write_store(tmp_path / "x", [Document(text_of(1)), Document(text_of(2))], toy, tokens=10**6)
    assert sorted(store.documents["split"].to_pylist()) == ["held", "train"]


# ---- budget and shares


def part(name: str, weight: float, numbers: range) -> Part:
    return Part(name, weight, [Document(text_of(number), source=name) for number in numbers])


def test_the_budget_is_met_exactly_and_by_shares(toy: LanguageModel, tmp_path: Path) -> None:
    parts = [part("a", 3, range(300)), part("b", 1, range(300, 600))]
    store = write_store(tmp_path / "x", parts, toy, tokens=8_000, held_min=0)
    assert store.n_tokens == 8_000
    assert [share["tokens"] for share in store.manifest["shares"]] == [6_000, 2_000]
    assert not any(share["ran_dry"] for share in store.manifest["shares"])


def test_a_part_that_runs_dry_gives_its_share_to_the_others(toy: LanguageModel, tmp_path: Path) -> None:
    parts = [part("a", 1, range(300)), part("dry", 1, range(300, 302)), part("c", 2, range(400, 700))]
    store = write_store(tmp_path / "x", parts, toy, tokens=8_000, held_min=0)
    a, dry, c = store.manifest["shares"]
    assert store.n_tokens == 8_000 == a["tokens"] + dry["tokens"] + c["tokens"]
    assert dry["ran_dry"] and dry["documents"] == 2 and dry["tokens"] < 2_000
    assert abs(c["tokens"] - 2 * a["tokens"]) <= 1
    assert dry["asked"] == 0.25


def test_less_text_than_asked_is_no_error(toy: LanguageModel, tmp_path: Path) -> None:
    store = write_store(tmp_path / "x", [part("a", 1, range(3)), part("b", 1, range(0))], toy, tokens=10**6)
    assert store.n_documents == 3
    assert [share["ran_dry"] for share in store.manifest["shares"]] == [True, True]


def test_an_endless_source_is_not_read_to_its_end(toy: LanguageModel, tmp_path: Path) -> None:
    def endless():
        number = 0
        while True:
            assert number < 5_000
            yield Document(text_of(number))
            number += 1

    assert write_store(tmp_path / "x", endless(), toy, tokens=1_000).n_tokens == 1_000


# ---- the artefact


def test_the_same_request_loads_and_another_is_refused(toy: LanguageModel, tmp_path: Path) -> None:
    def never():
        raise AssertionError("a finished text is not read again")
        yield

    first = write_store(tmp_path / "x", [Document("The fox.")], toy, tokens=100, request={"text": "a"})
    again = write_store(tmp_path / "x", never(), toy, tokens=100, request={"text": "a"})
    assert again.digest == first.digest
    with pytest.raises(RequestDiffers, match=r"text was 'a' and is now 'b'.*--replace"):
        write_store(tmp_path / "x", never(), toy, tokens=100, request={"text": "b"})
    with pytest.raises(RequestDiffers, match="seed"):
        write_store(tmp_path / "x", never(), toy, tokens=100, seed=3, request={"text": "a"})
    new = write_store(tmp_path / "x", [Document("The bear.")], toy, tokens=100, replace=True)
    assert new.digest != first.digest


def test_the_same_text_gives_the_same_bytes(toy: LanguageModel, tmp_path: Path) -> None:
    stores = [
        write_store(tmp_path / name, [part("a", 1, range(50))], toy, tokens=1_000, held_min=0) for name in ("x", "y")
    ]
    assert stores[0].digest == stores[1].digest
    assert TokenStore.load(tmp_path / "x").digest == stores[0].digest


def test_a_failure_leaves_nothing_behind(toy: LanguageModel, tmp_path: Path) -> None:
    def broken():
        yield Document("The fox.")
        raise Damaged("line 7 is not JSON")

    with pytest.raises(Damaged):
        write_store(tmp_path / "x", broken(), toy, tokens=100)
    with pytest.raises(EmptyText, match="gave no text; 1 documents were empty"):
        write_store(tmp_path / "x", [Document(" ")], toy, tokens=100)
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadRequest, match="tokens=0"):
        write_store(tmp_path / "x", [], toy, tokens=0)


@pytest.mark.parametrize("name", ["tokens.safetensors", "documents.parquet"])
def test_altered_files_are_refused(toy: LanguageModel, tmp_path: Path, name: str) -> None:
    write_store(tmp_path / "x", [Document("The fox sees the bear.")], toy, tokens=100)
    path = tmp_path / "x" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=name):
        TokenStore.load(tmp_path / "x")
    path.unlink()
    with pytest.raises((Damaged, ArtifactNotFound), match=name):
        TokenStore.load(tmp_path / "x")


def test_an_altered_vocabulary_is_refused_when_it_is_read(toy: LanguageModel, tmp_path: Path) -> None:
    write_store(tmp_path / "x", [Document("The fox.")], toy, tokens=100)
    (tmp_path / "x" / "vocabulary.safetensors").write_bytes(b"no")
    store = TokenStore.load(tmp_path / "x")
    with pytest.raises(Damaged, match="vocabulary"):
        _ = store.vocabulary


def test_other_versions_and_no_store_are_refused(toy: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="monoscope harvest"):
        TokenStore.load(tmp_path / "nothing")
    write_store(tmp_path / "x", [Document("The fox.")], toy, tokens=100)
    path = tmp_path / "x" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(Damaged, match="version 99"):
        TokenStore.load(tmp_path / "x")
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key != "prefix_id"}))
    with pytest.raises(Damaged, match="prefix_id"):
        TokenStore.load(tmp_path / "x")


# ---- reading it


def test_blocks_are_windows_with_their_prefix_padded_on_the_right(toy: LanguageModel, tmp_path: Path) -> None:
    talk = Document(messages=(("user", "What"), ("assistant", "The fox.")))
    store = write_store(tmp_path / "x", [Document("The fox sees a bear."), talk], toy, tokens=100, held_min=0)
    block = store.block([1, 0])
    own = store.ids.tolist()
    cut_at = int(store.offsets[1])
    assert block.first.tolist() == [cut_at, 0]
    assert block.prefix.tolist() == [0, 1]
    assert block.lengths.tolist() == [len(own) - cut_at, cut_at + 1]
    assert block.ids[0].tolist() == own[cut_at:]
    assert block.ids[1].tolist() == [toy.prefix_id, *own[:cut_at], *[toy.prefix_id] * (len(own) - 2 * cut_at - 1)]
    assert len(store.block([]).ids) == 0


def test_tokens_know_their_document(toy: LanguageModel, tmp_path: Path) -> None:
    store = write_store(tmp_path / "x", [part("a", 1, range(5))], toy, tokens=10**6)
    every = torch.arange(store.n_tokens)
    counts = torch.bincount(store.document_of(every))
    assert counts.tolist() == (store.offsets[1:] - store.offsets[:-1]).tolist()
    assert store.vocabulary == toy.vocabulary
    assert store.special_ids == toy.special_ids
    assert (store.prefix_id, store.context) == (toy.prefix_id, 256)


def test_progress_counts_tokens(toy: LanguageModel, tmp_path: Path) -> None:
    class Listener:
        told = 0
        finished = False

        def start(self, stage: str, total: int | None, unit: str, already: int = 0) -> None:
            assert (total, unit) == (1_000, "tokens")

        def advance(self, amount: int, **facts: float) -> None:
            self.told += amount

        def finish(self) -> None:
            self.finished = True

    listener = Listener()
    write_store(tmp_path / "x", [part("a", 1, range(100))], toy, tokens=1_000, progress=listener)
    assert listener.finished
    assert listener.told >= 1_000
