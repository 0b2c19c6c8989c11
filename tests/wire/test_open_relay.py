"""The open-relay matrix: who may hand in what for whom, on every door, with every trick of addresses.

Every cell is asked over the wire in session. At the end nothing of what was refused has left the gateway.
"""

from __future__ import annotations

import re
import smtplib

import pytest

from tests.servers.dovecot import PASSWORD
from tests.wire.gateway_front import (
    FORWARDS,
    IDN,
    MOF,
    RELAY_PASSWORD,
    STRANGER,
    Front,
    raw_session,
    transaction,
)
from tests.wire.wire_letters import letter

pytestmark = pytest.mark.servers

OWN = "author@mof.gov.example"
# Recipients, and the answer to an agency that may send. 250: taken, in its own network or another agency.
RECIPIENTS = {
    "colleague@mof.gov.example": "250",
    "diwan@moh.gov.example": "250",
    "Diwan@MOH.GOV.Example": "250",
    "diwan+inbox@moh.gov.example": "250",
    '"any one"@moh.gov.example': "250",
    # Who takes a percent sign or a quoted address for a route is the agency's own server, not the gateway.
    "x%outside.example@moh.gov.example": "250",
    '"x@outside.example"@moh.gov.example': "250",
    "outside.example!x@moh.gov.example": "250",
    f"diwan@{IDN.domain.encode('idna').decode()}": "250",
    "somebody@outside.example": "550 5.1.2",
    "diwan@sub.moh.gov.example": "550 5.1.2",
    "diwan@xmoh.gov.example": "550 5.1.2",
    "diwan@moh.gov.example.outside.example": "550 5.1.2",
    "x%moh.gov.example@outside.example": "550 5.1.2",
    "diwan@moi.gov.example": "550 5.4.4",
    "@moh.gov.example:x@outside.example": "553 5.1.3",
    "@outside.example:diwan@moh.gov.example": "553 5.1.3",
    "diwan@moh.gov.example.": "553 5.1.3",
    "diwan@@moh.gov.example": "553 5.1.3",
    "x@outside.example@moh.gov.example": "553 5.1.3",
    "diwan@moh.gov.example>outside": "501 5.5.4",
    "diwan": "553 5.1.3",
    "x@[127.0.0.1]": "5",
    "x@127.0.0.1": "5",
    "diwan@ｍoh.gov.example": "553 5.6.7",
    "diwan@mоh.gov.example": "553 5.6.7",
    "nobody@wasl.gov.example": "550 5.1.1",
    "wasl-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@wasl.gov.example": "550 5.1.1",
    "postmaster": "550 5.1.1",
}
# Senders that are not the agency's own, and how each is answered on the relay port and by submission.
FOREIGN = {
    "diwan@moh.gov.example": ("550 5.7.1", "553 5.7.1"),
    "author@sub.mof.gov.example": ("550 5.7.1", "553 5.7.1"),
    "author%mof.gov.example@outside.example": ("550 5.7.1", "553 5.7.1"),
    "somebody@outside.example": ("550 5.7.1", "553 5.7.1"),
    "postmaster@wasl.gov.example": ("550 5.7.1", "553 5.7.1"),
    "wasl-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@wasl.gov.example": ("550 5.7.1", "553 5.7.1"),
    "@mof.gov.example:x@outside.example": ("553 5.1.7", "553 5.1.7"),
}


@pytest.fixture
def return_of(sent: tuple[str, str]) -> str:
    """A genuine return address, as a copy at MOH bears it."""
    return sent[1]


def asked(smtp: smtplib.SMTP, sender: str, recipient: str, params: str = "") -> str:
    """Code and status of the answer to RCPT, or to MAIL when that is refused."""
    code, text = smtp.docmd("MAIL", f"FROM:<{sender}> {params}".rstrip())
    if code == 250:
        code, text = smtp.docmd("RCPT", f"TO:<{recipient}>")
    smtp.docmd("RSET")
    return f"{code} {text.decode().split()[0]}"


