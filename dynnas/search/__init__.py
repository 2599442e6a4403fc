"""The search: evaluators, the loop and its storage.

This package can be called: `dynnas.search(space, ...)` is `dynnas.workflows.search.search`.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """The package as a callable: importing it sets `dynnas.search`, which must stay the function too."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        import dynnas

        return dynnas.public("search")(*arguments, **named)


sys.modules[__name__].__class__ = _CallablePackage
