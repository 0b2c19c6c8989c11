"""Every policy that was ever loaded, and which of them was in force when.

A version is a set of files by its digest; a letter's submission names the digest of the policy that
decided it, so that what decided a letter can be read as long as the letter is. Activations are rows
of their own: ``proposed`` waits for a second person, ``active`` came into force at ``active_us``
(the latest one is in force), ``withdrawn`` was proposed and given up. Nothing here is evidence; it is
written through ``Record.write``. Acts that make no sense raise :class:`PolicyStoreError`, whose
words are for the person who asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Row, func, insert, select, update

from tracker.schema import policy_activation, policy_version, submission

PROPOSALS = 100  # of the waiting ones are listed


class PolicyStoreError(ValueError):
    """The act cannot be done; the message says why."""


class Standing(StrEnum):
    """Where a version stands."""

    PROPOSED = "proposed"
    ACTIVE = "active"
    WITHDRAWN = "withdrawn"
    KNOWN = "known"  # was loaded, never asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One asking for a version to be in force, and what became of it."""

    id: int
    digest: str
    state: Standing
    at_us: int  # asked for
    by: str
    second: str | None  # who agreed
    active_us: int | None  # in force since
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A version without its files. ``standing`` is ACTIVE only for the one in force."""

    digest: str
    at_us: int  # first loaded
    by: str
    note: str
    standing: Standing
    last: Activation | None


def store_version(
    conn: Connection, digest: str, files: Mapping[str, str], *, by: str, note: str, at_us: int
) -> bool:
    """Keep a version; False when it is known already. A note comes to a version that has none yet."""
    v = policy_version.c
    known = conn.execute(select(v.note).where(v.digest == digest)).one_or_none()
    if known is not None:
        if note and not known.note:
            conn.execute(update(policy_version).where(v.digest == digest).values(note=note))
        return False
    conn.execute(
        insert(policy_version).values(digest=digest, at_us=at_us, by=by, note=note, files=dict(files))
    )
    return True


def files_of(conn: Connection, digest: str) -> dict[str, str] | None:
    """The files of a version by name, None when there is no such version."""
    files = conn.scalar(select(policy_version.c.files).where(policy_version.c.digest == digest))
    return None if files is None else {str(name): str(text) for name, text in files.items()}


def find(conn: Connection, start: str) -> str:
    """The digest that begins with ``start``; raises :class:`PolicyStoreError` for none or several."""
    v = policy_version.c
    if not start or not all(c in "0123456789abcdef" for c in start.lower()):
        raise PolicyStoreError(f"{start!r} is no digest of a policy version: see `wasl policy versions`")
    start = start.lower()
    found = list(conn.scalars(select(v.digest).where(v.digest.startswith(start)).order_by(v.digest).limit(3)))
    if start in found:
        return start
    if not found:
        raise PolicyStoreError(f"there is no policy version {start}: see `wasl policy versions`")
    if len(found) > 1:
        raise PolicyStoreError(f"{start} begins several policy versions: give more of it")
    return str(found[0])


def versions(conn: Connection, limit: int = 100) -> tuple[PolicyVersion, ...]:
    """The versions, the last loaded or asked for first."""
    v, a = policy_version.c, policy_activation.c
    latest = select(a.digest, func.max(a.id).label("id")).group_by(a.digest).subquery()
    rows = conn.execute(
        select(v.digest, v.at_us, v.by, v.note, latest.c.id.label("activation"))
        .outerjoin(latest, latest.c.digest == v.digest)
        .order_by(func.coalesce(latest.c.id, 0).desc(), v.at_us.desc())
        .limit(limit)
    ).all()
    ids = [row.activation for row in rows if row.activation is not None]
    acts = {row.id: _activation(row) for row in conn.execute(select(policy_activation).where(a.id.in_(ids)))}
    now = active(conn)
    return tuple(
        PolicyVersion(
            digest=row.digest,
            at_us=row.at_us,
            by=row.by,
            note=row.note,
            standing=_standing(row.digest, acts.get(row.activation), now),
            last=acts.get(row.activation),
        )
        for row in rows
    )


def _standing(digest: str, last: Activation | None, now: Activation | None) -> Standing:
    if last is not None and last.state is Standing.PROPOSED:
        return Standing.PROPOSED
    if now is not None and now.digest == digest:
        return Standing.ACTIVE
    return Standing.WITHDRAWN if last is not None and last.state is Standing.WITHDRAWN else Standing.KNOWN


def active(conn: Connection) -> Activation | None:
    """The activation in force, None before the first one."""
    return next(iter(history(conn, limit=1)), None)


def history(conn: Connection, limit: int = 50) -> tuple[Activation, ...]:
    """What was in force, the latest first."""
    a = policy_activation.c
    rows = conn.execute(
        select(policy_activation)
        .where(a.state == Standing.ACTIVE.value)
        .order_by(a.active_us.desc(), a.id.desc())
        .limit(limit)
    )
    return tuple(_activation(row) for row in rows)


def proposed(conn: Connection) -> tuple[Activation, ...]:
    """What waits for a second person, the latest first."""
    a = policy_activation.c
    rows = conn.execute(
        select(policy_activation)
        .where(a.state == Standing.PROPOSED.value)
        .order_by(a.id.desc())
        .limit(PROPOSALS)
    )
    return tuple(_activation(row) for row in rows)


def deciding(conn: Connection, letter_id: int) -> tuple[str, ...]:
    """The versions that decided a letter, one for each transaction that brought it."""
    s = submission.c
    return tuple(conn.scalars(select(s.policy_version).where(s.letter_id == letter_id).order_by(s.id)))


def propose(conn: Connection, row_id: int, digest: str, *, by: str, note: str, at_us: int) -> Activation:
    """Ask for a version to come into force; what was proposed before it is withdrawn."""
    for one in proposed(conn):
        if one.digest == digest:
            return one
    withdraw(conn)
    _insert(conn, row_id, digest, Standing.PROPOSED, by=by, note=note, at_us=at_us)
    return _one(conn, row_id)


def activate(conn: Connection, row_id: int, digest: str, *, by: str, note: str, at_us: int) -> Activation:
    """Put a version in force at once; nothing new is written when it is already. Proposals are withdrawn."""
    withdraw(conn)
    now = active(conn)
    if now is not None and now.digest == digest:
        return now
    # The order of activations is that of their times: a clock that was set back must not undo this one.
    since = at_us if now is None else max(at_us, (now.active_us or 0) + 1)
    _insert(conn, row_id, digest, Standing.ACTIVE, by=by, note=note, at_us=at_us, active_us=since)
    return _one(conn, row_id)


def approve(conn: Connection, digest: str, *, by: str, at_us: int) -> Activation:
    """A second person agrees: the proposed version is in force. Raises :class:`PolicyStoreError`."""
    waiting = next((one for one in proposed(conn) if one.digest == digest), None)
    if waiting is None:
        raise PolicyStoreError(f"the policy version {digest} is not proposed")
    if not by:
        raise PolicyStoreError("an approval needs a name")
    if plain(by) == plain(waiting.by):
        raise PolicyStoreError(f"{digest} was proposed by {waiting.by}: another person must approve it")
    now = active(conn)
    since = at_us if now is None else max(at_us, (now.active_us or 0) + 1)
    a = policy_activation.c
    conn.execute(
        update(policy_activation)
        .where(a.id == waiting.id)
        .values(state=Standing.ACTIVE.value, second=by, active_us=since)
    )
    return _one(conn, waiting.id)


def withdraw(conn: Connection, digest: str | None = None) -> int:
    """Give up what is proposed, or that one proposal; returns how many there were."""
    a = policy_activation.c
    which = update(policy_activation).where(a.state == Standing.PROPOSED.value)
    if digest is not None:
        which = which.where(a.digest == digest)
    return conn.execute(which.values(state=Standing.WITHDRAWN.value)).rowcount


def plain(person: str) -> str:
    """A person's bare name: ``console:rana (as root)`` is rana."""
    return person.removeprefix("console:").partition(" (as ")[0].strip().casefold()


def _insert(
    conn: Connection,
    row_id: int,
    digest: str,
    state: Standing,
    *,
    by: str,
    note: str,
    at_us: int,
    active_us: int | None = None,
) -> None:
    if conn.scalar(select(policy_version.c.digest).where(policy_version.c.digest == digest)) is None:
        raise PolicyStoreError(f"there is no policy version {digest}")
    row = {"id": row_id, "digest": digest, "state": state.value, "at_us": at_us, "by": by, "note": note}
    conn.execute(insert(policy_activation).values(**row, active_us=active_us))


def _one(conn: Connection, row_id: int) -> Activation:
    return _activation(conn.execute(select(policy_activation).where(policy_activation.c.id == row_id)).one())


def _activation(row: Row[tuple[object, ...]]) -> Activation:
    return Activation(
        id=row.id,
        digest=row.digest,
        state=Standing(row.state),
        at_us=row.at_us,
        by=row.by,
        second=row.second,
        active_us=row.active_us,
        note=row.note,
    )
