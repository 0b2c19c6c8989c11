"""What comes back to the gateway's own addresses: reports, forgeries, absence notices, people's words."""

from __future__ import annotations

import pytest

from tests.wire.gateway_front import MOF, MOH, MOJ, STRANGER, Agency, Front
from tests.wire.wire_letters import body, letter, new_id, report

pytestmark = pytest.mark.servers

AUTHOR = "author@mof.gov.example"
DIWAN = "diwan@moh.gov.example"
SENT = ("sent", 2, "open")
DELIVERED = ("sent", 3, "open")


def test_a_report_raises_the_grade_once(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    octets = report("delivered", DIWAN)
    front.accept(octets, back.upper(), sender="", agency=MOH)
    front.wait_standing(message_id, DIWAN, *DELIVERED)
    before = len(front.evidence(message_id))
    front.accept(octets, back, sender="", agency=MOH)  # a replay
    front.accept(report("relayed", DIWAN), back, sender="", agency=MOH)  # late and lower
    front.quiet()
    assert front.standing(message_id)[DIWAN] == DELIVERED
    assert [e.event for e in front.evidence(message_id)[before:]] == ["relayed"]
    front.receipts(message_id, "submitted", "delivered")


def test_relayed_is_not_delivered(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    front.accept(report("relayed", DIWAN), back, sender="", agency=MOH)
    front.quiet()
    assert front.standing(message_id)[DIWAN] == SENT
    front.receipts(message_id, "submitted")


def test_a_failure_after_the_250_is_told(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    front.accept(report("failed", DIWAN, status="5.2.2"), back, sender="", agency=MOH)
    front.wait_standing(message_id, DIWAN, "failed", 2, "failed")
    failed, _ = front.receipts(message_id, "failed", "submitted")
    assert b"Action: failed" in failed.octets and b"Status: 5.2.2" in failed.octets


@pytest.mark.parametrize("origin", [MOJ, MOF, STRANGER], ids=["another", "the-sender", "a-stranger"])
def test_a_report_from_elsewhere_proves_nothing(
    front: Front, sent: tuple[str, str], origin: Agency | str
) -> None:
    message_id, back = sent
    before = len(front.evidence(message_id))
    front.accept(report("delivered", DIWAN), back, sender="", agency=origin)
    front.quiet()
    assert front.standing(message_id)[DIWAN] == SENT
    assert len(front.evidence(message_id)) == before
    (item,) = front.worklist(front.letter(message_id).id)
    assert (item.kind, item.state) == ("dsn", "open")
    assert "another server" in item.reason


def test_a_bounce_in_words_is_read(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    bounce = (
        f"From: MAILER-DAEMON@mail.moh.gov.example\r\nTo: {back}\r\nSubject: failure notice\r\n"
        f"Message-ID: {new_id()}\r\n\r\nHi. This is the qmail-send program at mail.moh.gov.example.\r\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n"
        f"<{DIWAN}>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n\r\n"
        "--- Below this line is a copy of the message.\r\n\r\n"
    )
    front.accept(bounce.encode(), back, sender="", agency=MOH)
    front.wait_standing(message_id, DIWAN, "failed", 2, "failed")


def test_a_read_receipt_is_read(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    front.accept(report("delivered", DIWAN), back, sender="", agency=MOH)
    mdn = (
        f"From: {DIWAN}\r\nTo: {back}\r\nSubject: Read\r\nMessage-ID: {new_id()}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nread\r\n"
        "--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
        f"Final-Recipient: rfc822; {DIWAN}\r\nOriginal-Message-ID: {message_id}\r\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n"
    )
    front.accept(mdn.encode(), back, sender=DIWAN, agency=MOH)
    front.wait_standing(message_id, DIWAN, "sent", 5, "open")
    front.receipts(message_id, "submitted", "delivered", "read")


def test_an_absence_notice_is_noted_and_forwarded(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    notice = (
        f"From: {DIWAN}\r\nTo: {back}\r\nSubject: out of office\r\nMessage-ID: {(own := new_id())}\r\n"
        f"In-Reply-To: {message_id}\r\nAuto-Submitted: auto-replied\r\n\r\nBack on Sunday.\r\n"
    )
    front.accept(notice.encode(), back, sender="", agency=MOH)
    (copy,) = front.arrived(MOF, own)
    assert copy.recipients[0].startswith(f"<{AUTHOR}>".encode())
    assert body(copy.octets) == b"Back on Sunday.\r\n"
    front.quiet()
    assert front.standing(message_id)[DIWAN] == SENT
    assert front.evidence(message_id)[-1].event == "auto-reply"
    front.receipts(message_id, "submitted")


def test_a_persons_words_go_to_the_author(front: Front, sent: tuple[str, str]) -> None:
    _, back = sent
    octets, own = letter(back, author=DIWAN, subject="رد على كتابكم", text="وصلنا كتابكم.\n")
    front.accept(octets, back, sender=DIWAN, agency=MOH)
    (copy,) = front.arrived(MOF, own)
    assert copy.recipients[0].startswith(f"<{AUTHOR}>".encode())
    assert copy.sender.startswith(f"<{DIWAN}>".encode())
    assert body(copy.octets) == body(octets)


def test_addresses_that_were_not_made_here_are_refused_in_session(
    front: Front, sent: tuple[str, str]
) -> None:
    _, back = sent
    local, _, domain = back.partition("@")
    changed = local[:-1] + ("a" if local[-1] != "a" else "b")
    for recipient in (
        f"{changed}@{domain}",
        f"{local[:-2]}@{domain}",
        f"{local}aa@{domain}",
        f"wasl-@{domain}",
    ):
        code, text = front.send(report("delivered", DIWAN), recipient, sender="", agency=MOH)
        assert (code, text.split()[0]) == (550, "5.1.1"), recipient


def test_who_is_refused_beside_a_return_address_is_told_of(front: Front, sent: tuple[str, str]) -> None:
    _, back = sent
    words, message_id = letter("diwan@moj.gov.example", author=DIWAN, subject="[سري للغاية] x")
    assert not front.accept(words, back, "diwan@moj.gov.example", sender=DIWAN, agency=MOH)
    (told,) = front.receipts(message_id, "refused", at=MOH)
    assert b"Action: failed" in told.octets and b"Status: 5.7.1" in told.octets
    assert "refused" in [row.kind for row in front.letters(message_id)]
