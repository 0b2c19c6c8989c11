"""``wasl backup`` and ``wasl restore``: a consistent copy of a gateway, also while it runs.

The database is copied first, at one moment; the archive after it. Objects are written once and are
durable before the database names them, so every letter of the copied database has its octets. A
second backup to the same folder adds what is new. PostgreSQL is copied with its own tools
(:mod:`tracker.postgres_copy`); where they are not installed, Wasl copies the rest and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.console import Config, Json, Progress, load_settings, progress, put_json, say, warn
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.settings import Settings

MANIFEST = "manifest.json"
DUMP = "wasl.pgdump"
VERSION = 1


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
    """Copy database, archive, configuration and keys of a running or stopped gateway."""
    from gateway.settings_file import find_settings

    file = find_settings(config)
    settings = load_settings(file)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    (target / MANIFEST).unlink(missing_ok=True)  # an unfinished copy is no backup
    manifest: dict[str, Any] = {"version": VERSION, "begun": _now(), "settings": file.name}
    marks = settings.gateway.data_dir / "high-water.json"
    if marks.exists():
        _copy(marks, target / "high-water.json")
    manifest["database"] = _database(settings, target)
    copied = _archive(settings, target)
    manifest["objects"] = copied
    _configuration(settings, file, target, without_secrets)
    manifest["secrets"] = not without_secrets
    manifest["ended"] = _now()
    part = target / f".{MANIFEST}.part"
    _write(part, json.dumps(manifest, indent=1).encode())
    part.replace(target / MANIFEST)
    _sync(target)
    if as_json:
        put_json(manifest)
    else:
        size = manifest["database"].get("size")
        said = f"database of {size} octets" if size is not None else "no database"
        say(f"{target}: {said}, {copied['new']} new objects of {copied['all']}")
        if size is None:
            warn(
                "the database is not in it, there is no pg_dump: copy it with PostgreSQL's tools, before this"
            )


def restore(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `wasl backup` made.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the gateway, empty or new.")],
    into: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            envvar="WASL__DATABASE__URL",
            help="PostgreSQL: an empty database to restore into. Default: that of the backup's settings.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a gateway again from a backup; its database and folders must not be there yet."""
    manifest = _manifest(source)
    root = directory.absolute()
    if (root / "wasl.toml").exists() or (root / "data" / "wasl.db").exists():
        raise Trouble(f"{root} holds a gateway already: restore into a new folder, then move it")
    database = manifest["database"]
    if database["kind"] == "sqlite":
        copy = source / "wasl.db"
        if not copy.is_file() or _digest(copy) != database["sha256"]:
            raise Trouble(f"{copy} is not what was copied: take another backup")
    url = None
    if "sha256" in database and database["kind"] == "postgresql":
        url = into or _url_in(source)
        _fit_to_load(url, source / DUMP, database["sha256"])
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source / "config", root, dirs_exist_ok=True, copy_function=_copy)
    data = root / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    if (source / "high-water.json").exists():
        _copy(source / "high-water.json", data / "high-water.json")
    files = list(_files(source / "archive"))
    with progress("archive") as show:
        _copy_all(source / "archive", data / "archive", files, show)
    if database["kind"] == "sqlite":
        _copy(source / "wasl.db", data / "wasl.db")
    _sync(data)
    loaded = url is not None and _load(url, source / DUMP)
    if as_json:
        put_json({"directory": str(root), "objects": len(files), "backup_of": manifest["begun"]})
        return
    say(f"{root}: as it was at {manifest['begun']}, {len(files)} objects")
    if database["kind"] == "postgresql" and not loaded:
        warn("now restore the PostgreSQL database with its own tools")
    if loaded and into:
        warn(f"set database.url in {root / 'wasl.toml'} to the database that was restored into")
    if not manifest["secrets"]:
        warn("put the private keys back into secrets/, as they were")
    config = root / "wasl.toml"
    warn(f"paths in {config} outside its folder were not touched; then:")
    warn(f"  wasl check --config {config} && wasl ledger verify --config {config}")


