"""What is sent for a claim: the original octets, the edit of tag and signature, the outward envelope.

A copy for another agency bears our tags, the agency's DKIM signature and a return address that names
its delivery (DESIGN §9). Pass-through and shadow copies go out as they came, under a trace field. A
receipt is signed by the gateway. The body of a letter is opened, scanned and hashed once, however
many recipients it has: :class:`_Opened` is shared by all sendings of one mail transaction.

Raises OSError when the octets cannot be read. A letter that cannot be signed (no From) goes unsigned.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary
from zoneinfo import ZoneInfo

from gateway.instance import Instance
from gateway.outgoing import Outgoing, OutRecipient
from gateway.reverse_path import ReversePath
from gateway.sign import NoFromError, SigningKey, SigningKeyError, body_hash, signatures
from gateway.tag import Edit, Received, Tags, edit_for
from policies.directory import Directory, NextHop
from tracker import header_writer
from tracker.archive import Octets
from tracker.claims import Claim, Parcel
from tracker.header import Headers, scan
from tracker.model import NULL_PATH, Address, Connection, DeliveryKind, TlsInfo, now_us
from tracker.object_store import ObjectStore

_log = logging.getLogger("wasl.relay")


_SMALL = 65_536  # octets


class _Opened:
    """The octets of one mail transaction while any of its deliveries is being sent."""

    def __init__(self, octets: Octets, ours: bool) -> None:
        self.octets = octets
        self._ours = ours
        self.view = octets.view()
        self.headers: Headers = scan(self.view)
        self._body_hash: bytes | None = None
        self._hashing = threading.Lock()  # the copies of a circular are composed side by side

    @property
    def body_hash(self) -> bytes:
        with self._hashing:
            if self._body_hash is None:
                self._body_hash = body_hash(self.view, self.headers.body_start)
            return self._body_hash

    def __del__(self) -> None:
        if self._ours:
            self.octets.close()


@dataclass(slots=True)
class Sending:
    """One mail transaction outward; ``edit`` is what the record keeps of the difference."""

    outgoing: Outgoing
    edit: dict[str, Any] | None
    opened: _Opened | None

    def close(self) -> None:
        """The octets are no longer needed."""
        self.opened = None


class KeyRing:
    """Signing keys by their files, read again when a file changes."""

    def __init__(self) -> None:
        self._keys: dict[tuple[Path, str, str], tuple[int, SigningKey | None]] = {}

    def key(self, path: Path, domain: str, selector: str) -> SigningKey | None:
        """The key, or None (logged once) when its file cannot be used."""
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            changed = -1
        known = self._keys.get((path, domain, selector))
        if known is not None and known[0] == changed:
            return known[1]
        key: SigningKey | None = None
        try:
            key = SigningKey.load(path, domain=domain, selector=selector)
        except (OSError, SigningKeyError) as error:
            _log.error("letters of %s go out without the signature %s: %s", domain, selector, error)
        self._keys[path, domain, selector] = changed, key
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the gateway calls itself on what it sends."""

    hostname: str
    zone: ZoneInfo
    own_keys: tuple[tuple[Path, str, str], ...] = ()  # file, domain, selector: for receipts


