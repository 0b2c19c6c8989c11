"""From settings to the things they name: database, archive, ledger key, secrets, record.

Used by the supervisor and by the command line, so that both open the same house in the same way.
What cannot be opened raises :class:`Trouble`, whose text says what to do; databases and archives
raise their own errors once they are in use.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.settings import Settings
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from policies.directory import DirectoryFile
    from policies.load import Limits
    from tracker.ledger import LedgerKey
    from tracker.object_store import ObjectStore
    from tracker.record import Record
    from tracker.store import Store

MAC_OCTETS = 32


def mac_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets of return addresses and Wasl-Instance, newest first; raises :class:`Trouble`.

    One secret a line, in hexadecimal. To rotate, put a new line in front.
    """
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, ValueError) as e:
        what = getattr(e, "strerror", None) or "is no text file"
        raise Trouble(f"{path}: {what}: make one with `wasl keys secret {path}`") from None
    out = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            octets = bytes.fromhex(text)
        except ValueError:
            raise Trouble(f"{path}:{number}: is no secret in hexadecimal") from None
        if len(octets) < 16:
            raise Trouble(f"{path}:{number}: a secret has at least 16 octets")
        out.append(octets)
    if not out:
        raise Trouble(f"{path}: holds no secret: make one with `wasl keys secret {path}`")
    return tuple(out)


def new_secret() -> str:
    """A line for the file that :func:`mac_secrets` reads."""
    return secrets.token_hex(MAC_OCTETS)


def ledger_key(settings: Settings) -> LedgerKey:
    """The key that signs checkpoints; raises :class:`Trouble`."""
    from tracker.ledger import LedgerKey

    path = settings.ledger.key
    try:
        return LedgerKey.load(settings.ledger_origin, path)
    except OSError as e:
        raise Trouble(f"{path}: {e.strerror or e}: `wasl init` makes it; never replace a lost one") from None
    except (ValueError, TypeError) as e:
        raise Trouble(f"{path}: {e}") from None


def open_store(settings: Settings, *, must_exist: bool = True) -> Store:
    """The database; raises :class:`Trouble` when it is an SQLite file that is not there."""
    from tracker.store import Store

    url = settings.database_url
    if must_exist and url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.exists():
            raise Trouble(f"there is no database at {path} yet: `wasl init` or `wasl serve` makes it")
    return Store(url, settings.database.pool)


def s3_options(settings: Settings) -> dict[str, Any]:
    """What :class:`tracker.s3_archive.S3Archive` is made of."""
    section = settings.archive
    return {
        "bucket": section.bucket or "",
        "scratch": settings.gateway.data_dir / "spool",
        "prefix": section.prefix or None,
        "endpoint": section.endpoint,
        "region": section.region,
        "access_key_id": section.access_key,
        "secret_access_key": section.secret_key,
        "memory_limit": section.memory_limit,
    }


def open_archive(settings: Settings) -> ObjectStore:
    """The archive of the letters' octets; raises OSError."""
    if settings.archive.kind == "s3":
        from tracker.s3_archive import S3Archive

        return S3Archive(**s3_options(settings))
    from tracker.archive import Archive

    return Archive(settings.archive_path, memory_limit=settings.archive.memory_limit)


def open_room(settings: Settings, record: Record, on_gone: Callable[[], None]) -> None:
    """Have letters written by a process of their own, once :func:`await_room` was called; raises
    :class:`Trouble`."""
    from tracker.record_room import Furnishing

    local = settings.archive.kind == "local"
    furnishing = Furnishing(
        url=settings.database_url,
        origin=settings.ledger_origin,
        key=record.ledger.key.pem(),
        zone=settings.gateway.zone,
        node=settings.gateway.node,
        sequenced=record.sequenced,
        archive_root=settings.archive_path if local else None,
        s3=None if local else s3_options(settings),
    )
    try:
        record.open_room(furnishing, on_gone)
    except OSError as error:
        raise Trouble(f"the record room cannot be opened: {error}") from error


def await_room(record: Record) -> None:
    """Wait until the record room is ready; raises :class:`Trouble`."""
    try:
        record.await_room()
    except (OSError, RuntimeError) as error:
        raise Trouble(f"the record room cannot be opened: {error}") from error


def open_record(settings: Settings, on_failure: Callable[[BaseException], None] | None = None) -> Record:
    """The record, its schema brought up to date; raises :class:`Trouble`.

    The caller holds the data directory's lock.
    """
    from tracker.ledger import LedgerBroken
    from tracker.record import Record
    from tracker.store_errors import StoreError, unavailable

    key = ledger_key(settings)
    try:
        settings.gateway.data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        store = open_store(settings, must_exist=False)
        store.create()
        store.hold_node(settings.gateway.node)
        return Record(
            store,
            open_archive(settings),
            key,
            zone=settings.gateway.zone,
            node=settings.gateway.node,
            on_failure=on_failure,
        )
    except (OSError, ValueError, StoreError, LedgerBroken) as error:
        raise Trouble(f"the record cannot be opened: {error}") from error
    except Exception as error:
        if not unavailable(error):
            raise
        raise Trouble(f"the database {settings.database_url} cannot be reached: {error}") from error


def open_directory(settings: Settings) -> DirectoryFile:
    """The agencies; raises ConfigFaults."""
    from policies.directory import DirectoryFile

    return DirectoryFile(settings.directory.path, reserved=(settings.gateway.domain,))


def policy_limits(settings: Settings) -> Limits:
    """What the word ``settings`` in a policy's match keys stands for."""
    from policies.load import Limits

    limits = settings.limits
    return Limits(size=limits.message_size, recipients=limits.recipients, hops=limits.hops)
