"""The whole gateway over the wire: one letter from the door to the last receipt, and what is no letter.

The main way on both databases with a gateway of its own; the rest shares the gateway of the session
(conftest.py), as do test_gateway_reports.py, test_gateway_receipts.py and test_gateway_octets.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.certificates import Authority
from tests.servers.dovecot import PASSWORD
from tests.wire.gateway_front import (
    FORWARDS,
    MOF,
    MOH,
    MOJ,
    OUTBOUND,
    SHADOW,
    Front,
    gateway_front,
    transaction,
)
from tests.wire.wire_letters import body, header, letter, report, return_address, trace_removed

pytestmark = pytest.mark.servers

AUTHOR = "author@mof.gov.example"
DIWAN = "diwan@moh.gov.example"
SENT = ("sent", 2, "open")
DELIVERED = ("sent", 3, "open")


def test_a_letter_from_the_door_to_the_last_receipt(
    tmp_path: Path, authority: Authority, db_url: str
) -> None:
    """Accepted with a number, tagged, relayed, reported, receipted; repeats and parts are the same letter."""
    url = db_url if db_url.startswith("postgresql") else ""
    with gateway_front(tmp_path, authority, database_url=url, agencies=(MOF, MOH, MOJ)) as front:
        octets, message_id = letter(f"{DIWAN}, legal@moj.gov.example")
        number = front.accept(octets, DIWAN)
        assert number.startswith("MOF/") and number.endswith("/000001")
        (copy,) = front.arrived(MOH, message_id)
        assert header(copy.octets, "Wasl-Letter") == number
        assert header(copy.octets, "Subject").startswith(f"[{number}]")
        assert body(copy.octets) == body(octets)
        assert b"NOTIFY=SUCCESS,FAILURE,DELAY" in copy.recipients[0]
        back = return_address(copy)

        # The client did not read our 250 and sends again; its server sends the other half.
        assert front.accept(octets, DIWAN) == number
        assert (
            front.accept(b"Received: from desk by mail.mof\r\n" + octets, "legal@moj.gov.example") == number
        )
        front.arrived(MOJ, message_id)
        front.arrived(MOH, message_id)  # still one

        front.wait_standing(message_id, DIWAN, *SENT)
        front.accept(report("delivered", DIWAN), back, sender="", agency=MOH)
        front.wait_standing(message_id, DIWAN, *DELIVERED)
        submitted, delivered = sorted(
            front.receipts(message_id, "submitted", "delivered"), key=lambda r: b"delivered" in r.octets
        )
        assert header(submitted.octets, "Wasl-Letter") == header(delivered.octets, "Wasl-Letter") == number
        assert all(r.sender.startswith(b"<>") for r in (submitted, delivered))
        assert f"Final-Recipient: rfc822; {DIWAN}".encode() in delivered.octets
        assert b"Action: delivered" in delivered.octets

        second, _ = letter()
        assert front.accept(second, DIWAN).endswith("/000002")
        front.quiet()
        front.verify()


def test_parts_of_one_letter_are_one_letter(front: Front) -> None:
    people = [f"p{i}@moh.gov.example" for i in range(7)]
    octets, message_id = letter(", ".join(people))
    parts = (people[:3], people[2:5], people[5:])  # one of them twice
    numbers = {
        front.accept(f"Received: from desk by mail{i}\r\n".encode() + octets, *part)
        for i, part in enumerate(parts)
    }
    assert len(numbers) == 1
    front.quiet()
    assert front.standing(message_id).keys() == set(people)
    arrived = [r for r in front.sink(MOH).received if r.message_id == message_id.encode()]
    assert sorted(rcpt for r in arrived for rcpt in r.recipients) == sorted(
        rcpt for rcpts in {r.recipients for r in arrived} for rcpt in rcpts
    )
    assert front.sink(MOH).duplicates() == {}
    assert len(front.submissions(front.letter(message_id).id)) == 3


def test_another_text_under_the_same_message_id_is_another_letter(front: Front) -> None:
    octets, message_id = letter()
    first = front.accept(octets, DIWAN)
    assert front.accept(octets + b"A line more.\r\n", DIWAN) != first
    assert len(front.letters(message_id)) == 2


def test_the_same_letter_of_another_agency_is_its_own(front: Front) -> None:
    octets, message_id = letter(author="author@moj.gov.example")
    assert front.accept(octets, DIWAN, sender="author@moj.gov.example", agency=MOJ).startswith("MOJ/")
    forged = octets.replace(b"author@moj", b"author@mof")
    assert front.accept(forged, DIWAN).startswith("MOF/")
    assert len(front.letters(message_id)) == 2


def test_a_shadow_agency_sends_as_if_nobody_looked(front: Front) -> None:
    author = "author@shadow.gov.example"
    octets, message_id = letter(author=author, more={"Disposition-Notification-To": author})
    assert front.accept(octets, DIWAN, sender=author, agency=SHADOW, rcpt_params="NOTIFY=SUCCESS") == ""
    (copy,) = front.arrived(MOH, message_id)
    assert copy.sender.startswith(f"<{author}>".encode())
    assert copy.recipients[0] == f"<{DIWAN}> NOTIFY=SUCCESS".encode()
    assert trace_removed(copy.octets) == octets
    front.quiet()
    assert front.letter(message_id).kind == "shadow"
    front.wait_standing(message_id, DIWAN, *SENT)
    front.receipts(message_id, at=SHADOW)


def test_a_shadow_agency_receives_as_if_nobody_looked(front: Front) -> None:
    octets, message_id = letter("a@shadow.gov.example")
    number = front.accept(octets, "a@shadow.gov.example")
    assert number.startswith("MOF/")  # the sender's mode governs numbers and receipts
    (copy,) = front.arrived(SHADOW, message_id)
    assert copy.sender.startswith(f"<{AUTHOR}>".encode())
    assert trace_removed(copy.octets) == octets
    front.receipts(message_id, "submitted")


def test_private_mail_passes_untouched_and_is_forgotten(front: Front) -> None:
    octets, message_id = letter("colleague@mof.gov.example", subject="lunch at noon?")
    assert front.accept(octets, "colleague@mof.gov.example") == ""
    (copy,) = front.arrived(MOF, message_id)
    assert trace_removed(copy.octets) == octets
    front.quiet()
    assert front.letters(message_id) == []
    assert "lunch at" not in front.wasl.log() and "colleague@" not in front.wasl.log()


def test_bcc_is_stripped_and_its_row_is_hidden(front: Front) -> None:
    octets, message_id = letter(more={"Bcc": "hidden@moj.gov.example, quiet@moh.gov.example"})
    people = (DIWAN, "hidden@moj.gov.example", "quiet@moh.gov.example")
    with front.signed_in(AUTHOR, PASSWORD) as smtp:
        assert transaction(smtp, octets, *people, sender=AUTHOR)[0] == 250
    copies = front.arrived(MOH, message_id, 2) + front.arrived(MOJ, message_id)
    for copy in copies:
        assert b"\nBcc:" not in copy.octets and b"hidden@" not in copy.octets
        assert b"quiet@" not in copy.octets and len(copy.recipients) == 1
    assert {to: bool(d.bcc) for to, d in front.deliveries(message_id).items()} == {
        DIWAN: False,
        "hidden@moj.gov.example": True,
        "quiet@moh.gov.example": True,
    }
    assert b"Bcc: hidden@moj" in front.original(front.letter(message_id).id)


def test_a_mailbox_that_redirects_is_no_new_letter(front: Front, sent: tuple[str, str]) -> None:
    """B's server sends the copy on to C with our return address as the sender, as redirections do."""
    message_id, back = sent
    (copy,) = front.arrived(MOH, message_id)
    assert front.accept(copy.octets, "legal@moj.gov.example", sender=back, agency=MOH) == ""
    (moved,) = front.arrived(MOJ, message_id)
    assert return_address(moved) == back  # what becomes of it is reported for the first copy
    assert header(moved.octets, "Wasl-Letter") == header(copy.octets, "Wasl-Letter")
    assert body(moved.octets) == body(copy.octets)
    assert front.signatures(moved.octets) == front.signatures(copy.octets) == ["ed25519-sha256", "rsa-sha256"]
    front.quiet()
    assert len(front.letters(message_id)) == 1
    front.receipts(message_id, "submitted")

    # C redirects to B: it has had the letter, and so the circle ends.
    code, text = front.send(moved.octets, DIWAN, sender=back, agency=MOJ)
    assert (code, text.split()[0]) == (554, "5.4.6")
    # So does one whose sender was changed on the way, to whomever it goes.
    code, text = front.send(moved.octets, "new@moh.gov.example", sender="x@moj.gov.example", agency=MOJ)
    assert code in (550, 554)


