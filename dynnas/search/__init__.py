"""The search: evaluators, the loop and its storage.

This package can be called: `dynnas.search(space, evaluator)` is `dynnas.search.api.search`.
"""

import sys
from types import ModuleType

from dynnas.search.api import search


class _CallablePackage(ModuleType):
    """Importing this package puts it at `dynnas.search`, where the function is looked for too."""

    __call__ = staticmethod(search)


sys.modules[__name__].__class__ = _CallablePackage
