"""The pass against a brute-force twin that sees a dense matrix of all tokens by all features."""

import numpy as np
import pytest
import torch

from monoscope.atlas.contexts import INTERVALS, REACH, TOP, interval_of, sampling_key
from monoscope.atlas.examples import BINS, TOP_KEPT, TOP_SHOWN, Gathering, lowest_bin
from monoscope.atlas.second_look import look_again
from monoscope.atlas.spool import Piece
from monoscope.core.sparse import SparseCode

N_FEATURES = 7


@pytest.fixture(scope="module")
def dense(world):
    """Random firings on the toy text: one feature on 30 % of the tokens, rarer ones, a silent one, and ties."""
    stream = np.random.default_rng(5)
    rates = np.array([0.3, 0.05, 0.05, 0.01, 0.002, 0.0005, 0.0])
    fires = stream.random((world.store.n_tokens, N_FEATURES)) < rates
    values = np.round(stream.gamma(2.0, 1.5, fires.shape) * 8) / 8 + 0.125
    found = np.where(fires, values, 0).astype(np.float32)
    found[[3, 500], 4] = 30.0
    return found


def windows_of(world):
    windows = world.store.windows
    return [
        (int(a), int(a + b), int(d)) for a, b, d in zip(windows.start, windows.length, windows.document, strict=True)
    ]


def add(gathering, token, code):
    gathering.add(token.numpy(), code.indices.numpy(), code.values.numpy(), code.counts.numpy())


def pieces_of(world, dense, together=7):
    """The codes of the windows, backwards and some at a time, as a spool gives them."""
    windows = windows_of(world)[::-1]
    for first in range(0, len(windows), together):
        token = np.concatenate([np.arange(a, b) for a, b, _ in windows[first : first + together]])
        code = SparseCode.from_dense(torch.from_numpy(dense[token]))
        columns = (code.counts.numpy(), code.indices.numpy(), code.values.numpy(), np.zeros(len(token)))
        yield Piece(first, token, *columns)


def gathered(world, dense, maximum, *, together, backwards=False):
    gathering = Gathering(world.store, maximum)
    windows = windows_of(world)[:: -1 if backwards else 1]
    for first in range(0, len(windows), together):
        token = torch.cat([torch.arange(a, b) for a, b, _ in windows[first : first + together]])
        add(gathering, token, SparseCode.from_dense(torch.from_numpy(dense[token.numpy()])))
    return gathering


@pytest.fixture(scope="module")
def one(world, dense):
    return gathered(world, dense, dense.max(0), together=40)


def peaks_of(world, dense, feature):
    """(value, token, document) of the strongest token of each window, the first of equals."""
    found = []
    for start, stop, document in windows_of(world):
        column = dense[start:stop, feature]
        if column.max() > 0:
            found.append((float(column.max()), start + int(column.argmax()), document))
    return found


def test_counts_are_those_of_the_dense_matrix(one, dense):
    counts = one.counts()
    assert counts.tokens == len(dense)
    np.testing.assert_array_equal(counts.firings, (dense > 0).sum(0))
    np.testing.assert_allclose(counts.total, dense.sum(0, dtype=np.float64))
    np.testing.assert_array_equal(counts.maximum, dense.max(0))
    np.testing.assert_array_equal(counts.max_token, [*dense.argmax(0)[:-1], -1])


def test_the_histogram_counts_each_firing_once_between_its_edges(one, dense):
    edges, counts = one.edges(), one.counts().histogram
    for feature in range(N_FEATURES):
        values = dense[:, feature][dense[:, feature] > 0]
        inside = np.clip(values, edges[0], np.nextafter(edges[-1], 0, dtype=np.float32))
        np.testing.assert_array_equal(counts[feature], np.histogram(inside, edges)[0])


def test_histogram_edges_go_up_by_quarter_octaves_and_end_above_the_maximum(one, dense):
    edges = one.edges()
    assert len(edges) == BINS + 1
    assert dense.max() < edges[-1] <= 4 * dense.max()
    np.testing.assert_allclose(edges[4:] / edges[:-4], 2.0)


def test_lowest_bin_of_nothing_known_is_sound():
    assert lowest_bin(0.0) >= 0


def test_top_contexts_are_the_strongest_windows_one_for_each_document(one, world, dense):
    examples = one.examples()
    for feature in range(N_FEATURES):
        best: dict[int, tuple[float, int]] = {}
        for value, token, document in peaks_of(world, dense, feature):
            if (-value, token) < best.get(document, (0.0, 0)):
                best[document] = (-value, token)
        wanted = [token for _, token in sorted(best.values())][:TOP_KEPT]
        rows = slice(examples.offsets[feature], examples.offsets[feature + 1])
        found = examples.token[rows][examples.quantile[rows] == TOP].tolist()
        assert found == unrepeated(world, wanted)[:TOP_SHOWN]