def matrix(front: Front, smtp: smtplib.SMTP, *senders: str) -> list[str]:
    """Ask for every recipient from each sender; the cells that are wrong."""
    wrong = []
    for sender in senders:
        for recipient, wanted in RECIPIENTS.items():
            answer = asked(smtp, sender, recipient)
            if not answer.startswith(wanted):
                wrong.append(f"{sender} to {recipient}: {answer}, not {wanted}")
    return wrong


def test_an_agencys_network_reaches_agencies_and_nobody_else(front: Front, return_of: str) -> None:
    with front.session(MOF) as smtp:
        # Null, as reports are; a mailbox that redirects what came from here.
        assert matrix(front, smtp, OWN, "Author@MOF.gov.example", "", return_of) == []


def test_an_agencys_network_sends_as_itself_only(front: Front) -> None:
    with front.session(MOF) as smtp:
        for sender, (wanted, _) in FOREIGN.items():
            for recipient in ("diwan@moh.gov.example", "x@outside.example", "colleague@mof.gov.example"):
                assert asked(smtp, sender, recipient).startswith(wanted), sender


def test_a_strangers_network_sends_nothing(front: Front, return_of: str) -> None:
    with front.session(STRANGER) as smtp:
        for sender in (OWN, "", return_of, *FOREIGN):
            for recipient, wanted in RECIPIENTS.items():
                answer = asked(smtp, sender, recipient)
                assert answer[0] == "5", f"{sender} to {recipient}: {answer}"
                if wanted == "250":
                    assert answer in ("550 5.7.1", "553 5.1.7")
        # A report may come from anywhere: its address cannot be guessed, and what it proves is not asked.
        assert asked(smtp, "", return_of) == "250 2.1.5"


def test_a_credential_proves_an_agency_on_the_relay_port(front: Front) -> None:
    """From a stranger's network, and only over TLS; then it is that agency and no other."""
    with front.session(STRANGER) as smtp:
        assert "auth" not in smtp.esmtp_features
        smtp.starttls(context=front.authority.client())
        smtp.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("mof-relay", "another password")
        smtp.login("mof-relay", RELAY_PASSWORD)
        assert matrix(front, smtp, OWN, "") == []
        for sender, (wanted, _) in FOREIGN.items():
            assert asked(smtp, sender, "diwan@moh.gov.example").startswith(wanted), sender


def test_submission_needs_tls_and_a_password(front: Front) -> None:
    with smtplib.SMTP("127.0.0.1", front.wasl.submission, timeout=30) as smtp:
        smtp.ehlo("desk.example")
        assert "auth" not in smtp.esmtp_features
        assert asked(smtp, OWN, "diwan@moh.gov.example").startswith("530")
        smtp.starttls(context=front.authority.client())
        smtp.ehlo("desk.example")
        assert asked(smtp, OWN, "diwan@moh.gov.example").startswith("530")
    for user, password in (
        (OWN, "wrong"),
        ("diwan@moh.gov.example", PASSWORD),  # an agency that checks no passwords
        ("x@outside.example", PASSWORD),
        ("author", PASSWORD),
    ):
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused, front.signed_in(user, password):
            pass
        assert refused.value.smtp_code == 535


def test_who_signed_in_reaches_agencies_and_nobody_else(front: Front) -> None:
    with front.signed_in(OWN, PASSWORD) as smtp:
        # A null sender is what a client sends a read receipt with.
        assert matrix(front, smtp, OWN, "colleague@mof.gov.example", "") == []


def test_who_signed_in_sends_as_their_agency_only(front: Front, return_of: str) -> None:
    with front.signed_in(OWN, PASSWORD) as smtp:
        for sender, (_, wanted) in (FOREIGN | {return_of: ("", "553 5.7.1")}).items():
            for recipient in ("diwan@moh.gov.example", "x@outside.example", "colleague@mof.gov.example"):
                assert asked(smtp, sender, recipient).startswith(wanted), sender


