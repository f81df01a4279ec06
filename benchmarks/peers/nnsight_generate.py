"""nnsight: a trace over its generation that adds each stream's vector to the output of the block, at every step."""

import warnings

import orders
import torch
from nnsight import LanguageModel
from plain_generate import endless, greedy
from transformers import AutoModelForCausalLM, AutoTokenizer
from turns import Turns

warnings.filterwarnings("ignore")


def main() -> None:
    settings = orders.settings()
    scene = orders.scene(settings.scene)
    prompts, added = scene["prompts"], scene["added"].to(settings.dtype)[:, None]
    turns = Turns()
    plain = AutoModelForCausalLM.from_pretrained(settings.model, dtype=settings.dtype).eval()
    endless(plain)
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = LanguageModel(plain, tokenizer=tokenizer)

    def generate(streams: int, edits: str, tokens: int) -> list[list[int]]:
        chosen, vectors, block = prompts[:streams], added[:streams], model.model.layers[settings.layer]
        inputs = {"input_ids": chosen, "attention_mask": torch.ones_like(chosen)}
        with torch.no_grad():
            if edits == "add":
                with model.generate(inputs, **greedy(tokens)) as tracer:
                    with tracer.iter[:tokens]:  # what stands behind an endless `tracer.all()` would never run
                        block.output[:] = block.output + vectors
                    found = model.generator.output.save()
            else:
                with model.generate(inputs, **greedy(tokens)):
                    found = model.generator.output.save()
        return found[:, chosen.shape[1] :].tolist()

    orders.answer(turns, generate)


if __name__ == "__main__":
    main()