def _database(settings: Settings, target: Path) -> dict[str, Any]:
    url = settings.database_url
    if not url.startswith("sqlite:///"):
        return _dump(url, target)
    source = Path(url.removeprefix("sqlite:///"))
    if not source.exists():
        raise Trouble(f"there is no database at {source}")
    part = target / ".wasl.db.part"
    part.unlink(missing_ok=True)
    # One read transaction: a snapshot of one moment, while the gateway goes on writing.
    with sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60) as live:
        live.execute("VACUUM INTO ?", (str(part),))
    live.close()
    with part.open("rb+") as out:
        os.fsync(out.fileno())
    part.replace(target / "wasl.db")
    return {
        "kind": "sqlite",
        "size": (target / "wasl.db").stat().st_size,
        "sha256": _digest(target / "wasl.db"),
    }


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
    size, digest = (target / DUMP).stat().st_size, _digest(target / DUMP)
    return {"kind": "postgresql", "tool": version, "size": size, "sha256": digest}


def _url_in(source: Path) -> str:
    """The database of the settings that were backed up."""
    from gateway.settings import Settings
    from policies.faults import ConfigFaults

    try:
        return Settings.load(source / "config" / "wasl.toml").database_url
    except ConfigFaults as error:
        first = error.faults[0]
        raise Trouble(f"{first}: name the database to restore into with --database URL") from None


def _fit_to_load(url: str, copy: Path, digest: str) -> None:
    """Look before anything is written: the copy is whole, and the database is there and empty."""
    from tracker.postgres_copy import must_be_empty

    if not copy.is_file() or _digest(copy) != digest:
        raise Trouble(f"{copy} is not what was copied: take another backup")
    if not url.startswith("postgresql"):
        raise Trouble(f"{url} is no PostgreSQL: name the database to restore into with --database URL")
    must_be_empty(url)


def _load(url: str, copy: Path) -> bool:
    from tracker.postgres_copy import load

    return load(url, copy)


def _archive(settings: Settings, target: Path) -> dict[str, int]:
    if settings.archive.kind != "local":
        return {"all": 0, "new": 0}
    source = settings.archive_path
    files = [f for f in _files(source) if f.parts[0] != "spool"]
    home = target / "archive"
    home.mkdir(exist_ok=True)
    missing = [f for f in files if not (home / f).exists()]
    with progress("archive") as show:
        new = _copy_all(source, home, missing, show)
    return {"all": len(files), "new": new}


def _configuration(settings: Settings, file: Path, target: Path, without_secrets: bool) -> None:
    """Settings, directory, policy and keys, laid out beside one another as ``wasl init`` does."""
    home = target / "config"
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(mode=0o700)
    _copy(file, home / "wasl.toml")
    folders = [(settings.directory.path, "agencies")]
    if settings.policy.path is not None:
        folders.append((settings.policy.path, "policy"))
    if not without_secrets:
        folders.append((settings.ledger.key.parent, "secrets"))
    for folder, name in folders:
        if folder.is_dir():
            shutil.copytree(folder, home / name, copy_function=_copy)


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root)


def _copy_all(source: Path, target: Path, files: list[Path], show: Progress) -> int:
    done = 0
    for i, name in enumerate(files, 1):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            _copy(source / name, target / name)
            done += 1
        except FileNotFoundError:
            pass  # passed through and forgotten since it was listed
        if i % 50 == 0 or i == len(files):
            show(i, len(files))
    return done


def _copy(source: str | Path, target: str | Path) -> str:
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


def _manifest(source: Path) -> dict[str, Any]:
    path = source / MANIFEST
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["version"] != VERSION or found["database"]["kind"] not in ("sqlite", "postgresql"):
            raise Trouble(f"{path}: of another version")
    except FileNotFoundError:
        raise Trouble(f"{source} is no finished backup: {MANIFEST} is missing") from None
    except (KeyError, TypeError, json.JSONDecodeError):
        raise Trouble(f"{path} cannot be read") from None
    return dict(found)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, octets: bytes) -> None:
    with path.open("wb") as out:
        out.write(octets)
        out.flush()
        os.fsync(out.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