def test_implicit_tls_asks_for_the_password_too(front: Front) -> None:
    context = front.authority.client()
    with smtplib.SMTP_SSL("localhost", front.wasl.ports["submissions"], context=context, timeout=30) as smtp:
        smtp.ehlo("desk.example")
        assert asked(smtp, OWN, "diwan@moh.gov.example").startswith("530")
        smtp.login(OWN, PASSWORD)
        assert asked(smtp, OWN, "diwan@moh.gov.example").startswith("250")
        assert asked(smtp, "diwan@moh.gov.example", "diwan@moh.gov.example").startswith("553")


def test_addresses_outside_ascii_are_compared_as_names(front: Front) -> None:
    with front.session(MOF) as smtp:
        for recipient, wanted in {
            "diwan@وزارة.example": "250",
            "ديوان@moh.gov.example": "250",
            "diwan@mоh.gov.example": "550 5.1.2",  # a Cyrillic o
            "diwan@وزاره.example": "550 5.1.2",  # another last letter
        }.items():
            assert asked(smtp, OWN, recipient, "SMTPUTF8").startswith(wanted), recipient
        assert asked(smtp, "author@mоf.gov.example", "diwan@moh.gov.example", "SMTPUTF8") == "550 5.7.1"


def test_the_from_field_is_the_agencys_too(front: Front) -> None:
    forged, message_id = letter(author="diwan@moj.gov.example")
    assert front.send(forged, "diwan@moh.gov.example")[0] == 550
    assert front.letter(message_id).kind == "refused"
    with front.signed_in(OWN, PASSWORD) as smtp:
        for fields in (
            "From: diwan@moj.gov.example",
            "From: x@outside.example",
            "From: author@mof.gov.example, diwan@moj.gov.example",
            "From: author@mof.gov.example\r\nFrom: diwan@moj.gov.example",
            "Subject: no author at all",
        ):
            octets = f"{fields}\r\nTo: diwan@moh.gov.example\r\n\r\nx\r\n".encode()
            code, text = transaction(smtp, octets, "diwan@moh.gov.example", sender=OWN)
            assert (code, text.split()[0]) == (550, "5.7.1"), fields


def test_a_server_that_vouches_may_forward(front: Front) -> None:
    """What a mailbox of FWD redirects keeps its sender, and takes no number."""
    octets, message_id = letter(author="somebody@outside.example")
    assert (
        front.accept(octets, "diwan@moh.gov.example", sender="somebody@outside.example", agency=FORWARDS)
        == ""
    )
    (copy,) = front.arrived("MOH", message_id)
    assert copy.sender.startswith(b"<somebody@outside.example>")
    assert b"DKIM-Signature" not in copy.octets
    with front.session(FORWARDS) as smtp:
        assert asked(smtp, "somebody@outside.example", "x@elsewhere.example") == "550 5.1.2"


def test_pipelined_tricks_open_nothing(front: Front) -> None:
    """A refused MAIL does not leave an older sender in force, nor RSET an older recipient."""
    with raw_session(front.wasl.relay) as sock:
        sock.sendall(
            b"EHLO x\r\nMAIL FROM:<a@mof.gov.example>\r\nRCPT TO:<b@outside.example>\r\nRSET\r\n"
            b"RCPT TO:<b@moh.gov.example>\r\nDATA\r\n"
        )
        said = b""
        while b"503" not in said or said.count(b"503") < 2:
            block = sock.recv(65536)
            assert block, said
            said += block
        assert not re.search(rb"(?m)^354", said)


def test_nothing_refused_has_left(front: Front) -> None:
    """After all of the above: nothing is at any server for whom nobody may send to."""
    front.quiet()
    refused = {to.casefold().encode() for to, wanted in RECIPIENTS.items() if wanted != "250"}
    for code, sink in front.sinks.items():
        reached = {to[1:].partition(b">")[0].lower() for r in sink.received for to in r.recipients}
        assert not reached & refused, code
