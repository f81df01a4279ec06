"""Model folders opened safely, and GGUF files turned into such folders once.

A dequantised 4-bit weight has more digits than bfloat16 keeps (relative error 1.4e-3) and nearly as few as float16
keeps (2e-4) in the same space, so the copy is stored in float16.
"""

import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from monoscope.core.artifact import digest_file, digest_of, read_json, staging, write_json
from monoscope.core.errors import ArtifactNotFound, BadSource, Damaged, DiskFull, MonoscopeError

FORMAT_VERSION = 1
_CONTROL = 3  # GGUF's token type for marks that are no text


def open_folder(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a folder; only safetensors are read and no code of the folder is run.

    Raises
        BadSource  the architecture is unknown, or needs code of its own.
        Damaged    weights are missing, misshapen or not whole.
    """
    with _as_sentence(folder):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        module, report = loaded
        absent = sorted({*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])})
        if absent:
            raise Damaged(
                f"The model in {folder} lacks {len(absent)} of its weights, or has them in another shape "
                f"(first: {absent[0]}); its files are not whole or belong to another model."
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return module, tokenizer


def convert_gguf(fetch: Callable[[], Path], key: str, cache: Path, *, source: str) -> tuple[Path, dict[str, Any]]:
    """The folder of a GGUF file's dequantised copy and its record; made on the first call.

    Cost    about 15 s and 2 bytes a weight for a model of 135 million, the first time only.

    Raises
        Damaged    the file is not whole.
        BadSource  its architecture cannot be read.
    """
    folder = cache / "models" / key
    with contextlib.suppress(ArtifactNotFound, Damaged):
        record = read_json(folder / "monoscope.json")
        if record.get("format") == FORMAT_VERSION and (folder / "model.safetensors").is_file():
            return folder, record
    gguf = fetch()
    _check_magic(gguf)
    with _as_sentence(gguf):
        kind = _quantisation(gguf)
        module = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
        tokenizer = _without_strangers(tokenizer, module.config.get_text_config().vocab_size)
    _mark_control_tokens(tokenizer, gguf)
    digest = digest_file(gguf)
    record = {
        "format": FORMAT_VERSION,
        "source": source,
        "note": f"dequantised copy of a {kind} GGUF",
        "gguf_sha256": digest,
        "digest": digest_of({"gguf": digest, "format": FORMAT_VERSION}),
    }
    with staging(folder) as aside, quiet():
        module.half().save_pretrained(aside, max_shard_size="1000GB")
        tokenizer.save_pretrained(aside)
        write_json(aside / "monoscope.json", record)
        for file in aside.iterdir():
            file.chmod(0o644)
    return folder, record


def digest_weights(files: list[Path], cache: Path) -> str:
    """SHA-256 over files' contents, remembered by path, size and time so that a large model is read once."""
    stamps = []
    for file in files:
        real = file.resolve()
        stat = real.stat()
        stamps.append([str(real), stat.st_size, stat.st_mtime_ns])
    note = cache / "digests" / f"{digest_of(stamps)}.json"
    with contextlib.suppress(ArtifactNotFound, Damaged, KeyError):
        return read_json(note)["digest"]
    digest = digest_of([[file.name, digest_file(file)] for file in files])
    write_json(note, {"digest": digest, "files": stamps})
    return digest


def _check_magic(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(8)
    if head[:4] != b"GGUF" or len(head) < 8 or not 2 <= struct.unpack("<I", head[4:])[0] <= 3:
        raise Damaged(f"{path} is not a GGUF file of version 2 or 3; fetch it again.")


def _quantisation(path: Path) -> str:
    """The most frequent type among the weight matrices, as GGUF names it."""
    from gguf import GGUFReader

    names = [tensor.tensor_type.name for tensor in GGUFReader(path).tensors if len(tensor.shape) > 1]
    return max(sorted(set(names)), key=names.count) if names else "empty"


def _mark_control_tokens(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Make special what the file calls control tokens: the reader keeps only begin, end and padding."""
    from gguf import GGUFReader

    field = GGUFReader(path).fields.get("tokenizer.ggml.token_type")
    if field is None:
        return
    types = field.contents()
    marks = [i for i, kind in enumerate(types) if kind == _CONTROL and i not in tokenizer.added_tokens_decoder]
    tokens = [token for token in tokenizer.convert_ids_to_tokens(marks) if token]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)


def _without_strangers(tokenizer: Any, vocab_size: int) -> PreTrainedTokenizerBase:
    """The tokenizer without tokens that the model has no embedding for: the reader adds its own default marks."""
    if len(tokenizer) <= vocab_size:
        return tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < vocab_size]
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    marks = {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name) is not None}
    known = {name: mark for name, mark in marks.items() if tokenizer.convert_tokens_to_ids(mark) < vocab_size}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        chat_template=tokenizer.chat_template,
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        **known,
    )


@contextlib.contextmanager
def _as_sentence(path: Path) -> Iterator[None]:
    """Whatever a library says about a model's files, said in one sentence."""
    try:
        with quiet():
            yield
    except MonoscopeError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if "No space left" in text:
            raise DiskFull(f"The disk is full while opening {path}.") from error
        if "trust_remote_code" in text or "custom code" in text:
            raise BadSource(f"The model in {path} needs code of its own, which is never run.") from error
        if "Unrecognized" in text or "not supported" in text or "does not recognize" in text:
            raise BadSource(f"The model in {path} is of a kind that cannot be read: {text[:200]}") from error
        raise Damaged(
            f"{path} cannot be opened as a model ({type(error).__name__}: {text[:200]}); "
            "fetch it again, or delete it if it is a cached copy."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports of the library; what matters is raised instead."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
