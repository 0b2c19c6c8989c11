"""kill -9 while a person's decision on a held letter is written: all of it stands, or nothing does."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from tests.durability.conftest import Living
from tests.durability.life import Lives
from tests.faults.faultfs import Call
from tracker import schema

RULE = """\
rules:
  - id: hold-these
    priority: 101
    description: {ar: محجوز, en: Held}
    match: {recipient_mailbox: held@moh.gov.example}
    action: hold
    hold: {approvers: [compliance], persons: 2}
    receipts: []
"""

STEPS = [
    ("sqlite", Call.SYNC, "wasl.db-wal", False),
    ("sqlite", Call.SYNC, "wasl.db-wal", True),
    pytest.param("postgres", Call.SEND, "INSERT INTO approval", False, marks=pytest.mark.postgres),
    pytest.param("postgres", Call.SEND, "UPDATE hold", True, marks=pytest.mark.postgres),
    pytest.param("postgres", Call.SEND, "COMMIT", False, marks=pytest.mark.postgres),
    pytest.param("postgres", Call.SEND, "COMMIT", True, marks=pytest.mark.postgres),
]


def state(lives: Lives, message_id: str) -> tuple[str, str, int, list[str]]:
    """State of the hold and of its delivery, approvals, and what the record says happened."""
    h, d, le = schema.hold.c, schema.delivery.c, schema.letter.c
    with lives.store() as store, store.reader.connect() as conn:
        row = conn.execute(
            select(h.id, h.state, h.letter_id, d.state.label("delivery"))
            .join(schema.delivery, d.id == h.delivery_id)
            .join(schema.letter, le.id == h.letter_id)
            .where(le.message_id == message_id)
        ).one()
        acts = conn.execute(select(schema.approval).where(schema.approval.c.hold_id == row.id)).all()
        e = schema.evidence.c
        events = list(conn.scalars(select(e.event).where(e.letter_id == row.letter_id).order_by(e.id)))
        return row.state, row.delivery, len(acts), events


@pytest.mark.servers
@pytest.mark.parametrize(("database", "call", "match", "after"), STEPS)
def test_killed_between_approval_and_release(
    living: Living, monkeypatch: pytest.MonkeyPatch, database: str, call: Call, match: str, after: bool
) -> None:
    """The second of two persons agrees, and the gateway dies of it."""
    lives = living(database)
    (lives.house.root / "policy" / "hold.yaml").write_text(RULE, "utf-8")
    lives.end()
    lives.warm()
    letter = lives.letter(recipients=("held@moh.gov.example",))
    lives.until_promised(letter)
    monkeypatch.setenv("SUDO_USER", "salma")
    lives.house.run("hold", "release", letter.number)
    assert state(lives, letter.message_id)[:3] == ("open", "held", 1)
    monkeypatch.setenv("SUDO_USER", "omar")
    lives.faults.kill(call, match, after=after)
    lives.house.run("hold", "release", letter.number, may_fail=True)
    lives.wait_dead()
    lives.faults.lift()
    hold, delivery, approvals, events = state(lives, letter.message_id)
    if hold == "open":  # nothing of it
        assert (delivery, approvals, events[-1]) == ("held", 1, "approved")
    else:  # all of it
        assert (hold, approvals) == ("released", 2)
        assert delivery in ("queued", "sending", "sent") and "released" in events
    lives.start()
    if hold == "open":
        (line,) = lives.house.run("hold", "release", letter.number, "--json").splitlines()
        assert json.loads(line)["state"] == "released"
    else:
        (line,) = lives.house.run("hold", "release", letter.number, "--json", may_fail=True).splitlines()
        assert "decided already" in json.loads(line)["error"]
    lives.until_delivered()
    assert lives.came(letter) == 1
    assert state(lives, letter.message_id)[3].count("released") == 1
    lives.audit()
    lives.whole = True
