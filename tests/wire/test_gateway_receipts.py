"""Which receipts an author gets over the wire, by settings, agency and NOTIFY (RFC 3461); who gets none."""

from __future__ import annotations

import pytest

from tests.servers.sink import DROP
from tests.wire.gateway_front import BOX, FORWARDS, MOF, MOH, MOJ, OLD, SHADOW, TERSE, Front
from tests.wire.wire_letters import body, letter

pytestmark = pytest.mark.servers

DIWAN = "diwan@moh.gov.example"
SENT = ("sent", 2, "open")
DELIVERED = ("sent", 3, "open")


@pytest.mark.parametrize(
    ("notify", "at_box", "unknown"),
    [
        ("", ["submitted", "delivered"], ["submitted", "failed"]),
        ("NOTIFY=NEVER", [], []),
        ("NOTIFY=SUCCESS", ["submitted", "delivered"], ["submitted"]),
        ("NOTIFY=FAILURE", ["submitted"], ["submitted", "failed"]),
        ("NOTIFY=SUCCESS,FAILURE,DELAY", ["submitted", "delivered"], ["submitted", "failed"]),
        ("NOTIFY=DELAY", ["submitted"], ["submitted"]),
    ],
)
def test_notify_is_honoured(front: Front, notify: str, at_box: list[str], unknown: list[str]) -> None:
    """The LMTP hop takes one letter and refuses another."""
    good, good_id = letter("a@box.gov.example")
    bad, bad_id = letter("nobody@box.gov.example")
    front.sink(BOX).script = lambda verb, line: (
        b"550 5.1.1 no such mailbox" if verb == "RCPT" and b"nobody@" in line else None
    )
    front.accept(good, "a@box.gov.example", rcpt_params=notify)
    front.accept(bad, "nobody@box.gov.example", rcpt_params=notify)
    front.wait_standing(good_id, "a@box.gov.example", *DELIVERED)
    front.wait_standing(bad_id, "nobody@box.gov.example", "failed", 1, "failed")
    front.quiet()
    front.receipts(good_id, *at_box)
    front.receipts(bad_id, *unknown)


def test_an_agency_chooses_its_receipts(front: Front) -> None:
    for recipient, kinds in (
        ("a@box.gov.example", ()),
        (DIWAN, ("relayed",)),
        ("nobody@box.gov.example", ("failed",)),
    ):
        front.sink(BOX).script = lambda verb, line: b"550 5.1.1 no" if b"nobody@" in line else None
        octets, message_id = letter(recipient, author="author@terse.gov.example")
        front.accept(octets, recipient, sender="author@terse.gov.example", agency=TERSE)
        front.quiet()
        front.receipts(message_id, *kinds, at=TERSE)


def test_success_is_told_where_the_next_hop_will_not(front: Front) -> None:
    """RFC 3461 §6.2.2: the old server knows no DSN, so our relaying is the last that can be told."""
    octets, message_id = letter("a@old.gov.example", text="plain\n", subject="plain")
    front.accept(octets, "a@old.gov.example", rcpt_params="NOTIFY=SUCCESS")
    relayed, _ = front.receipts(message_id, "relayed", "submitted")
    assert b"Action: relayed" in relayed.octets


def test_envid_orcpt_and_ret_come_back(front: Front) -> None:
    front.sink(BOX).script = lambda verb, line: b"550 5.1.1 no" if verb == "RCPT" else None
    octets, message_id = letter("x@box.gov.example", text="the text itself\n")
    front.accept(
        octets,
        "x@box.gov.example",
        params="RET=FULL ENVID=Qq+2B314",
        rcpt_params="NOTIFY=FAILURE ORCPT=rfc822;Old.Name@Box.gov.example",
    )
    failed, _ = front.receipts(message_id, "failed", "submitted")
    front.sink(BOX).script = lambda verb, line: None
    assert b"Original-Envelope-Id: Qq+314" in failed.octets
    assert b"Original-Recipient: rfc822; Old.Name@Box.gov.example" in failed.octets
    assert body(octets).strip() in failed.octets


