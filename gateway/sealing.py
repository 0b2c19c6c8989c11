"""Tag and signature of one letter as a pure function of its octets and an :class:`Order`.

An order holds plain values only, so that it can cross to the signing room (``gateway.signing_room``), a
process of its own that holds the private keys. The same letter, order and second give the same
edit, whichever process makes it; copies that ask for a read receipt at one address, or at none, bear
the same one. A letter that cannot be signed (no From, no usable key) goes unsigned, which is logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.sign import NoFromError, SigningKey, SigningKeyError, signatures
from gateway.tag import Buffer, Edit, Received, Tags, edit_for
from tracker import header_writer
from tracker.header import Headers
from tracker.model import Address, Connection, Door, TlsInfo, now_us

_log = logging.getLogger("wasl.relay")

_LOOK_AGAIN_S = 2.0  # how often a key file is looked at

KeyName = tuple[str, str, str]  # file, domain, selector


class Order(NamedTuple):
    """What is to be put on a letter. ``tagged``: our fields; else only the trace, if there is a door."""

    submission_id: int
    hostname: str
    zone: str
    tagged: bool
    keys: tuple[KeyName, ...]
    at_us: int
    door: str
    peer: str
    helo: str
    tls: str | None
    account: str | None
    smtputf8: bool
    instance: str | None
    number: str | None
    subject_tag: str | None
    classification: str | None
    urgency: str | None
    authentication_results: str
    message_id: str | None
    domain: str = ""  # the gateway's own, under which it seals
    chain: str = ""  # the ARC chain that came in: none, pass or fail
    due_us: int | None = None  # when an answer is due
    notify_to: str = ""  # where a read receipt is asked for
    verify: str | None = None  # where the letter can be checked
    seals: tuple[KeyName, ...] = ()  # the gateway's keys, when an ARC set is due: its first RSA key makes it


class KeyRing:
    """Signing keys by their files, read again when a file changes."""

    def __init__(self) -> None:
        self._keys: dict[KeyName, tuple[float, int, SigningKey | None]] = {}

    def key(self, name: KeyName) -> SigningKey | None:
        """The key, or None (logged once) when its file cannot be used."""
        now = time.monotonic()
        known = self._keys.get(name)
        if known is not None and now - known[0] < _LOOK_AGAIN_S:
            return known[2]
        file, domain, selector = name
        path = Path(file)
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            changed = -1
        if known is not None and known[1] == changed:
            self._keys[name] = now, changed, known[2]
            return known[2]
        key: SigningKey | None = None
        try:
            key = SigningKey.load(path, domain=domain, selector=selector)
        except (OSError, SigningKeyError) as error:
            _log.error("letters of %s go out without the signature %s: %s", domain, selector, error)
        self._keys[name] = now, changed, key
        return key


@lru_cache(maxsize=16)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _path(text: str) -> Address | None:
    local, _, host = text.rpartition("@")
    return Address(local, host) if local else None


def seal(order: Order, view: Buffer, headers: Headers, ring: KeyRing, hashed: Callable[[int], bytes]) -> Edit:
    """The edit that makes the sent form. ``hashed(start)`` is the body's hash from that octet on."""
    edit = edit_for(view, headers, _tags(order, headers))
    keys = [key for name in order.keys if (key := ring.key(name)) is not None]
    try:
        if keys:
            fields = signatures(edit.sent_head(headers), hashed(edit.body_at), keys, at_us=now_us())
            edit = edit.under(fields)
        if order.seals:
            edit = _arc_sealed(order, edit, headers, ring, hashed)
    except NoFromError:
        return edit
    return edit


def _arc_sealed(
    order: Order, edit: Edit, headers: Headers, ring: KeyRing, hashed: Callable[[int], bytes]
) -> Edit:
    """The edit with an ARC set above everything else (RFC 8617 §5.1), by the first RSA key."""
    from gateway.arc_seal import seal_fields

    usable = [key for name in order.seals if (key := ring.key(name)) is not None]
    rsa = next((key for key in usable if key.algorithm == "rsa-sha256"), None)
    if rsa is None:
        return edit
    return edit.under(
        seal_fields(
            edit.sent_head(headers),
            hashed(edit.body_at),
            rsa,
            authserv_id=order.hostname,
            results=order.authentication_results,
            chain=order.chain or "none",
            at_us=now_us(),
        )
    )


def _tags(order: Order, headers: Headers) -> Tags:
    ours = frozenset({order.domain}) if order.domain else frozenset()
    if order.door == Door.SELF:  # a receipt of ours: nothing is put on it but the signature
        return Tags(authserv_id=order.hostname, drop_ours=False, drop_bcc=False)
    zone = _zone(order.zone)
    received = Received(
        hostname=order.hostname,
        connection=Connection(
            door=Door(order.door),
            peer=order.peer,
            helo=order.helo,
            tls=TlsInfo.parse(order.tls) if order.tls else None,
            account=order.account,
        ),
        letter_id=order.submission_id,
        at_us=order.at_us,
        smtputf8=order.smtputf8,
        zone=zone,
    )
    if not order.tagged:
        return Tags(
            authserv_id=order.hostname,
            arc_domains=ours,
            keep_arc=order.chain == "pass",
            received=received,
            instance=order.instance,
            drop_ours=False,
            drop_bcc=False,
        )
    return Tags(
        authserv_id=order.hostname,
        arc_domains=ours,
        keep_arc=order.chain == "pass",
        received=received,
        authentication_results=order.authentication_results,
        number=order.number,
        subject_tag=order.subject_tag,
        classification=order.classification,
        urgency=order.urgency,
        due=header_writer.date(order.due_us, zone) if order.due_us is not None else None,
        verify=order.verify,
        instance=order.instance,
        notify_to=_path(order.notify_to),
        drop_wishes=True,
        # RFC 6409 §8.2, §8.3: what is missing is added here; a later server would break the signature.
        date=None if "date" in headers else header_writer.date(order.at_us, zone),
        message_id=None if "message-id" in headers else order.message_id,
    )
