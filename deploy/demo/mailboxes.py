"""Reading the sample mailboxes as their owners do: over IMAP with TLS and the password (RFC 3501).

Read-only (EXAMINE and BODY.PEEK): looking changes nothing. How it fails: ``imaplib.IMAP4.error``, OSError.
"""

from __future__ import annotations

import imaplib
import ssl

from deploy.demo.agencies import PASSWORD, Agency


def messages(agency: Agency, address: str) -> list[bytes]:
    """Every message in the INBOX of ``address``, in the order of arrival."""
    context = ssl.create_default_context(cafile=str(agency.tls.authority))
    port = agency.dovecot.imaps_port or 0
    with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context, timeout=10) as imap:
        imap.login(address, PASSWORD)
        imap.select("INBOX", readonly=True)
        _, numbers = imap.search(None, "ALL")
        wanted = numbers[0].decode().replace(" ", ",")
        found = imap.fetch(wanted, "(BODY.PEEK[])")[1] if wanted else []
    return [part[1] for part in found if isinstance(part, tuple)]


def all_mail(agencies: list[Agency]) -> dict[str, list[bytes]]:
    """Address to messages, for everybody."""
    return {
        person.address: messages(agency, person.address)
        for agency in agencies
        for person in agency.sample.people
    }
