import pytest

from monoscope.core.errors import BadRequest, FeatureNotFound
from monoscope.steer.edits import Condition, parse_edit
from monoscope.steer.engine import generate
from monoscope.steer.prompt import prompt_ids
from monoscope.steer.request import Request
from monoscope.steer.session import ablate, add, clamp, project_out, scale, steer


def test_constructors_say_what_the_grammar_says():
    assert add(5, 0.4, unit="r") == parse_edit("5 add 0.4r")
    assert clamp(5, -2, "x", scope="2:4") == parse_edit("5 clamp -2x @2:4")
    assert scale(5, 3, when=Condition(7, 1.5)) == parse_edit("5 scale 3 if 7 > 1.5")
    assert ablate(5) == parse_edit("5 ablate")
    assert project_out(5, scope="last") == parse_edit("5 project-out @last")


def test_a_steered_model_answers_and_ends_with_its_block(model, dictionary):
    with steer(model, dictionary, [add(3, 0.5, unit="r")]) as edited:
        reply = edited.chat("Tell me a story", max_tokens=8, temperature=0.0)
        same = edited.chat([{"role": "user", "content": "Tell me a story"}], max_tokens=8, temperature=0.0)
        text = edited.complete("The fox", max_tokens=6, temperature=0.0)
        with pytest.raises(BadRequest, match="max_token"):
            edited.complete("The fox", max_token=6)
    assert str(reply) == reply.text
    assert reply == same
    request = Request(prompt_ids(model, "The fox"), ("3 add 0.5r",), temperature=0.0, max_tokens=6)
    assert text == generate(model, dictionary, [request])[0]
    with pytest.raises(BadRequest, match="with"):
        edited.chat("again")


def test_unknown_features_are_refused_on_entering(model, dictionary):
    with pytest.raises(FeatureNotFound), steer(model, dictionary, [ablate(999)]):
        pass
