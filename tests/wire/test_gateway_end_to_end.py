"""The whole gateway over the wire: one letter from the door to the last receipt, and the edges of DESIGN §11.

One gateway for the module with scripted sinks behind it (:mod:`tests.wire.gateway_front`); tests that stop,
change or double a gateway, or want real servers behind it, start their own in test_gateway_running.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.certificates import Authority
from tests.servers.dovecot import PASSWORD, Dovecot
from tests.servers.sink import DROP, smtp_sink
from tests.wire.gateway_front import (
    FORWARDS,
    MOF,
    MOH,
    MOJ,
    SHADOW,
    STRANGER,
    Agency,
    Front,
    body,
    gateway_front,
    header,
    letter,
    new_id,
    report,
    return_address,
    transaction,
)

pytestmark = pytest.mark.servers

AUTHOR = "author@mof.gov.example"
DIWAN = "diwan@moh.gov.example"
SENT, DELIVERED = ("sent", 2, "open"), ("sent", 3, "open")
# A mail server of old: what it does not offer is not sent to it.
OLD = Agency(code="OLD", domain="old.gov.example")
BOX = Agency(code="BOX", domain="box.gov.example")  # LMTP
TERSE = Agency(
    code="TRS",
    domain="terse.gov.example",
    bind="127.0.0.26",
    more="receipts: {accepted: false, delivered: false, relayed: true}\n",
)


@pytest.fixture(scope="module")
def front(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, dovecot_server: Dovecot
) -> Iterator[Front]:
    root: Path = tmp_path_factory.mktemp("front")
    with (
        smtp_sink(keywords=("ENHANCEDSTATUSCODES",)) as old,
        smtp_sink(lmtp=True) as box,
        gateway_front(
            root,
            authority,
            people=dovecot_server,
            agencies=(MOF, MOH, MOJ, SHADOW, FORWARDS, OLD, BOX, TERSE),
            sinks={"OLD": old, "BOX": box},
            sections={"relay": {"retry": ["1s"], "warn_after": "4s", "give_up_after": "9s"}},
        ) as running,
    ):
        yield running


# One letter, both databases.


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


# Repeats and parts (promise 1).


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


# What comes back.


@pytest.fixture
def sent(front: Front) -> tuple[str, str]:
    """A letter that is at MOH's server: its Message-ID and the return address of the copy."""
    octets, message_id = letter()
    front.accept(octets, DIWAN)
    back = return_address(front.arrived(MOH, message_id)[0])
    front.wait_standing(message_id, DIWAN, *SENT)
    return message_id, back


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


# Receipts and their limits.


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


# Shadow mode, private mail, Bcc.


def trace_removed(octets: bytes) -> bytes:
    """Without what every server that handles mail must add (RFC 5321 §4.4), and our mark against loops."""
    while octets[:9] == b"Received:" or octets[:14] == b"Wasl-Instance:":
        _, _, octets = octets.partition(b"\r\n")
        while octets[:1] in (b" ", b"\t"):
            _, _, octets = octets.partition(b"\r\n")
    return octets


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
    octets, message_id = letter("colleague@mof.gov.example", subject="lunch")
    assert front.accept(octets, "colleague@mof.gov.example") == ""
    (copy,) = front.arrived(MOF, message_id)
    assert trace_removed(copy.octets) == octets
    front.quiet()
    assert front.letters(message_id) == []
    assert "lunch" not in front.wasl.log() and "colleague@" not in front.wasl.log()


def test_bcc_is_stripped_and_its_row_is_hidden(front: Front) -> None:
    octets, message_id = letter(more={"Bcc": "hidden@moj.gov.example, quiet@moh.gov.example"})
    people = (DIWAN, "hidden@moj.gov.example", "quiet@moh.gov.example")
    with front.signed_in(AUTHOR, PASSWORD) as smtp:
        assert transaction(smtp, octets, *people, sender=AUTHOR)[0] == 250
    copies = front.arrived(MOH, message_id, 2) + front.arrived(MOJ, message_id)
    for copy in copies:
        assert b"Bcc" not in copy.octets and b"hidden@" not in copy.octets
        assert b"quiet@" not in copy.octets and len(copy.recipients) == 1
    assert {to: bool(d.bcc) for to, d in front.deliveries(message_id).items()} == {
        DIWAN: False,
        "hidden@moj.gov.example": True,
        "quiet@moh.gov.example": True,
    }
    assert b"Bcc: hidden@moj" in front.original(front.letter(message_id).id)


# Octets.


def _long_line() -> bytes:
    return b"x" * 998 + b"\r\n"


SMIME = (
    b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n"
    b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=smime.p7m\r\n",
    b"MIAGCSqGSIb3DQEHA6CAMIACAQAxggFAMIIBPAIBADAkMBYxFDASBgNVBAMTC0NhcmxSU0FT\r\n",
)
PGP = (
    b'Content-Type: multipart/signed; micalg=pgp-sha256; protocol="application/pgp-signature"; '
    b"boundary=b\r\n",
    b"--b\r\nContent-Type: text/plain\r\n\r\nsigned  \r\n\ttext \r\n\r\n--b\r\n"
    b"Content-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\nx\r\n--b--\r\n",
)
BODIES: dict[str, tuple[bytes, bytes]] = {
    "smime": SMIME,
    "pgp": PGP,
    "8bit": (
        b"Content-Type: text/plain; charset=windows-1256\r\nContent-Transfer-Encoding: 8bit\r\n",
        "كتاب رسمي\r\n".encode("cp1256"),
    ),
    "utf8": (b"Content-Type: text/plain; charset=utf-8\r\n", "كتاب رسمي\r\n".encode()),
    "998": (b"", _long_line() * 3),
    "dots": (b"", b".\r\n..\r\n...x\r\n.\r\n"),
    "blank-lines": (b"", b"\r\n\r\nx\r\n\r\n\r\n"),
    "trailing-spaces": (b"", b"x  \r\n\t\r\n \r\n"),
    "from-lines": (b"", b"From the beginning\r\n>From\r\n"),
    "empty": (b"", b""),
}


