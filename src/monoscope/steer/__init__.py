"""Steering. `monoscope.steer` is both this folder and, when called, `monoscope.steer.session.steer`."""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A folder and a verb have the same name; whoever writes `ms.steer(...)` means the verb."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        from monoscope.steer.session import steer

        return steer(*arguments, **settings)


sys.modules[__name__].__class__ = _Callable
