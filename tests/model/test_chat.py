import pytest

from monoscope.core.errors import BadRequest
from monoscope.model.chat import render_chat, render_plain
from monoscope.model.transformer import LanguageModel, load_model


@pytest.fixture
def toy() -> LanguageModel:
    return load_model("toy")


def said(model: LanguageModel, rendered) -> str:
    pieces = [model.vocabulary[i] for i, template in zip(rendered.ids, rendered.template, strict=True) if not template]
    return b"".join(pieces).decode()


def test_plain_text_has_the_prefix_in_front(toy: LanguageModel):
    rendered = render_plain(toy, "The fox")
    assert rendered.ids == (toy.prefix_id, *toy.encode_text("The fox"))
    assert rendered.template == (True, False, False)


def test_only_what_messages_say_is_text(toy: LanguageModel):
    messages = [{"role": "user", "content": "Tell me."}, {"role": "assistant", "content": "A fox is a bear."}]
    rendered = render_chat(toy, messages, reply_follows=False)
    assert toy.decode(rendered.ids) == (
        "<s><|system|>\nYou are a helpful toy.<|end|>\n"
        "<|user|>\nTell me.<|end|>\n<|assistant|>\nA fox is a bear.<|end|>\n"
    )
    assert said(toy, rendered) == "Tell me.A fox is a bear."


def test_a_given_system_message_is_text_the_built_in_one_is_not(toy: LanguageModel):
    same_words = [{"role": "system", "content": "You are a helpful toy."}, {"role": "user", "content": "you"}]
    assert said(toy, render_chat(toy, same_words, reply_follows=True)) == "You are a helpful toy.you"
    assert said(toy, render_chat(toy, same_words[1:], reply_follows=True)) == "you"


def test_words_that_the_template_uses_too_are_still_text(toy: LanguageModel):
    messages = [{"role": "user", "content": "user"}, {"role": "assistant", "content": "assistant\n"}]
    rendered = render_chat(toy, messages, reply_follows=True)
    assert said(toy, rendered) == "userassistant\n"
    assert rendered.template[-1]


def test_text_outside_ascii_is_not_shifted(toy: LanguageModel):
    messages = [{"role": "user", "content": "é東🙂 fox"}, {"role": "assistant", "content": "naïve"}]
    assert said(toy, render_chat(toy, messages, reply_follows=False)) == "é東🙂 foxnaïve"


def test_a_template_that_strips_messages(toy: LanguageModel):
    toy.tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
    messages = [{"role": "user", "content": "  fox \n"}, {"role": "assistant", "content": "bear"}]
    assert said(toy, render_chat(toy, messages, reply_follows=False)).split() == ["fox", "bear"]


def test_a_template_that_rewrites_messages(toy: LanguageModel):
    toy.tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'].split('</think>')[-1] }}\n{% endfor %}"
    )
    messages = [{"role": "user", "content": "fox"}, {"role": "assistant", "content": "x</think>bear"}]
    rendered = render_chat(toy, messages, reply_follows=False)
    assert toy.decode(rendered.ids) == "[user] fox\n[assistant] bear\n"
    assert said(toy, rendered).split() == ["fox"]


def test_a_template_that_refuses_is_a_sentence(toy: LanguageModel):
    toy.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadRequest, match="roles must alternate"):
        render_chat(toy, [{"role": "user", "content": "x"}], reply_follows=True)


def test_a_model_without_template_is_a_sentence(toy: LanguageModel):
    toy.tokenizer.chat_template = None
    with pytest.raises(BadRequest, match="toy has no chat template"):
        render_chat(toy, [{"role": "user", "content": "x"}], reply_follows=True)


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"role": "user", "content": 3}]])
def test_messages_that_are_none(toy: LanguageModel, messages):
    with pytest.raises(BadRequest):
        render_chat(toy, messages, reply_follows=True)
