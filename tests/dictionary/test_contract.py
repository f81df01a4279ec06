"""What every dictionary class must do; classes are found by looking, so a new one is held to it from its first day."""

import importlib
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import monoscope.dictionary
from monoscope.core.artifact import digest_file
from monoscope.core.errors import ArtifactNotFound, BadNumbers, Damaged, FeatureNotFound
from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.kernels import portable
from monoscope.dictionary.shelf import CLASSES, load_dictionary, save_dictionary

D, N, K = 12, 40, 5
KINDS = sorted(CLASSES)
every_kind = pytest.mark.parametrize("kind", KINDS)


def _make(kind: str, seed: int = 0) -> Dictionary:
    stream = torch.Generator().manual_seed(seed)
    rows = torch.randn(N, D, generator=stream)
    rows /= rows.norm(dim=1, keepdim=True)
    weights = Weights(
        W_enc=torch.randn(D, N, generator=stream),
        b_enc=0.3 * torch.randn(N, generator=stream),
        W_dec=rows,
        b_dec=torch.randn(D, generator=stream),
        threshold=torch.rand(N, generator=stream) if kind == "jumprelu" else None,
    )
    ramp = torch.arange(1, N + 1) / N
    stats = Stats(ramp, ramp / 2, ramp / 4, torch.randn(D, generator=stream), 1234, 5.5, 99.0)
    return CLASSES[kind](weights, site=Site(3), name="made", stats=stats, settings={"k": K})


def _rows(count: int = 200, seed: int = 1) -> Tensor:
    return 2 * torch.randn(count, D, generator=torch.Generator().manual_seed(seed))


def _twin(dictionary: Dictionary, x: Tensor) -> tuple[Tensor, Tensor]:
    """Dense codes in float64, and how far each pre-activation is from where it would switch."""
    weights = dictionary.weights
    pre = x.double() @ weights.W_enc.double() + weights.b_enc.double()
    if dictionary.architecture == "topk":
        level = pre.topk(K, dim=1).values[:, -1:]
        active = pre >= level
    else:
        level = torch.zeros(1, N) if weights.threshold is None else weights.threshold.double()
        active = pre > level
    return torch.where(active & (pre > 0), pre, 0.0), (pre - level).abs()


def test_the_shelf_holds_every_class_there_is() -> None:
    for module in pkgutil.walk_packages(monoscope.dictionary.__path__, "monoscope.dictionary."):
        importlib.import_module(module.name)
    mine = {kind for kind in Dictionary.__subclasses__() if kind.__module__.startswith("monoscope.dictionary")}
    assert mine == set(CLASSES.values())
    assert all(kind.architecture == name for name, kind in CLASSES.items())
    assert not [kind for kind in mine if kind.__subclasses__()]


@every_kind
@pytest.mark.parametrize("count", [200, 10, 1])
def test_encode_and_decode_are_the_formula(kind: str, count: int) -> None:
    dictionary, x = _make(kind), _rows(count)
    wanted, margin = _twin(dictionary, x)
    code = dictionary.encode(x)
    off = (code.to_dense().double() - wanted).abs() > 1e-4
    assert not (off & (margin > 1e-4)).any()
    assert (code.values > 0).all() and code.n_rows == count
    found = dictionary.decode(code).double()
    dense = code.to_dense().double() @ dictionary.W_dec.double() + dictionary.b_dec.double()
    torch.testing.assert_close(found, dense, atol=1e-4, rtol=1e-4)


