"""The folder that ``wasl backup`` makes and ``wasl restore`` reads: its names, its manifest, durable copying.

``manifest.json`` is written last and names what was copied; a folder without it is no backup. Raises
:class:`gateway.trouble.Trouble` for a folder that is none, OSError where the disk does not obey.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.commands.console import Progress
from gateway.trouble import Trouble

MANIFEST = "manifest.json"
SETTINGS = "wasl.toml"
SQLITE = "wasl.db"
DUMP = "wasl.pgdump"
MARKS = "high-water.json"
VERSION = 1


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Make a finished backup of a folder."""
    part = folder / f".{MANIFEST}.part"
    with part.open("wb") as out:
        out.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode())
        out.flush()
        os.fsync(out.fileno())
    part.replace(folder / MANIFEST)
    sync(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a backup says of itself; raises Trouble."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["version"] != VERSION or found["database"]["kind"] not in ("sqlite", "postgresql"):
            raise Trouble(f"{path}: of another version")
    except FileNotFoundError:
        raise Trouble(f"{folder} is no finished backup: {MANIFEST} is missing") from None
    except (KeyError, TypeError, ValueError):
        raise Trouble(f"{path} cannot be read") from None
    return dict(found)


def files_below(root: Path) -> Iterator[Path]:
    """The files below a folder, relative to it; those that begin with a dot are half written."""
    for folder, _, names in os.walk(root):
        for name in names:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root)


def copy_all(source: Path, target: Path, files: list[Path], show: Progress) -> int:
    """Copy files of a folder; how many there still were."""
    done = 0
    for i, name in enumerate(files, 1):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            copy(source / name, target / name)
            done += 1
        except FileNotFoundError:
            pass  # passed through and forgotten since it was listed
        if i % 50 == 0 or i == len(files):
            show(i, len(files))
    return done


def copy(source: str | Path, target: str | Path) -> str:
    """Copy one file durably; a half-written copy never bears the name."""
    source, target = Path(source), Path(target)
    part = target.with_name(f".{target.name}.part")
    with source.open("rb") as src, part.open("wb") as out:
        os.fchmod(out.fileno(), source.stat().st_mode & 0o777)
        shutil.copyfileobj(src, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())
    part.replace(target)
    return str(target)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def now() -> str:
    """The time of a manifest."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
