"""A letter from the programs that people send with, through the whole gateway, into a real mailbox.

Each of them by each door: submission with STARTTLS, submission within TLS, and the relay port.
"""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from tests.servers.clients import CLIENTS, Handing, hand_in
from tests.servers.dovecot import PASSWORD, Dovecot
from tests.unit.sample_files import office
from tests.wire.gateway_front import MOF, Front
from tests.wire.wire_letters import as_sent, body, header, new_id

pytestmark = pytest.mark.servers

AUTHOR = "author@mof.gov.example"
_DOCX = "vnd.openxmlformats-officedocument.wordprocessingml.document"
SUBJECT = "كتاب رسمي بشأن مخصصات السنة"


def _letter(recipient: str) -> tuple[bytes, str]:
    """An Arabic letter as 8-bit text with an attachment, and its Message-ID."""
    message = EmailMessage(policy=SMTP)
    message["From"] = AUTHOR
    message["To"] = recipient
    message["Subject"] = SUBJECT
    message["Date"] = "Sun, 22 Nov 2026 10:00:00 +0300"
    message["Message-ID"] = message_id = new_id()
    message.set_content("معالي الوزير،\n\n.\n..نقطتان في أول السطر\nوتفضلوا بالقبول.\n", cte="8bit")
    message.add_attachment(office(), maintype="application", subtype=_DOCX, filename="جدول.docx")
    return message.as_bytes(), message_id


def _doors(front: Front) -> dict[str, dict[str, object]]:
    signed_in = {"ca": front.authority.file, "account": AUTHOR, "password": PASSWORD}
    return {
        "submission": {"port": front.wasl.submission, **signed_in},
        "submissions": {"port": front.wasl.ports["submissions"], "implicit": True, **signed_in},
        "relay": {"port": front.wasl.relay, "source": MOF.bind},
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_a_clients_letter_reaches_the_mailbox_by_every_door(
    front: Front, dovecot_server: Dovecot, tmp_path: Path, client: str
) -> None:
    sent: dict[str, tuple[bytes, str, str]] = {}
    for door, way in _doors(front).items():
        recipient = f"{client}.{door}@mailboxes.gov.example"
        octets, message_id = _letter(recipient)
        letter = Handing(folder=tmp_path, octets=octets, sender=AUTHOR, recipient=recipient, **way)  # type: ignore[arg-type]
        hand_in(client, letter)
        sent[door] = octets, message_id, recipient

    for door, (octets, message_id, recipient) in sent.items():
        (copy,) = map(as_sent, dovecot_server.maildir(recipient).wait())
        assert body(copy) == body(octets), door
        letter = front.letter(message_id)
        assert letter.subject == SUBJECT and letter.number.startswith("MOF/")
        assert header(copy, "Wasl-Letter") == letter.number
        assert header(copy, "Subject").startswith(f"[{letter.number}]")
        assert front.signatures(copy) == ["ed25519-sha256", "rsa-sha256"]
        assert front.original(letter.id) == octets
        (submission,) = front.submissions(letter.id)
        assert submission.door == door.removesuffix("s")
        assert (submission.account, bool(submission.tls)) == (
            (None, False) if door == "relay" else (AUTHOR, True)
        )
        front.wait_standing(message_id, recipient, "sent", 3, "open")
        front.receipts(message_id, "delivered", "submitted")
