"""Accounts of the dashboard and their sessions.

Passwords are argon2id hashes (RFC 9106, by pwdlib); a session is a random token of 256 bits of
which the store keeps the SHA-256. A session ends by signing out, after ``IDLE_US`` without use,
after ``LIFE_US`` in any case, and at once when the account's password, role or agency changes or
it is disabled. Functions take the connection of the caller's transaction and never commit.

Raises :class:`AccountError` with a :class:`Fault` that the caller puts into the reader's language.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Connection, Row, delete, insert, select, update

from tracker.access import Role, Viewer
from tracker.model import now_us
from tracker.schema import account, web_session

MIN_PASSWORD = 12
MAX_PASSWORD = 256  # characters; argon2 has no limit of its own that would protect us
IDLE_US = 2 * 3600 * 1_000_000
LIFE_US = 12 * 3600 * 1_000_000
TOUCH_US = 60 * 1_000_000  # ``seen_us`` is not written more often than this

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
_hasher = PasswordHash((Argon2Hasher(),))


class Fault(StrEnum):
    """What is wrong with an account, in a word."""

    BAD_NAME = "bad-name"
    NAME_TAKEN = "name-taken"
    UNKNOWN = "unknown"
    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    TOO_PLAIN = "too-plain"  # one character repeated, or the account's own name
    SAME = "same"  # the new password is the old one
    NEEDS_AGENCY = "needs-agency"
    NO_AGENCY = "no-agency"


class AccountError(ValueError):
    """An account cannot be made or changed so."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person of the dashboard, without the password."""

    id: int
    name: str
    display: str
    agency: str | None
    role: Role
    language: str
    disabled: bool
    must_change: bool
    created_us: int

    @property
    def viewer(self) -> Viewer:
        return Viewer(account=self.name, role=self.role, agency=self.agency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A living session: whose it is, and by which hash the store knows it."""

    account: Account
    token_hash: bytes
    seen_us: int
    expires_us: int

    def wants_touch(self, at_us: int) -> bool:
        return at_us - self.seen_us > TOUCH_US


def clean_name(name: str) -> str:
    """The form under which an account is kept; raises :class:`AccountError`."""
    plain = name.strip().lower()
    if not _NAME.fullmatch(plain):
        raise AccountError(Fault.BAD_NAME, "an account name is 1 to 100 of a-z 0-9 . _ @ + -")
    return plain


def check_password(name: str, password: str) -> None:
    """Refuse a password that is too easy; raises :class:`AccountError`. Length decides (NIST SP 800-63B)."""
    if len(password) < MIN_PASSWORD:
        raise AccountError(Fault.TOO_SHORT, f"a password has at least {MIN_PASSWORD} characters")
    if len(password) > MAX_PASSWORD:
        raise AccountError(Fault.TOO_LONG, f"a password has at most {MAX_PASSWORD} characters")
    if len(set(password)) < 5 or name.lower() in password.lower():
        raise AccountError(Fault.TOO_PLAIN, "the password is too easy to guess")


def make(
    conn: Connection,
    row_id: int,
    *,
    name: str,
    password: str,
    role: Role,
    agency: str | None = None,
    display: str = "",
    language: str = "ar",
    must_change: bool = True,
    hashed: str | None = None,
) -> Account:
    """Add an account; raises :class:`AccountError`. The caller checks that the agency exists.

    ``hashed`` is :func:`hash_password` of the password when the caller made it beforehand.
    """
    plain = clean_name(name)
    check_password(plain, password)
    _check_agency(role, agency)
    if find(conn, plain) is not None:
        raise AccountError(Fault.NAME_TAKEN, f"there is an account {plain} already")
    conn.execute(
        insert(account).values(
            id=row_id,
            name=plain,
            display=display.strip()[:200],
            agency=agency,
            role=role.value,
            password=hashed or hash_password(password),
            language=language,
            disabled=False,
            must_change=must_change,
            created_us=now_us(),
        )
    )
    made = find(conn, plain)
    assert made is not None
    return made


def _check_agency(role: Role, agency: str | None) -> None:
    if role is Role.ADMIN and agency is not None:
        raise AccountError(Fault.NO_AGENCY, "an administrator belongs to no single agency")
    if role in (Role.REGISTRY, Role.VIEWER) and agency is None:
        raise AccountError(Fault.NEEDS_AGENCY, f"the role {role} needs an agency")


def find(conn: Connection, name: str) -> Account | None:
    """The account of that name, disabled or not."""
    row = conn.execute(select(account).where(account.c.name == name.strip().lower())).one_or_none()
    return None if row is None else _account(row)


def everyone(conn: Connection) -> Sequence[Account]:
    """All accounts by name."""
    return [_account(row) for row in conn.execute(select(account).order_by(account.c.name))]


def set_password(
    conn: Connection, name: str, password: str, *, must_change: bool, hashed: str | None = None
) -> Account:
    """Give a new password and end every session of the account; raises :class:`AccountError`."""
    found = _needed(conn, name)
    check_password(found.name, password)
    put_password(conn, found.id, hashed or hash_password(password), must_change=must_change)
    return found


def hash_password(password: str) -> str:
    """The argon2id hash; takes a good part of a second and 64 MiB, so not inside the writer's transaction."""
    return _hasher.hash(password)


def put_password(conn: Connection, account_id: int, hashed: str, *, must_change: bool) -> None:
    """Store a hash of :func:`hash_password` and end every session of the account."""
    conn.execute(
        update(account).where(account.c.id == account_id).values(password=hashed, must_change=must_change)
    )
    end_sessions(conn, account_id)


def change(
    conn: Connection,
    name: str,
    *,
    role: Role | None = None,
    agency: str | None = None,
    disabled: bool | None = None,
) -> Account:
    """Change role and agency together, or switch the account off or on; ends its sessions.

    With ``role`` given, ``agency`` is set as given (None: all agencies). Raises :class:`AccountError`.
    """
    found = _needed(conn, name)
    values: dict[str, object] = {}
    if role is not None:
        _check_agency(role, agency)
        values |= {"role": role.value, "agency": agency}
    if disabled is not None:
        values["disabled"] = disabled
    if values:
        conn.execute(update(account).where(account.c.id == found.id).values(values))
        end_sessions(conn, found.id)
    return _needed(conn, name)


def set_language(conn: Connection, account_id: int, language: str) -> None:
    """Remember the language of the screen."""
    conn.execute(update(account).where(account.c.id == account_id).values(language=language))


def verify(conn: Connection, name: str, password: str) -> Account | None:
    """The account if name and password are right and it is enabled.

    An unknown name costs as much time as a known one, so that names cannot be found out.
    """
    row = None
    if len(password) <= MAX_PASSWORD and "\x00" not in name:
        row = conn.execute(select(account).where(account.c.name == name.strip().lower()[:100])).one_or_none()
    stored = row.password if row is not None else _nobody()
    try:
        right = _hasher.verify(password[:MAX_PASSWORD], stored)
    except PwdlibError:
        right = False  # a hash that this program did not write
    if row is None or not right or row.disabled:
        return None
    return _account(row)


@lru_cache(maxsize=1)
def _nobody() -> str:
    return _hasher.hash(secrets.token_urlsafe(16))


def _needed(conn: Connection, name: str) -> Account:
    found = find(conn, name)
    if found is None:
        raise AccountError(Fault.UNKNOWN, f"there is no account {name}")
    return found


def _account(row: Row[tuple[object, ...]]) -> Account:
    return Account(
        id=row.id,
        name=row.name,
        display=row.display,
        agency=row.agency,
        role=Role(row.role),
        language=row.language,
        disabled=row.disabled,
        must_change=row.must_change,
        created_us=row.created_us,
    )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def begin_session(conn: Connection, account_id: int, peer: str, at_us: int | None = None) -> str:
    """Open a session and return its token, which is not kept. Sessions that have run out are removed."""
    at = now_us() if at_us is None else at_us
    token = secrets.token_urlsafe(32)
    conn.execute(delete(web_session).where(web_session.c.expires_us < at))
    conn.execute(
        insert(web_session).values(
            token_hash=_hash(token),
            account_id=account_id,
            created_us=at,
            seen_us=at,
            expires_us=at + LIFE_US,
            peer=peer[:100],
        )
    )
    return token


def session(conn: Connection, token: str, at_us: int | None = None, idle_us: int = IDLE_US) -> Session | None:
    """The living session of a token, or None."""
    at = now_us() if at_us is None else at_us
    if not 20 <= len(token) <= 100:
        return None
    found = conn.execute(
        select(web_session.c.seen_us, web_session.c.expires_us, web_session.c.token_hash, account)
        .join(account, account.c.id == web_session.c.account_id)
        .where(web_session.c.token_hash == _hash(token), account.c.disabled.is_(False))
    ).one_or_none()
    if found is None or found.expires_us <= at or found.seen_us + idle_us <= at:
        return None
    return Session(
        account=_account(found),
        token_hash=found.token_hash,
        seen_us=found.seen_us,
        expires_us=found.expires_us,
    )


def touch_session(conn: Connection, token_hash: bytes, at_us: int) -> None:
    """Note that the session was used."""
    conn.execute(update(web_session).where(web_session.c.token_hash == token_hash).values(seen_us=at_us))


def end_session(conn: Connection, token_hash: bytes) -> None:
    conn.execute(delete(web_session).where(web_session.c.token_hash == token_hash))


def end_sessions(conn: Connection, account_id: int) -> None:
    """End every session of an account."""
    conn.execute(delete(web_session).where(web_session.c.account_id == account_id))
