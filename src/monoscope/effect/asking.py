"""Questions as a model reads them: plain, or with an instruction that names some words."""

from collections.abc import Sequence

from monoscope.model.chat import Rendered
from monoscope.model.transformer import LanguageModel
from monoscope.steer.prompt import Prompt, render_prompt


def asked(model: LanguageModel, prompt: Prompt) -> Rendered:
    """A prompt that waits for the reply: a text is a message where the model can chat, else it is to be continued."""
    if isinstance(prompt, str) and model.tokenizer.chat_template:
        prompt = [{"role": "user", "content": prompt}]
    return render_prompt(model, prompt)


def naming(prompt: Prompt, words: Sequence[str]) -> Prompt:
    """The same prompt with an instruction to speak of some words: steering without any edit."""
    instruction = f" In your answer, talk about {_listed(words)}."
    if isinstance(prompt, str):
        return prompt + instruction
    *before, last = prompt
    return [*before, {**last, "content": last["content"] + instruction}]


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
