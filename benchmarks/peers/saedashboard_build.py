"""SAEDashboard's own `SaeVisRunner`, with its defaults, over given tokens; each order on standard input is one build.

Started with a model folder, a dictionary folder and a safetensors file with `tokens` [prompts, length]; an order names
the features. The model is TransformerLens' in float32, weights as they are (no folding, nothing centred). Attention
sinks are left out, as they are on our side. What it spends in the model is told apart from the rest.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from turns import Turns, peak_bytes

warnings.filterwarnings("ignore")


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "dictionary", "tokens"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--prompts", type=int, default=64, help="prompts of one forward pass")
    parser.add_argument("--threads", type=int, required=True)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    turns = Turns()
    from safetensors.torch import load_file

    builder = Builder(settings, load_file(settings.tokens)["tokens"].long())
    turns.say(ready=True, peak_bytes=peak_bytes())
    for line in sys.stdin:
        with speaking(turns):
            found = builder.build(**json.loads(line))
        turns.say(**found)


@contextmanager
def speaking(turns: Turns) -> Iterator[None]:
    """Say every minute that work goes on: silence means a hung worker."""
    over = threading.Event()

    def speak() -> None:
        while not over.wait(60):
            turns.say(working=True)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        over.set()
        speaker.join()


class Builder:
    """A model and a dictionary in memory, ready for any features."""

    def __init__(self, settings: argparse.Namespace, tokens: torch.Tensor) -> None:
        from sae_dashboard.transformer_lens_wrapper import TransformerLensWrapper
        from sae_lens import SAE

        self._tokens, self._prompts = tokens, settings.prompts
        self._model = hooked(settings.model)
        self._sae = SAE.load_from_disk(str(settings.dictionary.resolve()), device="cpu")
        self._sae.eval()
        self._forward_seconds = 0.0
        plain = TransformerLensWrapper.forward

        def timed(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            found = plain(*given, **named)
            self._forward_seconds += time.perf_counter() - began
            return found

        TransformerLensWrapper.forward = timed

    def build(self, features: list[int], prompts: int | None = None) -> dict[str, Any]:
        """Dashboards of some features, over all prompts or the first so many, and a page with all of them."""
        from sae_dashboard.data_writing_fns import save_feature_centric_vis
        from sae_dashboard.sae_vis_data import SaeVisConfig
        from sae_dashboard.sae_vis_runner import SaeVisRunner

        config = SaeVisConfig(
            hook_point=self._sae.cfg.metadata.hook_name,
            features=features,
            minibatch_size_tokens=self._prompts,
            ignore_high_activation_norm_multiple=10,
            device="cpu",
        )
        self._forward_seconds = 0.0
        began, processor = time.perf_counter(), time.process_time()
        found = SaeVisRunner(config).run(encoder=self._sae, model=self._model, tokens=self._tokens[:prompts])
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - processor
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.html"
            began = time.perf_counter()
            save_feature_centric_vis(found, page)
            page_seconds, page_bytes = time.perf_counter() - began, page.stat().st_size
        return {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "forward_seconds": self._forward_seconds,
            "page_seconds": page_seconds,
            "page_bytes": page_bytes,
            "maxima": [float(value) for value in found.feature_stats.max],
            "peak_bytes": peak_bytes(),
        }


def hooked(folder: Path) -> Any:
    """A Llama-like model folder as TransformerLens has it, without asking any hub."""
    from sae_lens import HookedSAETransformer
    from transformer_lens import HookedTransformerConfig, loading_from_pretrained
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    known = json.loads((folder / "config.json").read_text())
    if "LlamaForCausalLM" not in known["architectures"]:
        raise SystemExit(f"This comparison knows Llama-like models only; {folder} is a {known['architectures'][0]}.")
    fields = loading_from_pretrained.convert_hf_model_config(str(folder))
    # This transformers is older than the folder: it finds neither the base of the positions nor the kind of tokenizer.
    base = known.get("rope_parameters", {}).get("rope_theta", known.get("rope_theta", 10_000))
    fields.update(model_name=folder.name, dtype=torch.float32, device="cpu", rotary_base=base)
    config = HookedTransformerConfig.from_dict(fields)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, add_bos_token=True)
    model = HookedSAETransformer(config, tokenizer=tokenizer)
    model.load_and_process_state_dict(
        convert_llama_weights(plain, config),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return model.eval()


if __name__ == "__main__":
    main()