@pytest.mark.parametrize("name", BODIES)
def test_body_octets_arrive_identical(front: Front, name: str) -> None:
    fields, text = BODIES[name]
    message_id = new_id()
    head = f"From: {AUTHOR}\r\nTo: {DIWAN}\r\nSubject: octets {name}\r\nMessage-ID: {message_id}\r\n"
    octets = head.encode() + fields + b"\r\n" + text
    params = "" if text.isascii() else "BODY=8BITMIME"
    front.accept(octets, DIWAN, params=params)
    (copy,) = front.arrived(MOH, message_id)
    assert body(copy.octets) == text
    assert front.original(front.letter(message_id).id) == octets
    for field in fields.splitlines():
        assert field in copy.octets


def test_what_has_no_final_newline_gets_the_one_that_data_cannot_leave_out(front: Front) -> None:
    octets = f"From: {AUTHOR}\r\nSubject: x\r\nMessage-ID: {(message_id := new_id())}\r\n\r\nno end".encode()
    with front.session(MOF) as smtp:
        for verb in (f"MAIL FROM:<{AUTHOR}>", f"RCPT TO:<{DIWAN}>"):
            assert smtp.docmd(verb)[0] == 250
        assert smtp.sock is not None
        smtp.sock.sendall(b"BDAT %d\r\n%s" % (50, octets[:50]))
        assert smtp.getreply()[0] == 250
        smtp.sock.sendall(b"BDAT %d LAST\r\n%s" % (len(octets) - 50, octets[50:]))
        assert smtp.getreply()[0] == 250
    (copy,) = front.arrived(MOH, message_id)
    assert body(copy.octets) == b"no end\r\n"
    assert front.original(front.letter(message_id).id) == octets


def test_smtputf8_goes_through_with_its_addresses(front: Front) -> None:
    message_id = new_id()
    octets = (
        f"From: كاتب <كاتب@mof.gov.example>\r\nTo: ديوان@moh.gov.example\r\nSubject: موضوع بلا ترميز\r\n"
        f"Message-ID: {message_id}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nنص\r\n"
    ).encode()
    front.accept(
        octets, "ديوان@moh.gov.example", sender="كاتب@mof.gov.example", params="SMTPUTF8 BODY=8BITMIME"
    )
    (copy,) = front.arrived(MOH, message_id)
    assert copy.recipients[0].startswith("<ديوان@moh.gov.example>".encode())
    assert b"SMTPUTF8" in copy.sender
    assert body(copy.octets) == "نص\r\n".encode()
    (receipt,) = front.receipts(message_id, "submitted")
    assert receipt.recipients[0].startswith("<كاتب@mof.gov.example>".encode())


@pytest.mark.parametrize(
    ("recipient", "text", "params", "status"),
    [
        ("a@old.gov.example", "عربي", "BODY=8BITMIME", "5.6.3"),
        ("ا@old.gov.example", "x", "SMTPUTF8", "5.6.7"),
    ],
)
def test_what_the_next_hop_cannot_carry_is_returned(
    front: Front, recipient: str, text: str, params: str, status: str
) -> None:
    octets = (
        f"From: {AUTHOR}\r\nSubject: x\r\nMessage-ID: {(message_id := new_id())}\r\n\r\n{text}\r\n".encode()
    )
    front.accept(octets, recipient, params=params)
    front.wait_standing(message_id, recipient, "failed", 1, "failed")
    failed, _ = front.receipts(message_id, "failed", "submitted")
    assert f"Status: {status}".encode() in failed.octets


def test_requiretls_that_the_next_hop_lacks_is_returned(front: Front) -> None:
    octets, message_id = letter()
    with front.session(MOF) as smtp:
        smtp.starttls(context=front.authority.client())
        smtp.ehlo()
        assert transaction(smtp, octets, DIWAN, params="REQUIRETLS")[0] == 250
    front.wait_standing(message_id, DIWAN, "failed", 1, "failed")
    failed, _ = front.receipts(message_id, "failed", "submitted")
    assert b"Status: 5.7.30" in failed.octets


def test_fields_of_our_names_from_outside_do_not_get_in(front: Front) -> None:
    more = {"Wasl-Letter": "MOF/2020/999999", "Wasl-Verify": "https://evil.example/"}
    octets, message_id = letter(more=more | {"Authentication-Results": "wasl.gov.example; dkim=pass"})
    number = front.accept(octets, DIWAN)
    (copy,) = front.arrived(MOH, message_id)
    assert copy.octets.count(b"\r\nWasl-Letter:") + copy.octets.startswith(b"Wasl-Letter:") == 1
    assert header(copy.octets, "Wasl-Letter") == number
    assert b"evil.example" not in copy.octets and b"dkim=pass" not in copy.octets


def test_the_ledger_is_whole_after_all_this(front: Front) -> None:
    front.quiet()
    front.verify()
    log = front.wasl.log()
    assert "Traceback" not in log and "unforeseen" not in log, log
