"""``wasl backup``: a consistent copy of a gateway, also while it runs.

The database is copied first, at one moment; the archive after it. Objects are written once and are
durable before the database names them, so every letter of the copied database has its octets. A
second backup to the same folder adds what is new. PostgreSQL is copied with its own tools
(:mod:`tracker.postgres_copy`); where they are not installed, Wasl copies the rest and says so.

Settings, agencies, policy and the folder of the ledger's key are copied, and of what else the settings name
whatever lies below their own folder. Keys, certificates and secrets that lie elsewhere (a certificate that
another program renews) are left to whoever keeps them, and named.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.backup_folder import (
    DUMP,
    MANIFEST,
    MARKS,
    SETTINGS,
    SQLITE,
    VERSION,
    copy,
    copy_all,
    digest,
    files_below,
    now,
    write_manifest,
)
from gateway.commands.console import Config, Json, load_settings, progress, put_json, say, warn
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.named_files import NamedFile
    from gateway.settings import Settings


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the copy goes; the same one each day.")
    ],
    without_secrets: Annotated[
        bool, typer.Option("--without-secrets", help="Leave out private keys; keep them elsewhere then.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy database, archive, configuration and keys of a running or stopped gateway.

    Keys and certificates outside of the folders of the settings are not copied, but named.
    """
    from gateway.settings_file import find_settings

    file = find_settings(config)
    settings = load_settings(file)
    _must_lie_apart(target, settings, file)
    named = _named(settings, file)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    (target / MANIFEST).unlink(missing_ok=True)  # an unfinished copy is no backup
    manifest: dict[str, Any] = {"version": VERSION, "begun": now(), "settings": file.name}
    marks = settings.gateway.data_dir / MARKS
    if marks.exists():
        copy(marks, target / MARKS)
    manifest["database"] = _database(settings, target)
    copied = _archive(settings, target)
    manifest["objects"] = copied
    left_out = _configuration(settings, file, target, without_secrets, named)
    manifest["config"] = sorted(map(str, files_below(target / "config")))
    manifest["secrets"] = not without_secrets
    manifest["left_out"] = [{"file": str(one.path), "key": one.key} for one in left_out]
    manifest["ended"] = now()
    write_manifest(target, manifest)
    if as_json:
        put_json(manifest)
        return
    size = manifest["database"].get("size")
    said = f"database of {size} octets" if size is not None else "no database"
    say(f"{target}: {said}, {copied['new']} new objects of {copied['all']}")
    if size is None:
        warn("the database is not in it, there is no pg_dump: copy it with PostgreSQL's tools, before this")
    if left_out:
        warn("warning: not in the backup, because the settings name them outside of the folders it copies:")
        for one in left_out:
            warn(f"  {one}")
        home = settings.ledger.key.parent
        warn(f"copy them by other means, or move them to {home} and change what names them")


def _named(settings: Settings, file: Path) -> list[NamedFile]:
    """All files that have to be there for the gateway to run; each once, and only if it is there."""
    from gateway.named_files import NamedFile, of_agencies, of_settings
    from gateway.opening import open_directory
    from policies.faults import ConfigFaults

    found = of_settings(settings, file)
    try:
        found += of_agencies(open_directory(settings).current)
    except ConfigFaults as error:
        warn(f"warning: what the agencies' files name is not known: {error.faults[0]}")
    once: dict[Path, NamedFile] = {}
    for one in found:
        path = _straight(one.path)
        if path.is_file():
            first = once.get(path)
            key = one.key if first is None else f"{first.key}, {one.key}"
            private = one.private or (first is not None and first.private)
            once[path] = NamedFile(path=path, key=key, private=private)
    return list(once.values())


