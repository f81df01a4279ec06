import dataclasses

import pytest
import torch

from monoscope.core.errors import BadEdit, BadNumbers, FeatureNotFound
from monoscope.core.site import Site
from monoscope.dictionary.relu import ReluDictionary
from monoscope.steer.resolve import Push, push_at, resolve, resolve_all


def with_changes(dictionary, *, name="other", site=None, largest=None):
    stats = dictionary.stats if largest is None else dataclasses.replace(dictionary.stats, max=largest)
    return ReluDictionary(dictionary.weights, site=site or dictionary.site, name=name, stats=stats, settings={})


def test_units_become_activation_units(dictionary):
    assert resolve("3 add 2", dictionary).value == 2
    assert resolve("3 add 0.5r", dictionary).value == pytest.approx(0.5 * dictionary.stats.mean_norm)
    assert resolve("3 clamp -2x", dictionary).value == pytest.approx(-2 * float(dictionary.stats.max[3]))
    assert resolve("3 scale 4", dictionary).value == 4
    assert resolve("3 ablate", dictionary).value is None


def test_unknown_features_are_refused_in_edit_and_condition(dictionary):
    for text in ("24 ablate", f"{2**63 - 1} ablate", "3 ablate if 24 > 1"):
        with pytest.raises(FeatureNotFound, match="0 to 23"):
            resolve(text, dictionary)


def test_a_feature_that_never_fired_has_no_multiples(dictionary):
    dead = with_changes(dictionary, largest=torch.zeros(24))
    with pytest.raises(BadEdit, match="never fired"):
        resolve("3 add 1x", dead)


def test_several_dictionaries(dictionary):
    wide, far = with_changes(dictionary, name="wide"), with_changes(dictionary, name="far", site=Site(1))
    shelf = {"planted": dictionary, "wide": wide, "far": far}
    assert resolve("3 ablate", shelf).reading.dictionary is dictionary
    assert resolve("far/3 ablate", shelf).site == Site(1)
    assert resolve("planted/3 ablate", dictionary).feature == 3
    gate = resolve("wide/3 ablate if planted/4 > 1", shelf).gate
    assert gate is not None
    assert (gate.dictionary, gate.feature) == (dictionary, 4)
    assert resolve("wide/3 ablate if 4 > 1", shelf).gate.dictionary is wide
    with pytest.raises(BadEdit, match="names dictionary 'none'"):
        resolve("none/3 ablate", dictionary)
    with pytest.raises(BadEdit, match="use one site"):
        resolve("far/3 ablate if wide/4 > 1", shelf)


def test_a_push_is_a_unit_vector_with_a_finite_length(dictionary):
    push = push_at(dictionary, torch.full((48,), 7.0), 3.0)
    assert float(push.direction.norm()) == pytest.approx(1)
    assert resolve_all([push, "3 ablate"], dictionary)[0] is push
    with pytest.raises(BadNumbers):
        push_at(dictionary, torch.zeros(48), 1.0)
    with pytest.raises(BadEdit, match="length 1"):
        Push(torch.ones(48), 1.0, dictionary.site, 1.0)
    with pytest.raises(BadEdit, match="not finite"):
        push_at(dictionary, torch.ones(48), float("nan"))
    with pytest.raises(BadEdit, match="mode"):
        Push(push.direction, 1.0, dictionary.site, 1.0, mode="clamp")
