"""The collector of a process that lives long: what is there when its work begins is not looked at again.

Otherwise CPython's cycle collector goes through every module, statement and setting again and again to find
nothing. Raises nothing.
"""

from __future__ import annotations

import gc

_YOUNG = 20_000  # objects made more than freed before the collector looks at what is new


def settle() -> None:
    """Call it once, when all is imported and opened."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
