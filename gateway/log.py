"""Where log lines go: standard error, as text in the manner of syslog or as one JSON object a line.

The service manager adds the time to text lines when it reads them (``INVOCATION_ID`` is set then);
a terminal gets it from us. Libraries that log what they read from the wire at debug level are held
at warning, whatever the level.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
MAIL_LOG = "wasl.mail"  # gateway/maillog.py
_QUIET = (
    "aioimaplib", "aiosmtpd", "alembic", "asyncio", "mail.log", "multipart", "uvicorn.access",
    "uvicorn.error",
)  # fmt: skip


class _Text(logging.Formatter):
    def __init__(self, clock: bool) -> None:
        super().__init__()
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.replace(".", "/", 1)
        text = _CONTROL.sub("?", record.getMessage())
        mark = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        # Lines of the mail log bear the program that an administrator looks for, with its pid.
        line = text if record.name == MAIL_LOG else f"{name}[{record.process}]: {mark}{text}"
        if self._clock:
            at = datetime.fromtimestamp(record.created, UTC)
            line = f"{at:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z {line}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        out: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "name": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            out["trace"] = self.formatException(record.exc_info)
        return json.dumps(out, ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Send the log of this process to standard error; ``level`` and ``form`` as in ``[log]``."""
    handler = logging.StreamHandler(sys.stderr)
    clock = "INVOCATION_ID" not in os.environ
    handler.setFormatter(_Json() if form == "json" else _Text(clock))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
