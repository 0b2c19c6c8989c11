"""A fault of the IMAP proxy in the log: where it happened, and not a word of what it was about.

An exception often quotes the octets that it failed on, and in the proxy these are somebody's mail or password
(DESIGN §6, promise 5). So its type and its trace are logged and its text is not. Fails: never.
"""

from __future__ import annotations

import logging
import traceback


def log_fault(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log ``what`` with the trace of ``error`` and of what led to it, the texts left out."""
    lines: list[str] = []
    at: BaseException | None = error
    while at is not None and len(lines) < 100:
        lines[:0] = [*traceback.format_tb(at.__traceback__), f"{type(at).__qualname__}\n"]
        at = at.__cause__ or at.__context__
    trace = "".join(lines).rstrip()
    log.error("%s\nTraceback (most recent call last), its text left out:\n%s", what, trace)
