"""Ours: all streams through one `Batcher`, each with its own edit, and every event read."""

import orders
from turns import Turns

from monoscope.dictionary.shelf import load_dictionary
from monoscope.model.transformer import load_model
from monoscope.steer.batcher import Batcher
from monoscope.steer.request import Request


def main() -> None:
    settings = orders.settings()
    scene = orders.scene(settings.scene)
    turns = Turns()
    model = load_model(str(settings.model), dtype=str(settings.dtype).removeprefix("torch."))
    dictionary = load_dictionary(settings.dictionary)
    batcher = Batcher(model, most_rows=len(scene["prompts"]))
    prompts = [tuple(prompt) for prompt in scene["prompts"].tolist()]
    features = scene["features"].tolist()
    texts = {kind: [(f"{each} {getattr(settings, kind)}",) for each in features] for kind in ("add", "clamp")}
    texts["none"] = [()] * len(prompts)

    def generate(streams: int, edits: str, tokens: int) -> list[list[int]]:
        asked = [request(*pair, tokens) for pair in zip(prompts, texts[edits], strict=True)]
        tickets = batcher.submit(dictionary, asked[:streams])
        return [[event.token for event in ticket if event.token is not None] for ticket in tickets]

    orders.answer(turns, generate)
    batcher.close()


def request(prompt: tuple[int, ...], edits: tuple[str, ...], tokens: int) -> Request:
    """Greedy, of exactly so many tokens."""
    return Request(prompt, edits, temperature=0.0, repetition_penalty=1.0, max_tokens=tokens, stop_ids=frozenset())


if __name__ == "__main__":
    main()