@every_kind
def test_rows_do_not_depend_on_their_company(kind: str) -> None:
    dictionary, x = _make(kind), _rows(150)
    together = dictionary.encode(x).to_dense()
    apart = torch.cat([dictionary.encode(piece).to_dense() for piece in x.split(7)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


@every_kind
def test_some_features_alone_are_those_columns(kind: str) -> None:
    dictionary, x = _make(kind), _rows()
    wanted = torch.tensor([31, 0, 7, 39])
    found = dictionary.activations_of(x, wanted)
    torch.testing.assert_close(found, dictionary.encode(x).to_dense()[:, wanted], atol=1e-5, rtol=1e-5)


@every_kind
def test_renumbering_latents_renumbers_codes(kind: str) -> None:
    dictionary, x = _make(kind), _rows()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    old = dictionary.weights
    moved = Weights(
        old.W_enc[:, order].contiguous(),
        old.b_enc[order],
        old.W_dec[order],
        old.b_dec,
        None if old.threshold is None else old.threshold[order],
    )
    other = CLASSES[kind](moved, site=Site(3), name="moved", stats=dictionary.stats, settings={"k": K})
    found, wanted = other.encode(x), dictionary.encode(x)
    torch.testing.assert_close(found.to_dense(), wanted.to_dense()[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other.decode(found), dictionary.decode(wanted), atol=1e-4, rtol=1e-4)


@every_kind
def test_no_rows_give_no_codes(kind: str) -> None:
    dictionary = _make(kind)
    code = dictionary.encode(torch.zeros(0, D))
    assert (code.n_rows, len(code.values)) == (0, 0)
    assert dictionary.decode(code).shape == (0, D)


@every_kind
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(kind: str, bad: float) -> None:
    x = _rows(3)
    x[1, 2] = bad
    with pytest.raises(BadNumbers, match="resid_post.3"):
        _make(kind).encode(x)


@every_kind
def test_the_portable_kernels_give_the_same(kind: str) -> None:
    dictionary, other, x = _make(kind), _make(kind), _rows()
    other.kernels = portable
    found, wanted = other.encode(x), dictionary.encode(x)
    assert found.indices.tolist() == wanted.indices.tolist()
    torch.testing.assert_close(found.values, wanted.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other.decode(found), dictionary.decode(wanted), atol=1e-4, rtol=1e-4)


@every_kind
def test_features_are_numbered_from_zero(kind: str) -> None:
    dictionary = _make(kind)
    dictionary.check_feature(0)
    dictionary.check_feature(N - 1)
    for feature in (-1, N):
        with pytest.raises(FeatureNotFound, match=f"0 to {N - 1}"):
            dictionary.check_feature(feature)


# --- on disk


def _saved(kind: str, folder: Path) -> Dictionary:
    dictionary = _make(kind)
    save_dictionary(
        folder, dictionary, probe=_rows(64), request={"seed": 7}, provenance={"model": "toy", "context": 64}
    )
    return dictionary


@every_kind
def test_a_dictionary_comes_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    kept = _saved(kind, tmp_path)
    found = load_dictionary(tmp_path)
    assert type(found) is type(kept) and found.site == kept.site and found.name == kept.name
    assert found.settings == kept.settings
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
        one, other = getattr(found.weights, name), getattr(kept.weights, name)
        assert (one is None and other is None) or torch.equal(one, other)
    for name in ("max", "p999", "density", "mean_vector"):
        assert torch.equal(getattr(found.stats, name), getattr(kept.stats, name))
    assert (found.stats.tokens, found.stats.mean_norm, found.stats.sink_limit) == (1234, 5.5, 99.0)
    assert torch.equal(found.encode(_rows()).to_dense(), kept.encode(_rows()).to_dense())


@every_kind
def test_the_folder_is_one_that_saelens_reads(kind: str, tmp_path: Path) -> None:
    _saved(kind, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config.pop("metadata")["hook_name"] == "blocks.3.hook_resid_post"
    extra = {"k": K, "rescale_acts_by_decoder_norm": False} if kind == "topk" else {}
    assert config == {
        "architecture": kind,
        "d_in": D,
        "d_sae": N,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **extra,
    }
    weights = safetensors.torch.load_file(tmp_path / "sae_weights.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    threshold = {"threshold": (N,)} if kind == "jumprelu" else {}
    assert shapes == {"W_enc": (D, N), "b_enc": (N,), "W_dec": (N, D), "b_dec": (D,), **threshold}


def _altered(folder: Path, file: str, change: Callable[[dict[str, Tensor]], object], *, digest: bool = True) -> None:
    """Rewrite a file; with `digest` also what monoscope.json says of it, as somebody would who means it."""
    tensors = safetensors.torch.load_file(folder / file)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors)
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file)
    if digest:
        about = json.loads((folder / "monoscope.json").read_text())
        about["digests"][file] = digest_file(folder / file)
        (folder / "monoscope.json").write_text(json.dumps(about))


def _set(name: str, place: tuple, value: float) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors[name].__setitem__(place, value)


WEIGHT_CHANGES = {
    "another value": _set("W_dec", (0, 0), 0.5),
    "rows in another order": lambda t: t.update(W_dec=t["W_dec"].flip(0)),
}


@pytest.mark.parametrize("what", WEIGHT_CHANGES)
def test_altered_bytes_are_refused(what: str, tmp_path: Path) -> None:
    _saved("jumprelu", tmp_path)
    _altered(tmp_path, "sae_weights.safetensors", WEIGHT_CHANGES[what], digest=False)
    with pytest.raises(Damaged, match="sae_weights.safetensors"):
        load_dictionary(tmp_path)


WRONG_WEIGHTS = {
    "latents in another order": lambda t: t.update(W_enc=t["W_enc"].flip(1)),
    "another encoder bias": lambda t: t["b_enc"].add_(0.1),
    "not a number": _set("W_enc", (0, 0), float("nan")),
    "infinity": _set("b_dec", (0,), float("inf")),
    "a bias too short": lambda t: t.update(b_enc=t["b_enc"][:-1]),
    "an output bias too long": lambda t: t.update(b_dec=torch.zeros(D + 1)),
    "an encoder too narrow": lambda t: t.update(W_enc=t["W_enc"][:, :-1]),
    "an encoder of other activations": lambda t: t.update(W_enc=t["W_enc"][:-1]),
    "a decoder without rows": lambda t: t.update(W_dec=torch.zeros(N)),
    "a tensor missing": lambda t: t.pop("b_enc"),
    "a tensor too many": lambda t: t.update(more=torch.zeros(1)),
}


@every_kind
@pytest.mark.parametrize("what", WRONG_WEIGHTS)
def test_wrong_weights_are_refused_even_with_their_digest(kind: str, what: str, tmp_path: Path) -> None:
    _saved(kind, tmp_path)
    _altered(tmp_path, "sae_weights.safetensors", WRONG_WEIGHTS[what])
    with pytest.raises(Damaged, match=tmp_path.name):
        load_dictionary(tmp_path)


def test_a_jumprelu_without_thresholds_is_refused(tmp_path: Path) -> None:
    _saved("jumprelu", tmp_path)
    _altered(tmp_path, "sae_weights.safetensors", lambda t: t.pop("threshold"))
    with pytest.raises(Damaged):
        load_dictionary(tmp_path)


@pytest.mark.parametrize("name", ["max", "tokens_norm_sink", "probe_x", "probe_values"])
def test_statistics_with_a_part_missing_are_refused(name: str, tmp_path: Path) -> None:
    _saved("standard", tmp_path)
    _altered(tmp_path, "stats.safetensors", lambda t: t.pop(name))
    with pytest.raises(Damaged):
        load_dictionary(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"architecture": "gated"},
        {"digests": {}},
        {"site": "somewhere"},
        {"settings": {}},
    ],
)
def test_a_description_of_something_else_is_refused(change: dict, tmp_path: Path) -> None:
    _saved("topk", tmp_path)
    about = json.loads((tmp_path / "monoscope.json").read_text())
    (tmp_path / "monoscope.json").write_text(json.dumps({**about, **change}))
    with pytest.raises(Damaged):
        load_dictionary(tmp_path)


@pytest.mark.parametrize("file", ["sae_weights.safetensors", "stats.safetensors", "monoscope.json"])
def test_a_missing_file_is_named(file: str, tmp_path: Path) -> None:
    _saved("standard", tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ArtifactNotFound, match=tmp_path.name):
        load_dictionary(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    _saved("standard", tmp_path)
    path = tmp_path / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Damaged, match="sae_weights.safetensors"):
        load_dictionary(tmp_path)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    dictionary = _make("standard")
    dictionary.W_dec[3, 3] = float("nan")
    with pytest.raises(BadNumbers, match="W_dec"):
        save_dictionary(tmp_path / "d", dictionary, probe=_rows(8), request={}, provenance={})
    assert not (tmp_path / "d").exists()