def unrepeated(world, tokens):
    """Tokens without those whose five neighbours on each side were there before, inside their windows."""
    kept, phrases = [], set()
    for token in tokens:
        window = next((a, b) for a, b, _ in windows_of(world) if a <= token < b)
        place = range(token - 5, token + 6)
        phrase = tuple(int(world.store.ids[i]) if window[0] <= i < window[1] else -1 for i in place)
        if phrase not in phrases:
            phrases.add(phrase)
            kept.append(token)
    return kept


def test_spread_contexts_have_the_smallest_keys_of_their_interval(world, dense):
    gathering = gathered(world, dense, dense.max(0), together=3)
    gathering._settle()
    for feature in range(N_FEATURES):
        for interval in range(INTERVALS):
            best: dict[int, tuple[float, int]] = {}
            for value, token, document in peaks_of(world, dense, feature):
                if interval_of(np.float32([value]), dense.max(0)[[feature]])[0] == interval:
                    key = float(sampling_key(np.array([feature]), np.array([token]))[0])
                    best[document] = min(best.get(document, (2.0, 0)), (key, token))
            shelf, group = gathering._spread, feature * INTERVALS + interval
            kept = shelf.key[group] < np.inf
            assert shelf.token[group][kept].tolist() == [t for _, t in sorted(best.values())][: shelf.limit]


def test_contexts_carry_the_activations_of_their_tokens(one, world, dense):
    examples = one.examples()
    windows = windows_of(world)
    assert len(examples.token) > 60
    activations = np.zeros(int((examples.stop - examples.start).sum()), np.float32)
    look_again(pieces_of(world, dense), world.store, examples, activations, N_FEATURES)
    first_of = np.concatenate([[0], np.cumsum(examples.stop - examples.start)])
    for feature in range(N_FEATURES):
        for row in range(examples.offsets[feature], examples.offsets[feature + 1]):
            token, start, stop = int(examples.token[row]), int(examples.start[row]), int(examples.stop[row])
            first, last = next((a, b) for a, b, _ in windows if a <= token < b)
            assert (start, stop) == (max(first, token - REACH), min(last, token + REACH + 1))
            shown = activations[first_of[row] : first_of[row + 1]]
            np.testing.assert_array_equal(shown, dense[start:stop, feature])
            assert examples.value[row] == dense[token, feature] == shown.max()


def test_no_document_shows_twice(one, world):
    examples = one.examples()
    documents = world.store.document_of(torch.from_numpy(examples.token)).numpy()
    for feature in range(N_FEATURES):
        mine = documents[examples.offsets[feature] : examples.offsets[feature + 1]].tolist()
        assert len(mine) == len(set(mine))


@pytest.mark.parametrize(("together", "backwards"), [(1, False), (7, True), (10_000, False)])
def test_the_result_does_not_depend_on_the_chunks(one, world, dense, together, backwards):
    other = gathered(world, dense, dense.max(0), together=together, backwards=backwards)
    for name in ("offsets", "token", "value", "quantile", "start", "stop"):
        np.testing.assert_array_equal(getattr(one.examples(), name), getattr(other.examples(), name))
    np.testing.assert_array_equal(one.counts().histogram, other.counts().histogram)
    np.testing.assert_allclose(one.counts().total, other.counts().total)


def test_values_above_the_provisional_maximum_fall_in_the_last_interval():
    value, maximum = np.float32([0.1, 1.0, 3.0, 2.0]), np.float32([1.0, 1.0, 1.0, 0.0])
    assert interval_of(value, maximum).tolist() == [0, 4, 4, 4]


def test_features_beyond_sixteen_bits_are_sorted_too(world):
    gathering = Gathering(world.store, np.full(70_001, 4.0, np.float32))
    start = int(world.store.windows.start[0])
    code = SparseCode(
        torch.tensor([3, 65_539, 70_000, 3]), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0, 3, 4]), 70_001
    )
    add(gathering, torch.tensor([start, start + 1]), code)
    counts = gathering.counts()
    assert counts.firings[[3, 65_539, 70_000]].tolist() == [2, 1, 1]
    assert counts.maximum[[3, 65_539, 70_000]].tolist() == [4, 2, 3]
    assert counts.max_token[[3, 65_539]].tolist() == [start + 1, start]
