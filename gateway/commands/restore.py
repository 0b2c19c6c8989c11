"""``wasl restore``: a gateway again from what ``wasl backup`` made.

Everything is looked at before anything is written: the copy is whole, nothing lies where it goes. Paths in
the settings are not changed; where they lead out of the new gateway's folder, the copy lies in its usual
place in that folder, and what to move or to change is said. A PostgreSQL database is loaded by its own tools.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.backup_folder import (
    DUMP,
    MARKS,
    SETTINGS,
    SQLITE,
    copy,
    copy_all,
    digest,
    files_below,
    read_manifest,
    sync,
)
from gateway.commands.console import Json, NewConfig, new_place, progress, put_json, say, warn
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Astray:
    """A setting that leads elsewhere than to what was restored."""

    key: str
    names: str
    copy: Path


@dataclass(slots=True)
class Places:
    """Where the data of a restored gateway go, and the settings that do not say so."""

    data: Path
    archive: Path
    astray: list[Astray]


def restore(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `wasl backup` made.")],
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="Folder of the gateway, empty or new. Default: that of --config."
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            envvar="WASL__DATABASE__URL",
            help="PostgreSQL: an empty database to restore into. Default: that of the backup's settings.",
        ),
    ] = None,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Restore what there is of a backup that has lost files.")
    ] = False,
    config: NewConfig = None,
    as_json: Json = False,
) -> None:
    """Make a gateway again from a backup; its database and folders must not be there yet."""
    if directory is None and config is None:
        raise typer.BadParameter(
            "name the folder of the gateway, or its settings by --config", param_hint="DIR"
        )
    root, file = new_place(directory, config)
    if file.parent != root:
        what = f"{file} is not in {root}: the paths in it are relative to its folder"
        raise typer.BadParameter(what, param_hint="--config")
    manifest = read_manifest(source)
    if file.exists() or (root / SETTINGS).exists() or (root / "data" / SQLITE).exists():
        raise Trouble(f"{root} holds a gateway already: restore into a new folder, then move it")
    database = manifest["database"]
    if database["kind"] == "sqlite" and (
        not (source / SQLITE).is_file() or digest(source / SQLITE) != database["sha256"]
    ):
        raise Trouble(f"{source / SQLITE} is not what was copied: take another backup")
    url = None
    if "sha256" in database and database["kind"] == "postgresql":
        url = into or _settings_of(source).database_url
        _fit_to_load(url, source / DUMP, database["sha256"])
    files = list(files_below(source / "archive"))
    lost = _lost(source, manifest, len(files))
    if lost and not incomplete:
        hint = "take another backup, or restore what there is with --incomplete"
        raise Trouble(f"{source} is not whole: {'; '.join(lost)}: {hint}")
    places = _places(source, root, database["kind"] == "sqlite")
    if (places.data / SQLITE).exists():
        raise Trouble(f"{places.data} holds a database already: restore into a new folder, then move it")
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source / "config", root, dirs_exist_ok=True, copy_function=copy)
    (root / SETTINGS).rename(file)
    places.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (source / MARKS).exists():
        copy(source / MARKS, places.data / MARKS)
    with progress("archive") as show:
        copy_all(source / "archive", places.archive, files, show)
    if database["kind"] == "sqlite":
        copy(source / SQLITE, places.data / SQLITE)
    sync(places.data)
    loaded = url is not None and _load(url, source / DUMP)
    left_out = manifest.get("left_out", [])
    if as_json:
        put_json(
            {
                "directory": str(root),
                "settings": str(file),
                "objects": len(files),
                "backup_of": manifest["begun"],
                "astray": [{"key": a.key, "names": a.names, "copy": str(a.copy)} for a in places.astray],
                "left_out": left_out,
                "lost": lost,
            }
        )
        return
    say(f"{root}: as it was at {manifest['begun']}, {len(files)} objects")
    for what in lost:
        warn(f"warning: {what}")
    if database["kind"] == "postgresql" and not loaded:
        warn("now restore the PostgreSQL database with its own tools")
    if loaded and into:
        warn(f"set database.url in {file} to the database that was restored into")
    for one in places.astray:
        what = f"{one.key} in {file} names {one.names}, the copy lies in {one.copy}"
        warn(f"warning: {what}: move it there, or change the setting")
    if not manifest["secrets"]:
        warn("put the private keys back where they were: they are not in the backup")
    for each in left_out:
        warn(f"not in the backup, put it back if it is not there: {each['file']} ({each['key']})")
    warn("then:")
    warn(f"  wasl check --config {file} && wasl ledger verify --config {file}")


def _lost(source: Path, manifest: dict[str, Any], objects: int) -> list[str]:
    """What the manifest says was copied and is not there any more; older backups do not name their files."""
    lost = []
    copied = int(manifest.get("objects", {}).get("all", 0))
    if objects < copied:
        lost.append(f"{objects} of {copied} objects are in its archive")
    there = set(map(str, files_below(source / "config")))
    gone = [name for name in manifest.get("config", ()) if name not in there]
    if gone:
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        lost.append(f"missing in config: {', '.join(gone[:3])}{more}")
    return lost


def _settings_of(source: Path) -> Settings:
    """The settings that were backed up; raises Trouble."""
    from gateway.settings_file import read_settings
    from policies.faults import ConfigFaults

    try:
        return read_settings(source / "config" / SETTINGS)
    except ConfigFaults as error:
        first = error.faults[0]
        raise Trouble(f"{first}: name the database to restore into with --database URL") from None


def _places(source: Path, root: Path, sqlite: bool) -> Places:
    """Where data and archive go: where the settings look for them, if that is in the gateway's folder."""
    from gateway.settings_file import read_settings
    from policies.faults import ConfigFaults

    base = (source / "config").absolute()
    try:
        settings = read_settings(base / SETTINGS, {})
    except ConfigFaults:  # a secret that was left out; `wasl check` tells the rest
        return Places(data=root / "data", archive=root / "data" / "archive", astray=[])
    astray: list[Astray] = []

    def place(key: str, path: Path, usual: Path) -> Path:
        meant = root / path.relative_to(base) if path.is_relative_to(base) else path
        meant = Path(os.path.normpath(meant))
        if meant.is_relative_to(root):
            return meant
        astray.append(Astray(key=key, names=str(meant), copy=usual))
        return usual

    data = place("gateway.data_dir", settings.gateway.data_dir, root / "data")
    archive = data / "archive"
    if settings.archive.kind == "local" and settings.archive.path is not None:
        archive = place("archive.path", settings.archive.path, archive)
    if sqlite and settings.database.url is not None:
        astray.append(Astray(key="database.url", names=settings.database.url, copy=data / SQLITE))
    place("directory.path", settings.directory.path, root / "agencies")
    if settings.policy.path is not None:
        place("policy.path", settings.policy.path, root / "policy")
    if (base / "secrets").is_dir():
        place("ledger.key", settings.ledger.key, root / "secrets" / settings.ledger.key.name)
        if settings.secrets.mac.parent == settings.ledger.key.parent:
            place("secrets.mac", settings.secrets.mac, root / "secrets" / settings.secrets.mac.name)
    return Places(data=data, archive=archive, astray=astray)


def _fit_to_load(url: str, dump: Path, sha256: str) -> None:
    """Look before anything is written: the copy is whole, and the database is there and empty."""
    from tracker.postgres_copy import must_be_empty

    if not dump.is_file() or digest(dump) != sha256:
        raise Trouble(f"{dump} is not what was copied: take another backup")
    if not url.startswith("postgresql"):
        raise Trouble(f"{url} is no PostgreSQL: name the database to restore into with --database URL")
    must_be_empty(url)


def _load(url: str, dump: Path) -> bool:
    from tracker.postgres_copy import load

    return load(url, dump)
