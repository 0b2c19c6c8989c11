"""Long work of one thread beside the mail loop, such as compiling a policy of a thousand rules.

CPython lets a thread keep the interpreter for 5 ms while another waits for it, and its cycle collector stops
all of them, for 70 ms when a large file has just been read. :func:`beside_mail` shortens the turns and puts
the collector off while the work lasts, for the whole process: the loop then waits for under a millisecond
at a time instead of 5 to 150 (measured with 1,000 rules, 300 of them with an expression; ``bench.policy`` has
their making). Both are restored when the last such work is done. Raises nothing of its own.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator

TURN_S = 0.0005

_lock = threading.Lock()
_working = 0
_before = (True, 0.005)  # whether the collector was on, and the turns, before the first of them


@contextlib.contextmanager
def beside_mail() -> Iterator[None]:
    """What is done inside gives way to the mail."""
    global _working, _before
    with _lock:
        if _working == 0:
            _before = gc.isenabled(), sys.getswitchinterval()
            gc.disable()
            sys.setswitchinterval(min(TURN_S, _before[1]))
        _working += 1
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if _working == 0:
                collecting, turn = _before
                sys.setswitchinterval(turn)
                if collecting:
                    gc.enable()
