"""How a folder of configuration looks just now: whether somebody has written in it since the last reading.

A stamp is names, times, sizes and inode numbers of its YAML files: equal stamps, equal files, for all
practical purposes. It is taken every second, so it asks the system for no more than a listing. What cannot
be read gives an empty stamp, which differs from that of any folder with files. Raises nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[tuple[str, int, int, int], ...]  # path, mtime in ns, size, inode

MAX_DEPTH = 12


def stamp(root: Path, leave_out: Iterable[str] = ()) -> Stamp:
    """The stamp of a folder or a file; ``leave_out`` names folders right inside it that do not count."""
    out: list[tuple[str, int, int, int]] = []
    try:
        if root.is_file():
            s = root.stat()
            return ((root.name, s.st_mtime_ns, s.st_size, s.st_ino),)
        _gather(root, out, frozenset(leave_out), MAX_DEPTH)
    except OSError:
        return ()
    return tuple(sorted(out))


def _gather(
    folder: Path | str, out: list[tuple[str, int, int, int]], leave_out: frozenset[str], depth: int
) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith((".yaml", ".yml")) and not name.startswith((".", "_")) and entry.is_file():
                s = entry.stat()
                out.append((entry.path, s.st_mtime_ns, s.st_size, s.st_ino))
            elif depth and name not in leave_out and entry.is_dir(follow_symlinks=False):
                _gather(entry.path, out, frozenset(), depth - 1)
