"""SAELens: generation of its `HookedSAETransformer` under hooks.

`add` adds each stream's vector at the dictionary's place, without a dictionary. `clamp` attaches the dictionary, read
by SAELens from our folder, with its error term, and sets each stream's latent.
"""

import warnings

import orders
import torch
from sae_lens import SAE
from saedashboard_build import hooked
from torch import Tensor
from turns import Turns

warnings.filterwarnings("ignore")


def main() -> None:
    settings = orders.settings()
    scene = orders.scene(settings.scene)
    added = scene["added"].to(settings.dtype)[:, None]
    turns = Turns()
    model = hooked(settings.model).to(settings.dtype)
    sae = SAE.load_from_disk(str(settings.dictionary), device="cpu").to(settings.dtype)
    sae.eval()
    sae.use_error_term = True
    place = sae.cfg.metadata.hook_name

    def push(x: Tensor, hook: object) -> Tensor:
        return x + added[: len(x)]

    def clamp(code: Tensor, hook: object) -> Tensor:
        code = code.to_dense() if code.is_sparse else code
        rows = torch.arange(len(code))
        code[rows, :, scene["features"][: len(code)]] = scene["clamped"][: len(code), None].to(code.dtype)
        return code

    hooks = {"none": [], "add": [(place, push)], "clamp": [(f"{place}.hook_sae_acts_post", clamp)]}

    def generate(streams: int, edits: str, tokens: int) -> list[list[int]]:
        chosen = scene["prompts"][:streams]
        if bool(model.acts_to_saes) != (edits == "clamp"):
            model.add_sae(sae) if edits == "clamp" else model.reset_saes()
        with torch.inference_mode(), model.hooks(fwd_hooks=hooks[edits]):
            found = model.generate(
                chosen,
                max_new_tokens=tokens,
                do_sample=False,
                stop_at_eos=False,
                verbose=False,
                return_type="tokens",
            )
        return found[:, chosen.shape[1] :].tolist()

    orders.answer(turns, generate)


if __name__ == "__main__":
    main()
