"""Dictionaries to and from their folder: `docs/formats/dictionary.md`."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monoscope.core.artifact import digest_file, digest_of, read_json, read_tensors, write_json, write_tensors
from monoscope.core.errors import ArtifactNotFound, BadNumbers, BadRequest, Damaged
from monoscope.core.site import Site
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.catalogue import kinds

VERSION = 1
CLASSES = kinds()
_PROBE_ROWS = 8
_PROBE_ERROR = 1e-3


def save_dictionary(
    folder: Path, dictionary: Dictionary, *, probe: Tensor, request: dict[str, Any], provenance: dict[str, Any]
) -> None:
    """Write weights, statistics and where they came from. The codes of some rows, `probe`, are kept as a self-check."""
    weights = {name: tensor for name, tensor in vars(dictionary.weights).items() if tensor is not None}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise BadNumbers(f"{name} of dictionary {dictionary.name} holds NaN or infinity; it is not saved.")
    write_tensors(folder / "sae_weights.safetensors", weights)
    probe = probe[:_PROBE_ROWS].float()
    code = dictionary.encode(probe)
    stats = dictionary.stats
    tensors = {"max": stats.max, "p999": stats.p999, "density": stats.density, "mean_vector": stats.mean_vector}
    if stats.mean_target is not None:
        tensors["mean_target"] = stats.mean_target
    numbers = torch.tensor([stats.tokens, stats.mean_norm, stats.sink_limit], dtype=torch.float64)
    probes = {"probe_x": probe, "probe_starts": code.starts, "probe_indices": code.indices, "probe_values": code.values}
    write_tensors(folder / "stats.safetensors", tensors | probes | {"tokens_norm_sink": numbers})
    write_json(folder / "cfg.json", _saelens_config(dictionary, provenance))
    files = ("cfg.json", "sae_weights.safetensors", "stats.safetensors")
    write_json(
        folder / "monoscope.json",
        {
            "version": VERSION,
            "name": dictionary.name,
            "site": str(dictionary.site),
            "target": str(dictionary.target),
            "architecture": dictionary.architecture,
            "settings": dictionary.settings,
            "request": request,
            "provenance": provenance,
            "digests": {name: digest_file(folder / name) for name in files},
        },
    )


def _saelens_config(dictionary: Dictionary, provenance: dict[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if dictionary.architecture == "topk":
        extra = {"k": int(dictionary.settings["k"]), "rescale_acts_by_decoder_norm": False}
    site, target = dictionary.site, dictionary.target
    about: dict[str, Any] = {
        "sae_lens_version": "6.0.0",
        "model_name": provenance.get("model", ""),
        "hook_name": site.transformer_lens,
        "hf_hook_name": site.hugging_face,
        "prepend_bos": True,
        "context_size": provenance.get("context", 256),
    }
    if dictionary.transcodes:
        extra["d_out"] = dictionary.d_out
        about |= {"hook_name_out": target.transformer_lens, "hf_hook_name_out": target.hugging_face}
    return {
        "architecture": _saelens_name(dictionary),
        "d_in": dictionary.d_in,
        "d_sae": dictionary.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **extra,
        "metadata": about,
    }


def _saelens_name(dictionary: Dictionary) -> str:
    if not dictionary.transcodes:
        return dictionary.architecture
    return dictionary.architecture + ("_transcoder" if dictionary.weights.W_skip is None else "_skip_transcoder")


def dictionary_digest(folder: Path) -> str:
    """Depends on every byte of a dictionary's weights and statistics."""
    return digest_of(read_json(folder / "monoscope.json")["digests"])


def load_dictionary(folder: str | Path) -> Dictionary:
    """Read a dictionary and check that it still gives the codes it gave when it was saved.

    Raises
        ArtifactNotFound  there is no dictionary in this folder.
        Damaged           a file is altered, of a later version, holds NaN, or gives other codes.
    """
    folder = Path(folder)
    if not (folder / "monoscope.json").is_file():
        raise ArtifactNotFound(f"There is no dictionary in {folder}; run monoscope train first.")
    about = read_json(folder / "monoscope.json")
    if about.get("version") != VERSION:
        raise Damaged(f"{folder} is of format version {about.get('version')}; this monoscope reads version {VERSION}.")
    try:
        digests, kind = about["digests"], CLASSES[about["architecture"]]
        weights = Weights(**read_tensors(folder / "sae_weights.safetensors", digests["sae_weights.safetensors"]))
        tensors = read_tensors(folder / "stats.safetensors", digests["stats.safetensors"])
        dictionary = kind(
            _checked(weights, tensors, folder),
            site=Site.parse(about["site"]),
            target=Site.parse(about.get("target", about["site"])),
            name=about["name"],
            stats=_stats(tensors),
            settings=about["settings"],
        )
        _check_probe(dictionary, tensors, folder)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, BadRequest) as error:
        raise Damaged(f"{folder}/monoscope.json does not describe a dictionary ({error!r}); train it again.") from error
    return dictionary


def _checked(weights: Weights, tensors: dict[str, Tensor], folder: Path) -> Weights:
    (n_latents,), (d_in,), (d_out,) = tensors["max"].shape, tensors["mean_vector"].shape, weights.b_dec.shape
    per_latent = (n_latents,)
    wanted = {
        "W_enc": (d_in, n_latents),
        "b_enc": per_latent,
        "W_dec": (n_latents, d_out),
        "b_dec": (d_out,),
        "threshold": per_latent,
        "W_skip": (d_out, d_in),
    }
    for name, tensor in vars(weights).items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != wanted[name]:
            raise Damaged(f"{name} in {folder} has shape {tuple(tensor.shape)}, not {wanted[name]}; train it again.")
        if not torch.isfinite(tensor).all():
            raise Damaged(f"{name} in {folder} holds NaN or infinity; train it again.")
    return weights


def _stats(tensors: dict[str, Tensor]) -> Stats:
    tokens, mean_norm, sink_limit = tensors["tokens_norm_sink"].tolist()
    per_latent = {name: tensors[name] for name in ("max", "p999", "density", "mean_vector")}
    numbers = {"tokens": int(tokens), "mean_norm": mean_norm, "sink_limit": sink_limit}
    return Stats(**per_latent, **numbers, mean_target=tensors.get("mean_target"))


def _check_probe(dictionary: Dictionary, tensors: dict[str, Tensor], folder: Path) -> None:
    wanted = SparseCode(
        tensors["probe_indices"], tensors["probe_values"], tensors["probe_starts"], dictionary.n_latents
    ).to_dense()
    found = dictionary.encode(tensors["probe_x"]).to_dense()
    # A value at the threshold may fall on the other side on another machine; its neighbours may not.
    off = (found - wanted).abs() > _PROBE_ERROR * wanted.abs().clamp(min=1.0)
    if off.sum() > 2:
        raise Damaged(f"{folder} gives other codes on its own probe rows than when it was saved; train it again.")
