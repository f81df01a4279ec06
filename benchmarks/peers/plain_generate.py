"""Plain `transformers` generation, greedy, without a stop token: what everybody else is measured against."""

import warnings

import orders
import torch
from transformers import AutoModelForCausalLM
from turns import Turns

warnings.filterwarnings("ignore")


def main() -> None:
    settings = orders.settings()
    prompts = orders.scene(settings.scene)["prompts"]
    turns = Turns()
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=settings.dtype).eval()
    endless(model)

    def generate(streams: int, edits: str, tokens: int) -> list[list[int]]:
        chosen = prompts[:streams]
        with torch.inference_mode():
            found = model.generate(chosen, attention_mask=torch.ones_like(chosen), **greedy(tokens))
        return found[:, chosen.shape[1] :].tolist()

    weights = {weight.data_ptr(): weight.nbytes for weight in model.parameters()}
    orders.answer(turns, generate, weight_bytes=sum(weights.values()))


def endless(model: torch.nn.Module) -> None:
    """No token ends a reply, which is cheaper than to forbid the token in every step."""
    model.generation_config.eos_token_id = None
    model.config.eos_token_id = None


def greedy(tokens: int) -> dict[str, object]:
    """How every user of `transformers` here generates."""
    return {"max_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}


if __name__ == "__main__":
    main()
