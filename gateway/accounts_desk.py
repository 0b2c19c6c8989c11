"""Accounts of the dashboard as the command line manages them, the same with and without a running gateway.

``wasl user`` sends its request through the control socket when the gateway runs, and hands it to
:func:`act_on_account` itself when none does. Raises :class:`tracker.accounts.AccountError`.
"""

from __future__ import annotations

from typing import Any

from tracker import accounts
from tracker.access import Role
from tracker.record import Record


def act_on_account(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """Do ``request["act"]`` (add, reset, disable, enable) and tell the account as it is now."""
    name = str(request.get("name") or "")
    act = request.get("act")
    password = str(request.get("password") or "")
    # argon2 takes its time: not inside the writer's transaction, where letters wait.
    hashed = accounts.hash_password(password) if act in ("add", "reset") else None
    if act == "add":
        made = record.write(
            lambda conn: accounts.make(
                conn,
                record.ids.next(),
                name=name,
                password=password,
                hashed=hashed,
                role=Role(request.get("role") or "viewer"),
                agency=request.get("agency"),
                display=str(request.get("display") or ""),
                language=str(request.get("language") or "ar"),
                must_change=bool(request.get("must_change", True)),
            )
        )
    elif act == "reset":
        made = record.write(
            lambda conn: accounts.set_password(conn, name, password, must_change=True, hashed=hashed)
        )
    elif act in ("disable", "enable"):
        made = record.write(lambda conn: accounts.change(conn, name, disabled=act == "disable"))
    else:
        raise ValueError(f"no such act: {act!r}")
    return {"account": {"name": made.name, "role": made.role.value, "agency": made.agency}}