def test_a_list_hands_a_letter_on(front: Front) -> None:
    """An agency's list puts its own address as the sender, and keeps the author's in From."""
    octets, message_id = letter()
    everybody, bounces = f"everybody@{FORWARDS.domain}", f"everybody-bounces@{FORWARDS.domain}"
    front.accept(octets, everybody)
    (copy,) = front.arrived(FORWARDS, message_id)
    assert front.accept(copy.octets, "member@moj.gov.example", sender=bounces, agency=FORWARDS) == ""
    (member,) = front.arrived(MOJ, message_id)
    assert body(member.octets) == body(copy.octets)
    assert header(member.octets, "Wasl-Letter") == header(copy.octets, "Wasl-Letter")
    front.quiet()
    assert [row.kind for row in front.letters(message_id) if row.number] == ["letter"]
    told = [(row.event, row.detail) for row in front.evidence(message_id) if row.event == "forwarded"]
    assert [(event, detail["by"], detail["to"]) for event, detail in told] == [("forwarded", "FWD", ["MOJ"])]

    # A list at the next one that has the first list among its members: the circle ends there.
    code, text = front.send(member.octets, everybody, sender=bounces, agency=FORWARDS)
    assert (code, text.split()[0]) == (554, "5.4.6")


def test_what_only_passes_may_come_again_but_not_for_ever(front: Front) -> None:
    """Of mail inside an agency nothing is kept; a mailbox there may send it on to another agency."""
    octets, message_id = letter(f"x@{FORWARDS.domain}", author=f"a@{FORWARDS.domain}")
    ends = [f"x{i}@{FORWARDS.domain}" for i in range(9)]
    for passed, to in enumerate(ends):
        code, text = front.send(octets, to, sender=f"a@{FORWARDS.domain}", agency=FORWARDS)
        if code != 250:
            break
        octets = front.arrived(FORWARDS, message_id, passed + 1)[-1].octets
    assert (passed, code, text.split()[0]) == (5, 554, "5.4.6")