def test_dsn_parameters_go_outward_as_they_came(front: Front) -> None:
    """RFC 3461 §5.2.1: of mail that passes all four, letter for letter; of a letter the original recipient,
    beside what Wasl asks for itself. A server that offers no DSN is given none."""
    asked = "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Old.Name+2B@Elsewhere.Example"
    ways = {
        MOF: "colleague@mof.gov.example",  # passes
        SHADOW: "a@shadow.gov.example",
        MOH: DIWAN,
        OLD: "a@old.gov.example",
    }
    found: dict[str, tuple[bytes, bytes]] = {}
    for agency, recipient in ways.items():
        octets, message_id = letter(recipient, text="plain\n", subject="plain")
        front.accept(octets, recipient, params="RET=FULL ENVID=Qq+2B3aB", rcpt_params=asked)
        (copy,) = front.arrived(agency, message_id)
        assert copy.recipients[0].startswith(f"<{recipient}>".encode())
        found[agency.code] = copy.sender, copy.recipients[0].partition(b"> ")[2]
    for code in ("MOF", "SHD"):
        mail, rcpt = found[code]
        assert mail.startswith(b"<author@mof.gov.example> ") and mail.endswith(b" RET=FULL ENVID=Qq+2B3aB")
        assert rcpt == asked.encode()
    mail, rcpt = found["MOH"]
    assert b" RET=HDRS ENVID=" in mail and b"Qq+2B3aB" not in mail
    assert rcpt == b"NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;Old.Name+2B@Elsewhere.Example"
    mail, rcpt = found["OLD"]
    assert mail.endswith(b">") and rcpt == b""


def test_late_and_then_given_up(front: Front) -> None:
    octets, message_id = letter("slow@moj.gov.example")
    front.sink(MOJ).script = lambda verb, line: (
        b"450 4.2.0 not now" if verb == "RCPT" and b"slow@" in line else None
    )
    front.accept(octets, "slow@moj.gov.example")
    front.wait_standing(message_id, "slow@moj.gov.example", "failed", 1, "failed")
    failed, late, _ = front.receipts(message_id, "failed", "late", "submitted")
    assert b"Action: delayed" in late.octets and b"Will-Retry-Until:" in late.octets
    assert b"Action: failed" in failed.octets and b"Status: 5.4.7" in failed.octets


def test_a_null_sender_earns_nothing(front: Front) -> None:
    for recipient in (DIWAN, "nobody@box.gov.example"):
        octets, message_id = letter(recipient)
        assert front.accept(octets, recipient, sender="") == ""
    front.quiet()
    assert front.letters(message_id) == []  # passed or failed, and forgotten
    front.receipts(message_id)


@pytest.mark.parametrize(
    "field", ["Auto-Submitted: auto-generated", "List-Id: <x.mof.gov.example>", "Precedence: bulk"]
)
def test_automatic_mail_and_lists_earn_nothing(front: Front, field: str) -> None:
    name, _, value = field.partition(": ")
    octets, message_id = letter("nobody@box.gov.example", more={name: value})
    front.sink(BOX).script = lambda verb, line: b"550 5.1.1 no" if b"nobody@" in line else None
    front.accept(octets, "nobody@box.gov.example")
    front.quiet()
    front.receipts(message_id)


def test_an_answer_that_never_came_is_in_doubt(front: Front) -> None:
    """The server takes the final dot and dies: it may have the letter, so the second try may double it."""
    octets, message_id = letter()
    front.sink(MOH).answer_once(".", DROP)
    front.accept(octets, DIWAN)
    front.arrived(MOH, message_id)
    front.wait_standing(message_id, DIWAN, *SENT)
    assert [e.event for e in front.evidence(message_id)] == ["submitted", "in-doubt", "relayed"]


def test_a_sender_of_elsewhere_is_told_the_way_the_mail_came(front: Front) -> None:
    """FWD's server vouched for the sender, so it gets the report when the mail cannot be delivered."""
    outsider = "sender@elsewhere.example"
    front.sink(BOX).script = lambda verb, line: b"550 5.1.1 no" if b"nobody@" in line else None
    octets, message_id = letter("nobody@box.gov.example", author=outsider)
    front.accept(octets, "nobody@box.gov.example", sender=outsider, agency=FORWARDS)
    (failed,) = front.receipts(message_id, "failed", at=FORWARDS)
    assert failed.recipients[0].startswith(f"<{outsider}>".encode()) and failed.sender.startswith(b"<>")
