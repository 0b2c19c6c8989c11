"""The templates of the pages, compiled once for both languages: half of what a start of the dashboard costs.

What Jinja makes of a template depends on its text alone as long as nothing is computed while compiling
(``Environment(optimized=False)``): words of a language come in when a page is rendered. They are kept in
memory, or on disk beside Python's own compiled files where Python was told a place for them
(``PYTHONPYCACHEPREFIX``), and then serve the next start as well; Jinja looks at the text's digest and at its
own version. How it fails: it does not; a folder that cannot be made is done without.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path

from jinja2 import BytecodeCache, FileSystemBytecodeCache
from jinja2.bccache import Bucket


class _InMemory(BytecodeCache):
    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if (code := self._kept.get(bucket.key)) is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


@functools.cache
def compiled_templates() -> BytecodeCache:
    """Where compiled templates of this process are looked for and kept."""
    if sys.pycache_prefix is not None and not sys.dont_write_bytecode:
        with contextlib.suppress(OSError):
            folder = Path(sys.pycache_prefix) / "dashboard-templates"
            folder.mkdir(parents=True, exist_ok=True)
            return FileSystemBytecodeCache(str(folder))
    return _InMemory()
