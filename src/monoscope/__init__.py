"""monoscope: find the features inside a language model, and use them.

Names are fetched when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import Any

_HOMES = {
    "Study": "monoscope.study",
    "load_model": "monoscope.model.transformer",
    "load_dictionary": "monoscope.dictionary.shelf",
    "Dictionary": "monoscope.dictionary.base",
    "SparseCode": "monoscope.core.sparse",
    "Site": "monoscope.core.site",
    "Atlas": "monoscope.atlas.query",
    "Recipe": "monoscope.train.recipes",
    "add": "monoscope.steer.session",
    "clamp": "monoscope.steer.session",
    "scale": "monoscope.steer.session",
    "ablate": "monoscope.steer.session",
    "project_out": "monoscope.steer.session",
    "parse_edit": "monoscope.steer.edits",
    "MonoscopeError": "monoscope.core.errors",
}
__all__ = sorted([*_HOMES, "steer"])
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "steer":
        return importlib.import_module("monoscope.steer")
    if name not in _HOMES:
        raise AttributeError(f"monoscope has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
