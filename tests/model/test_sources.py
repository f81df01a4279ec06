import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from monoscope.core.errors import BadSource, Damaged, MonoscopeError, SourceNotFound
from monoscope.core.site import Site
from monoscope.model.sources import resolve_model
from monoscope.model.toy import build_toy
from monoscope.model.transformer import load_model

IDS = torch.tensor([[0, 300, 301, 302]])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONOSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "toy"
    module, tokenizer = build_toy()
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "toy"))


def test_a_folder_gives_the_same_model_back(folder: Path):
    model, toy = load_model(str(folder)), load_model("toy")
    torch.testing.assert_close(model.residual(IDS, Site(1)), toy.residual(IDS, Site(1)))
    assert model.vocabulary == toy.vocabulary
    assert (model.prefix_id, model.stop_ids) == (toy.prefix_id, toy.stop_ids)
    assert model.tokenizer.chat_template == toy.tokenizer.chat_template


def test_the_digest_changes_with_the_weights_only(folder: Path):
    first = resolve_model(str(folder)).digest
    (folder / "README.md").write_text("x")
    assert resolve_model(str(folder)).digest == first
    weights = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(str(weights))
    tensors["lm_head.weight"][3, 3] += 1e-3
    safetensors.torch.save_file(tensors, str(weights), metadata={"format": "pt"})
    assert resolve_model(str(folder)).digest != first


def test_pickles_are_refused(folder: Path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(BadSource, match="pickles"):
        load_model(str(folder))


def test_a_folder_without_model_is_told(tmp_path: Path):
    with pytest.raises(SourceNotFound, match=r"no config\.json"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("keep", [3, 400, 20_000])
def test_cut_weights_are_damaged(folder: Path, keep: int):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(Damaged):
        load_model(str(folder))


def test_missing_weights_are_never_made_up(folder: Path):
    weights = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(str(weights))
    del tensors["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(tensors, str(weights), metadata={"format": "pt"})
    with pytest.raises(Damaged, match=r"lacks 1 of its weights.*layers\.1\.mlp\.up_proj"):
        load_model(str(folder))


def test_weights_of_another_shape_are_refused(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 100}))
    with pytest.raises(Damaged):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        ("{", Damaged, "valid JSON"),
        ('{"model_type": "zzz"}', BadSource, "cannot be read"),
        ('{"model_type": "t5"}', BadSource, "cannot be read"),
        ('{"model_type": "zzz", "auto_map": {"AutoConfig": "evil.Config"}}', BadSource, "code of its own"),
    ],
)
def test_configurations_that_cannot_be_used(folder: Path, config: str, kind: type, words: str):
    (folder / "config.json").write_text(config)
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(kind, match=words):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("", BadSource),
        ("two words", BadSource),
        ("hf:", BadSource),
        ("toy:3", BadSource),
        ("pypi:name/file.gguf", BadSource),
        (f"pypi:name==1.0/file.bin#{'0' * 64}", BadSource),
        ("x" * 300, BadSource),
        ("no/such/folder", SourceNotFound),
        ("./nothing", SourceNotFound),
        ("nothing.gguf", SourceNotFound),
    ],
)
def test_sources_that_name_nothing(source: str, kind: type):
    with pytest.raises(kind):
        load_model(source)


def test_a_single_file_is_told_what_to_do(folder: Path):
    with pytest.raises(BadSource, match="give its folder"):
        load_model(str(folder / "model.safetensors"))


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    start = time.monotonic()
    with pytest.raises(SourceNotFound, match=r"no-such-org/no-such-model@main is not on this disk.*offline mode"):
        load_model("hf:no-such-org/no-such-model@main")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"hello, I am text", b"GGUF\x03\x00\x00\x00" + bytes(range(256)) * 9]
)
def test_a_file_that_is_no_gguf_is_damaged(tmp_path: Path, content: bytes):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"model\.gguf"):
        load_model(str(path))
    assert not (tmp_path / "cache" / "models").exists()


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as GGUF, in 32-bit floats, with the toy's tokenizer."""
    import gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    module, tokenizer = build_toy()
    config = module.config
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(64)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_dimension_count(config.head_dim)
    out.add_rope_freq_base(10_000.0)
    out.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    out.add_tokenizer_model("gpt2")
    out.add_token_list(tokens)
    out.add_token_types([3 if i < 6 else 1 for i in range(len(tokens))])
    out.add_token_merges(["w e", "m e"])
    out.add_bos_token_id(0)
    out.add_eos_token_id(5)
    out.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in module.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # the file format interleaves rotary halves
            heads = config.num_attention_heads
            weight = weight.reshape(heads, 2, config.head_dim // 2, -1).swapaxes(1, 2).reshape(weight.shape)
        out.add_tensor(names.get_name(name, (".weight",)), np.ascontiguousarray(weight.numpy()))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def test_a_gguf_file_is_converted_once(gguf_file: Path, tmp_path: Path):
    first = load_model(str(gguf_file))
    toy = load_model("toy")
    # The copy is kept in float16.
    torch.testing.assert_close(first.residual(IDS, Site(2)), toy.residual(IDS, Site(2)), atol=2e-2, rtol=2e-3)
    assert first.note == "dequantised copy of a F32 GGUF"
    assert first.tokenizer.chat_template == toy.tokenizer.chat_template
    assert first.special_ids == toy.special_ids  # and none that the model has no embedding for
    assert 5 in first.stop_ids
    assert first.vocabulary == toy.vocabulary
    (made,) = (tmp_path / "cache" / "models").iterdir()
    stamp = (made / "model.safetensors").stat().st_mtime_ns
    again = load_model(str(gguf_file), dtype="bfloat16")
    assert (again.digest, again.note) == (first.digest, first.note)
    assert (made / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_half_made_copy_is_made_again(gguf_file: Path, tmp_path: Path):
    load_model(str(gguf_file))
    (made,) = (tmp_path / "cache" / "models").iterdir()
    (made / "monoscope.json").write_text("{")
    assert load_model(str(gguf_file)).n_layers == 4
    assert json.loads((made / "monoscope.json").read_text())["format"] == 1


def test_a_cut_gguf_leaves_nothing(gguf_file: Path, tmp_path: Path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf_file.read_bytes()[: gguf_file.stat().st_size // 2])
    with pytest.raises(MonoscopeError, match=r"cut\.gguf"):
        load_model(str(path))
    assert not (tmp_path / "cache" / "models").exists()


@pytest.mark.slow
def test_the_shipped_model_speaks():
    from monoscope.model.chat import render_chat

    model = load_model("smollm2-135m")
    assert (model.n_layers, model.d_model, model.vocab_size) == (30, 576, 49_152)
    assert model.vocabulary[model.prefix_id] == b"<|endoftext|>"
    asked = render_chat(model, [{"role": "user", "content": "What is the capital of France?"}], reply_follows=True)
    ids = torch.tensor([asked.ids])
    out = model.module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False)
    reply = model.decode(out[0, len(asked.ids) :].tolist())
    assert "Paris" in reply
    assert reply.endswith("<|im_end|>")