def test_a_letter_that_has_been_everywhere_ends(front: Front) -> None:
    octets, message_id = letter()
    trace = b"".join(b"Received: from a by b%d; Sun, 22 Nov 2026 10:00:00 +0300\r\n" % i for i in range(51))
    code, text = front.send(trace + octets, DIWAN)
    assert (code, text.split()[0]) == (554, "5.4.6")
    assert front.letter(message_id).kind == "refused"


def test_mail_to_the_outside_takes_the_agencys_own_way(front: Front) -> None:
    octets, message_id = letter(f"x@outside.example, {DIWAN}", author="author@out.gov.example")
    number = front.accept(
        octets, "x@outside.example", DIWAN, sender="author@out.gov.example", agency=OUTBOUND
    )
    (outside,) = front.arrived("OUT:outbound", message_id)
    assert outside.recipients[0].startswith(b"<x@outside.example>")
    assert outside.sender.startswith(b"<author@out.gov.example>")
    assert trace_removed(outside.octets) == octets  # private mail: not tagged, not signed
    (inside,) = front.arrived(MOH, message_id)
    assert header(inside.octets, "Wasl-Letter") == number
    front.quiet()
    front.receipts(message_id, "submitted", at=OUTBOUND)


def test_the_ledger_is_whole_after_all_this(front: Front) -> None:
    front.quiet()
    front.verify()
    log = front.wasl.log()
    assert "Traceback" not in log and "unforeseen" not in log, log
