import math

import pytest
import torch

from monoscope.core.errors import BadNumbers, EmptyText
from monoscope.core.toy_text import toy_concepts
from monoscope.model.chat import render_plain
from monoscope.steer.compare import (
    difference_of_means,
    perplexity_under,
    random_push,
    repetition,
    steered_pair,
)
from monoscope.steer.engine import generate
from monoscope.steer.prompt import prompt_ids
from monoscope.steer.request import Request


def share_of_words(texts, words):
    said = [word.strip(".!,?").lower() for text in texts for word in text.split()]
    return sum(word in words for word in said) / len(said)


@pytest.mark.parametrize("concept", ["music", "sea", "space"])
def test_a_planted_concept_is_steered_and_a_random_push_is_not(model, dictionary, concepts, concept):
    words = toy_concepts()[concept]
    edit = f"{concepts.index(concept)} add 0.5r"
    prompt = prompt_ids(model, [{"role": "user", "content": "Tell me a story"}])
    never = frozenset()
    texts = {}
    for name, edits in {"plain": (), "steered": (edit,), "random": (random_push(dictionary, [edit], 1),)}.items():
        requests = [Request(prompt, edits, seed=seed, max_tokens=30, stop_ids=never) for seed in range(8)]
        texts[name] = [each.text for each in generate(model, dictionary, requests)]
    shares = {name: share_of_words(found, words) for name, found in texts.items()}
    assert shares["steered"] > shares["plain"] + 0.1
    assert shares["random"] < shares["plain"] + 0.05


def test_the_pair_has_the_keys_of_the_command(model, dictionary):
    pair = steered_pair(model, dictionary, "The fox", ["3 add 0.4r"], max_tokens=5, seed=2)
    printed = pair.to_json()
    assert {"baseline", "steered", "edits"} <= set(printed)
    assert {"feature", "mode", "value", "positions_edited", "mean_norm_change", "realised_activation"} <= set(
        printed["edits"][0]
    )
    plain = generate(model, None, [Request(prompt_ids(model, "The fox"), seed=2, max_tokens=5)])[0]
    assert printed["baseline"] == plain.text
    assert pair.baseline.proof == ()


def test_an_edit_that_does_nothing_gives_the_same_text(model, dictionary):
    pair = steered_pair(model, dictionary, [{"role": "user", "content": "A story"}], ["3 add 0"], temperature=1.0)
    assert pair.baseline.ids == pair.steered.ids


def test_a_random_push_has_the_length_of_what_it_controls(dictionary):
    edits = ["3 add 3 @generated", "3 add 4"]
    push = random_push(dictionary, edits, 0)
    assert push.value == pytest.approx(7)
    assert push.scope == "generated"
    assert float(push.direction.norm()) == pytest.approx(1)
    assert not torch.equal(push.direction, random_push(dictionary, edits, 1).direction)
    assert random_push(dictionary, ["3 clamp 2"], 0, length=1.5).value == 1.5
    with pytest.raises(BadNumbers):
        random_push(dictionary, ["3 clamp 2"], 0)


def test_the_difference_of_means_finds_a_planted_direction(model, dictionary, concepts):
    def texts(words):
        return [render_plain(model, f"The {word} and the {other}").ids for word in words for other in words[:3]]

    plan = toy_concepts()
    direction = difference_of_means(model, dictionary.site, texts(plan["music"][:6]), texts(plan["law"][:6]))
    cosines = dictionary.W_dec @ direction
    assert int(cosines.argmax()) == concepts.index("music")
    assert int(cosines.argmin()) == concepts.index("law")
    assert float(direction.norm()) == pytest.approx(1, abs=1e-5)
    same = texts(plan["law"])
    with pytest.raises(BadNumbers):
        difference_of_means(model, dictionary.site, same, same)
    with pytest.raises(EmptyText):
        difference_of_means(model, dictionary.site, [(0,)], same)


def test_likelihood_is_the_mean_of_each_tokens(model, prompts):
    prompt, reply = prompts[0][:4], prompts[0][4:]
    logits = model.logits(torch.tensor([prompts[0]]))[0].log_softmax(-1)
    by_hand = [-float(logits[place - 1, token]) for place, token in enumerate(prompts[0]) if place >= 4]
    assert perplexity_under(model, prompt, reply) == pytest.approx(math.fsum(by_hand) / len(by_hand), abs=1e-5)
    assert perplexity_under(model, prompt, ()) == 0


def test_repetition_counts_three_grams_seen_before():
    assert repetition([1, 2, 3, 4]) == 0
    assert repetition([1, 1, 1, 1, 1]) == pytest.approx(2 / 3)
    assert repetition([1, 2, 3, 1, 2, 3]) == pytest.approx(1 / 4)
    assert repetition([1, 2]) == 0
