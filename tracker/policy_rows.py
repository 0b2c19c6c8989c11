"""What acceptance writes of policy beside letter and deliveries: holds, and the rules that applied.

Rows only, made for one executemany each; :mod:`tracker.accept_desk` writes them in its own transaction. A
rule stands once a letter, however many recipients and transactions it has. Nothing here fails.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.dialects import postgresql, sqlite

from tracker.acceptance import Acceptance, DeliveryDraft, HoldDraft
from tracker.prepared import Prepared
from tracker.schema import delivery, hold, rule_hit

_INSERT_HOLD = Prepared(insert(hold))
_INSERT_HIT = {
    "sqlite": Prepared(sqlite.insert(rule_hit).on_conflict_do_nothing()),
    "postgresql": Prepared(postgresql.insert(rule_hit).on_conflict_do_nothing()),
}
_JOIN = Prepared(
    update(delivery).where(delivery.c.id == bindparam("b_id")).values(intended=bindparam("b_intended"))
)


def hold_row(id: int, letter_id: int, delivery_id: int, at_us: int, h: HoldDraft) -> dict[str, Any]:
    """The hold of one delivery."""
    return {
        "id": id,
        "letter_id": letter_id,
        "delivery_id": delivery_id,
        "rule": h.rule,
        "reason_ar": h.ar,
        "reason_en": h.en,
        "approvers": list(h.approvers),
        "needs": h.needs,
        "since_us": at_us,
        "expires_us": h.expires_us,
        "at_expiry": h.at_expiry,
        "state": "open",
        "decided_us": None,
    }


def hit_rows(letter_id: int, a: Acceptance) -> list[dict[str, Any]]:
    """The rules that applied to a letter, or would have."""
    return [{"rule": rule, "letter_id": letter_id, "shadow": False} for rule in a.hits] + [
        {"rule": rule, "letter_id": letter_id, "shadow": True} for rule in a.would if rule not in a.hits
    ]


def write_holds(conn: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        _INSERT_HOLD.many(conn, rows)


def write_hits(conn: Connection, rows: list[dict[str, Any]]) -> None:
    """Rules that stand beside the letter already are left alone."""
    if rows:
        _INSERT_HIT[conn.dialect.name].many(conn, rows)


def joined(intended: str | None, recipient: str, draft: DeliveryDraft) -> str | None:
    """Whom a delivery is for when another recipient of the letter is routed to the same mailbox."""
    names = (intended or recipient).split(" ")
    more = [name for name in (draft.intended or str(draft.recipient.address)).split(" ") if name not in names]
    return " ".join([*names, *more]) if more else intended


def write_joined(conn: Connection, rows: list[dict[str, Any]]) -> None:
    """``b_id`` and ``b_intended`` of deliveries written before."""
    if rows:
        _JOIN.many(conn, rows)
