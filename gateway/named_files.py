"""The files that settings and directory name: keys, certificates, secrets; each with the key that names it.

For whoever has to take all of a gateway along, such as ``wasl backup``. Folders, the database and the archive
are not among them. Nothing is opened but the settings file, whose ``url_file`` and ``secret_key_file`` are no
longer known once what they hold was read. A settings file that cannot be read raises OSError or ValueError; a
file that is named and is not there is listed as well, since saying so is `wasl check`'s.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gateway.settings import Settings
from policies.agency import Agency

_FOLDERS = {"gateway.data_dir", "archive.path", "directory.path", "policy.path"}
_READ_AND_DROPPED = (("database", "url_file"), ("archive", "secret_key_file"))
_PUBLIC = ("certificate", "client_ca", "ca")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """One file; ``key`` is what names it: a key of the settings, or file and line of an agency."""

    path: Path
    key: str
    private: bool = True  # False for what anybody may read: certificates

    def __str__(self) -> str:
        return f"{self.path} ({self.key})"


def of_settings(settings: Settings, file: Path) -> list[NamedFile]:
    """What the settings name; ``file`` is where they were read from."""
    found = list(_paths(settings, ""))
    data: dict[str, Any] = tomllib.loads(file.read_text("utf-8-sig"))
    for section, key in _READ_AND_DROPPED:
        value = os.environ.get(f"WASL__{section}__{key}".upper(), data.get(section, {}).get(key))
        if value is not None:
            path = Path(file.absolute().parent, value)
            found.append(NamedFile(path=path, key=f"{section}.{key}"))
    return found


def of_agencies(agencies: Iterable[Agency]) -> list[NamedFile]:
    """What the agencies' files name."""
    return [
        NamedFile(path=path, key=f"{a.file}:{a.line}: {key}", private=key.rpartition(".")[2] not in _PUBLIC)
        for a in agencies
        for key, path in a.files
    ]


def _paths(model: BaseModel, prefix: str) -> Iterator[NamedFile]:
    for name in type(model).model_fields:
        value, key = getattr(model, name), f"{prefix}{name}"
        if isinstance(value, Path) and key not in _FOLDERS:
            yield NamedFile(path=value, key=key, private=name not in _PUBLIC)
        elif isinstance(value, BaseModel):
            yield from _paths(value, f"{key}.")
        elif isinstance(value, list):
            for i, one in enumerate(value):
                if isinstance(one, BaseModel):
                    yield from _paths(one, f"{key}.{i}.")
