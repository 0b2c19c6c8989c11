"""Which version of Wasl this is: from the installed package, else from the source tree beside it."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

_LINE = re.compile(r'^version = "([^"]+)"', re.MULTILINE)


def version() -> str:
    """``0.1.0``; ``unknown`` when neither a package nor a source tree tells."""
    source = Path(__file__).parent.parent / "pyproject.toml"
    try:
        found = _LINE.search(source.read_text("utf-8"))
        if found is not None:
            return found[1]
    except OSError:
        pass
    try:
        return metadata.version("wasl")
    except metadata.PackageNotFoundError:
        return "unknown"