class Composer:
    """Computes what is sent. One per process."""

    def __init__(
        self,
        identity: Identity,
        archive: ObjectStore,
        directory: Callable[[], Directory],
        reverse_path: ReversePath,
        instance: Instance,
        executor: Executor,
    ) -> None:
        self._identity = identity
        self._archive = archive
        self._directory = directory
        self._reverse_path = reverse_path
        self._instance = instance
        self._executor = executor
        self._ring = KeyRing()
        self._open: WeakValueDictionary[int, _Opened] = WeakValueDictionary()
        self._loop = asyncio.get_running_loop()

    async def compose(self, batch: list[Claim], hop: NextHop, alone: bool = False) -> Sending:
        """The transaction for claims of one mail transaction; raises OSError.

        ``alone``: nothing else is being sent, so a small letter is composed here and now.
        """
        parcel = batch[0].parcel
        opened = self._open.get(parcel.submission_id)
        if opened is None:
            if parcel.octets is not None:
                opened = _Opened(parcel.octets, ours=False)
            else:
                opened = await self._loop.run_in_executor(self._executor, self._fetch, parcel)
            opened = self._open.setdefault(parcel.submission_id, opened)
        signed = batch[0].sign or batch[0].kind is DeliveryKind.RECEIPT
        if signed and not (alone and parcel.size <= _SMALL):
            # RSA and the hash of a body let go of the interpreter: a thread makes them cost the loop nothing.
            return await self._loop.run_in_executor(self._executor, self._compose, batch, hop, opened)
        return self._compose(batch, hop, opened)

    def _fetch(self, parcel: Parcel) -> _Opened:
        return _Opened(self._archive.open(parcel.archive_key), ours=True)

    def _compose(self, batch: list[Claim], hop: NextHop, opened: _Opened) -> Sending:
        parcel = batch[0].parcel
        tagged = batch[0].tag
        if tagged:
            edit = self._tagged(batch, opened)
        elif batch[0].kind is DeliveryKind.RECEIPT:
            own = Tags(authserv_id=self._identity.hostname, drop_ours=False, drop_bcc=False)
            bare = edit_for(opened.view, opened.headers, own)
            edit = self._signed(bare, opened, self._own())
        else:
            tags = Tags(
                authserv_id=self._identity.hostname,
                received=self._received(parcel),
                instance=self._instance.value(parcel.letter_id),
                drop_ours=False,
                drop_bcc=False,
            )
            edit = edit_for(opened.view, opened.headers, tags)
        return Sending(
            outgoing=Outgoing(
                sender=self._sender(batch),
                recipients=tuple(_recipient(c) for c in batch),
                ret="HDRS" if tagged else parcel.ret,
                envid=parcel.wire_id if tagged else parcel.envid,
                smtputf8=parcel.smtputf8 or any(not c.recipient.ascii for c in batch),
                requiretls=parcel.requiretls or any(c.require_tls for c in batch),
                eightbit=parcel.body != "7BIT",
                pieces=edit.pieces(opened.view),
            ),
            edit=edit.to_json(),
            opened=opened,
        )

    def _sender(self, batch: list[Claim]) -> Address:
        parcel = batch[0].parcel
        if batch[0].kind is DeliveryKind.RECEIPT:
            return NULL_PATH
        if not batch[0].tag or parcel.sender.is_null:
            return parcel.sender  # nothing may come back for what has no return address
        if len(batch) == 1:
            return self._reverse_path.address_for(batch[0].delivery_id)
        return self._reverse_path.for_letter_hop(parcel.letter_id, batch[0].hop)

    def _tagged(self, batch: list[Claim], opened: _Opened) -> Edit:
        parcel = batch[0].parcel
        tags = Tags(
            authserv_id=self._identity.hostname,
            received=self._received(parcel),
            authentication_results=parcel.facts.get("authentication_results") or "none",
            number=parcel.number,
            subject_tag=f"[{parcel.number}]" if parcel.number and batch[0].subject_tag else None,
            classification=parcel.classification or None,
            urgency=parcel.urgency or None,
            instance=self._instance.value(parcel.letter_id),
            # RFC 6409 §8.2, §8.3: what is missing is added here; a later server would break the signature.
            date=None if "date" in opened.headers else header_writer.date(parcel.at_us, self._identity.zone),
            message_id=None if "message-id" in opened.headers else parcel.message_id,
        )
        edit = edit_for(opened.view, opened.headers, tags)
        return self._signed(edit, opened, self._keys_of(parcel)) if batch[0].sign else edit

    def _signed(self, edit: Edit, opened: _Opened, keys: list[SigningKey]) -> Edit:
        if not keys:
            return edit
        hashed = (
            opened.body_hash
            if edit.body_at == opened.headers.body_start
            else body_hash(opened.view, edit.body_at)
        )
        try:
            return edit.under(signatures(edit.sent_head(opened.headers), hashed, keys, at_us=now_us()))
        except NoFromError:
            return edit

    def _keys_of(self, parcel: Parcel) -> list[SigningKey]:
        """The keys of the From domain, if the agency that submitted the letter owns that domain."""
        agency = self._directory().agency(parcel.agency) if parcel.agency else None
        _, _, domain = parcel.author.rpartition("@")
        if agency is None or not domain:
            return []
        domain = domain.lower()
        found = (self._ring.key(k.key_file, k.domain, k.selector) for k in agency.dkim_for(domain))
        return [key for key in found if key is not None]

    def _own(self) -> list[SigningKey]:
        found = (self._ring.key(*own) for own in self._identity.own_keys)
        return [key for key in found if key is not None]

    def _received(self, parcel: Parcel) -> Received:
        return Received(
            hostname=self._identity.hostname,
            connection=Connection(
                door=parcel.door,
                peer=parcel.peer,
                helo=parcel.helo,
                tls=TlsInfo.parse(parcel.tls) if parcel.tls else None,
                account=parcel.account,
                agency=parcel.agency,
            ),
            letter_id=parcel.submission_id,
            at_us=parcel.at_us,
            smtputf8=parcel.smtputf8,
            zone=self._identity.zone,
        )


def _recipient(claim: Claim) -> OutRecipient:
    if claim.tag:
        # Outward Wasl always asks for its own reports (EVIDENCE); the author's wish stays in the record.
        return OutRecipient(
            address=claim.recipient,
            notify="SUCCESS,FAILURE,DELAY",
            orcpt=claim.orcpt or _orcpt(claim.recipient),
        )
    if claim.kind is DeliveryKind.RECEIPT:
        return OutRecipient(address=claim.recipient, notify="NEVER")
    return OutRecipient(address=claim.recipient, notify=claim.notify, orcpt=claim.orcpt)


def _orcpt(address: Address) -> str | None:
    """``rfc822;`` and the address in xtext (RFC 3461 §4.2, §5); None for one that is not ASCII."""
    text = str(address)
    if not text.isascii():
        return None
    return "rfc822;" + "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)
