"""The sample mailboxes on the agencies' own servers, over IMAP with TLS and the password (RFC 3501).

Reading is read-only (EXAMINE and BODY.PEEK): looking changes nothing. How it fails: ``imaplib.IMAP4.error``,
OSError.
"""

from __future__ import annotations

import imaplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.demo.agencies import FOLDERS, PASSWORD, REGISTRY, Agency
from gateway.imap_watch_words import encode_name


@contextmanager
def opened(agency: Agency, address: str) -> Iterator[imaplib.IMAP4]:
    """A session of the owner's."""
    context = ssl.create_default_context(cafile=str(agency.tls.authority))
    port = agency.dovecot.imaps_port or 0
    with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context, timeout=10) as imap:
        imap.login(address, PASSWORD)
        yield imap


def wire_name(folder: str) -> str:
    """A folder's name as a command names it."""
    return f'"{encode_name(folder)}"'


def lay_out(agencies: list[Agency]) -> None:
    """Make the folders of the registry whose mailbox is watched, as it would in its own mail client."""
    agency = next(a for a in agencies if REGISTRY.endswith(f"@{a.sample.domain}"))
    with opened(agency, REGISTRY) as imap:
        for folder in FOLDERS:
            if folder != "INBOX":
                imap.create(wire_name(folder))
                imap.subscribe(wire_name(folder))


def messages(agency: Agency, address: str) -> list[bytes]:
    """Every message in the mailbox of ``address``, folder by folder in the order of arrival."""
    out: list[bytes] = []
    with opened(agency, address) as imap:
        for folder in FOLDERS if address == REGISTRY else ("INBOX",):
            imap.select(wire_name(folder), readonly=True)
            _, numbers = imap.search(None, "ALL")
            wanted = numbers[0].decode().replace(" ", ",")
            found = imap.fetch(wanted, "(BODY.PEEK[])")[1] if wanted else []
            out += [part[1] for part in found if isinstance(part, tuple)]
    return out


def all_mail(agencies: list[Agency]) -> dict[str, list[bytes]]:
    """Address to messages, for everybody."""
    return {
        person.address: messages(agency, person.address)
        for agency in agencies
        for person in agency.sample.people
    }
