"""Names that exist, in place of some that were drawn: nearly all else would be told that there is no such thing.

Run by schemathesis, in its own environment.
"""

import schemathesis
from schemathesis import GenerationMode

DICTIONARY, FEATURES, MODEL = "toy", 96, "toy"


@schemathesis.hook
def before_call(_context, case, **_):
    """Give half of the sound requests a dictionary, a feature, a model and edits that are there."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict) and len(repr(values)) % 2:
            _replace(values)


def _replace(values):
    if isinstance(values.get("dictionary"), str):
        values["dictionary"] = DICTIONARY
    if isinstance(values.get("model"), str):
        values["model"] = MODEL
    for name in ("feature", "shade"):
        if isinstance(values.get(name), int) and not isinstance(values[name], bool):
            values[name] %= FEATURES
    if isinstance(values.get("edits"), list):
        drawn = enumerate(values["edits"])
        values["edits"] = [f"{len(repr(edit)) % FEATURES} add 0.{place % 10}r" for place, edit in drawn]
    if isinstance(values.get("features"), list):
        values["features"] = [feature % FEATURES for feature in values["features"] if isinstance(feature, int)]
    if isinstance(values.get("report"), list):
        values["report"] = [len(repr(feature)) % FEATURES for feature in values["report"]]
    for name in ("max_tokens", "max_completion_tokens"):
        if isinstance(values.get(name), int) and values[name] > 1:
            values[name] = 1 + values[name] % 16