def _must_lie_apart(target: Path, settings: Settings, file: Path) -> None:
    """A copy over what it is of would destroy it; raises Trouble."""
    place = target.resolve()
    live = [settings.gateway.data_dir, settings.directory.path, settings.ledger.key.parent]
    if settings.archive.kind == "local":
        live.append(settings.archive_path)
    if settings.policy.path is not None:
        live.append(settings.policy.path)
    if settings.database_url.startswith("sqlite:///"):
        live.append(Path(settings.database_url.removeprefix("sqlite:///")).parent)
    home = file.absolute().parent.resolve()
    # Keys right beside the settings are no reason to keep copies out of the folder of the settings.
    for folder in dict.fromkeys(one.resolve() for one in live):
        if folder.is_relative_to(place) or (folder != home and place.is_relative_to(folder)):
            raise Trouble(f"{target} holds or lies in {folder}, which is in use: name a folder apart from it")
    if home.is_relative_to(place):
        raise Trouble(f"{target} holds the settings, {file}: name a folder apart from them")


def _straight(path: Path) -> Path:
    return Path(os.path.normpath(path))  # ../secrets/x of an agency's file lies in secrets


def _database(settings: Settings, target: Path) -> dict[str, Any]:
    url = settings.database_url
    if not url.startswith("sqlite:///"):
        return _dump(url, target)
    source = Path(url.removeprefix("sqlite:///"))
    if not source.exists():
        raise Trouble(f"there is no database at {source}")
    part = target / f".{SQLITE}.part"
    part.unlink(missing_ok=True)
    # One read transaction: a snapshot of one moment, while the gateway goes on writing.
    with sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60) as live:
        live.execute("VACUUM INTO ?", (str(part),))
    live.close()
    with part.open("rb+") as out:
        os.fsync(out.fileno())
    part.replace(target / SQLITE)
    size, checked = (target / SQLITE).stat().st_size, digest(target / SQLITE)
    return {"kind": "sqlite", "size": size, "sha256": checked}


def _dump(url: str, target: Path) -> dict[str, Any]:
    from tracker.postgres_copy import dump

    part = target / f".{DUMP}.part"
    part.unlink(missing_ok=True)
    (target / DUMP).unlink(missing_ok=True)  # an older one would not fit the marks
    version = dump(url, part)
    if version is None:
        return {"kind": "postgresql"}
    part.chmod(0o600)
    part.replace(target / DUMP)
    size, checked = (target / DUMP).stat().st_size, digest(target / DUMP)
    return {"kind": "postgresql", "tool": version, "size": size, "sha256": checked}


def _archive(settings: Settings, target: Path) -> dict[str, int]:
    if settings.archive.kind != "local":
        return {"all": 0, "new": 0}
    source = settings.archive_path
    files = [f for f in files_below(source) if f.parts[0] != "spool"]
    home = target / "archive"
    home.mkdir(exist_ok=True)
    missing = [f for f in files if not (home / f).exists()]
    with progress("archive") as show:
        new = copy_all(source, home, missing, show)
    return {"all": len(files) - len(missing) + new, "new": new}


def _configuration(
    settings: Settings, file: Path, target: Path, without_secrets: bool, named: list[NamedFile]
) -> list[NamedFile]:
    """Copy settings, directory, policy and keys; returns the files that are named and lie elsewhere.

    What lies beside the settings keeps its place, so that the settings fit when it is restored.
    """
    home, base = target / "config", _straight(file.absolute()).parent
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(mode=0o700)
    copy(file, home / SETTINGS)
    folders = [(_straight(settings.directory.path), "agencies")]
    if settings.policy.path is not None:
        folders.append((_straight(settings.policy.path), "policy"))
    secrets = _straight(settings.ledger.key).parent
    # Keys right beside the settings: their folder holds everything, they are copied one by one.
    if not without_secrets and not any(
        p.is_relative_to(secrets) for p in (base, _straight(settings.gateway.data_dir))
    ):
        folders.append((secrets, "secrets"))
    for folder, name in folders:
        place = home / (folder.relative_to(base) if base in folder.parents else name)
        if folder.is_dir():
            shutil.copytree(folder, place, copy_function=copy, dirs_exist_ok=True)
        elif folder.is_file():
            copy(folder, place)
    left_out = []
    for one in named:
        if (without_secrets and one.private) or any(one.path.is_relative_to(f) for f, _ in folders):
            continue
        if base in one.path.parents:
            place = home / one.path.relative_to(base)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            copy(one.path, place)
        else:
            left_out.append(one)
    return left_out
