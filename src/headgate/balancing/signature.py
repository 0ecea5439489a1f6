"""What `inspect.signature` says of a strategy whose class is compiled: by it options are given, and documented.

A class written in C has none that Python could read (its `__init__` is a slot). So a compiled strategy says in its body
what it takes; a test holds that against its `__init__`, which the same file has when it is not compiled.
"""

from __future__ import annotations

import inspect
from types import WrapperDescriptorType


class Takes:
    """A class that is made with the context and these options: name -> default. To be set as `__signature__`.

    anywhere: it can be made without a context, too."""

    def __init__(self, *, anywhere: bool = False, **defaults: object) -> None:
        none = None if anywhere else inspect.Parameter.empty
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=none)
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in defaults.items()
        ]
        self._signature = inspect.Signature([context, *options])

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if not isinstance(owner.__init__, WrapperDescriptorType):  # type: ignore[misc]
            # Not a slot: not compiled, or somebody's subclass with an `__init__` of its own, which can be read.
            raise AttributeError("__signature__")
        return self._signature
