"""What is sent for a claim: the original octets, the edit of tag and signature, the outward envelope.

A copy for another agency bears our tags, the agency's DKIM signature and a return address that names
its delivery, to which it also asks for a read receipt (DESIGN §9). Pass-through and shadow copies go out
as they came, under a trace field. A receipt is signed by the gateway. A letter is opened once, however
many recipients it has, and edited and signed once for each return address: :class:`_Opened` is shared by
all sendings of one mail transaction. Signing is done in the signing room (:mod:`gateway.signing_room`), or
here while that is closed.

Raises OSError when the octets cannot be read. A letter that cannot be signed (no From) goes unsigned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from gateway.instance import Instance
from gateway.outgoing import OUTWARD, UNASKED, Outgoing, OutRecipient, orcpt_of
from gateway.reverse_path import ReversePath
from gateway.sealing import KeyName, KeyRing, Order, seal
from gateway.sign import body_hash
from gateway.signing_room import RoomClosed, SigningRoom
from gateway.tag import Edit
from policies.directory import Directory, NextHop
from tracker.archive import Octets
from tracker.claims import Claim, Parcel
from tracker.header import scan
from tracker.model import NULL_PATH, Address, DeliveryKind
from tracker.object_store import ObjectStore

_BY_VALUE = 32_768  # octets: a smaller letter goes to the signing room as it is, a larger one by its file
_MOST_BY_VALUE = 1 << 20  # the same where there is no file (an archive on S3)


class _Opened:
    """The octets of one mail transaction while any of its deliveries is being sent."""

    def __init__(self, octets: Octets, ours: bool) -> None:
        self.octets = octets
        self._ours = ours
        self.view = octets.view()
        self.edits: dict[Order, asyncio.Future[Edit]] = {}  # one for each return address
        self._hashes: dict[int, bytes] = {}

    def hashed(self, start: int) -> bytes:
        """The hash of the body from ``start``, for whom no room remembers it."""
        known = self._hashes.get(start)
        if known is None:
            known = self._hashes[start] = body_hash(self.view, start)
        return known

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the gateway calls itself on what it sends."""

    hostname: str
    zone: str
    domain: str = ""
    own_keys: tuple[KeyName, ...] = ()  # file, domain, selector: for receipts and ARC sets
    seal: bool = True  # put ARC sets on letters that came authenticated
    verify: Callable[[str], str] | None = None  # where the letter of a number can be checked


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
        room: SigningRoom,
    ) -> None:
        self._room = room
        self._identity = identity
        self._archive = archive
        self._directory = directory
        self._reverse_path = reverse_path
        self._instance = instance
        self._executor = executor
        self._ring = KeyRing()  # for when the signing room is closed
        self._open: WeakValueDictionary[int, _Opened] = WeakValueDictionary()
        self._coming: dict[int, asyncio.Future[_Opened]] = {}  # asked of the archive
        self._loop = asyncio.get_running_loop()

    async def compose(self, batch: list[Claim], hop: NextHop) -> Sending:
        """The transaction for claims of one mail transaction; raises OSError."""
        parcel = batch[0].parcel
        opened = self._open.get(parcel.submission_id)
        if opened is None:
            if parcel.octets is not None:
                opened = _Opened(parcel.octets, ours=False)
            else:
                opened = await self._fetched(parcel)
            opened = self._open.setdefault(parcel.submission_id, opened)
        tagged = batch[0].tag
        outward = _outward(batch)
        sender = self._sender(batch)
        asks = tagged and not sender.is_null and not any(o.get(UNASKED) for o in outward)
        order = self._order(batch, str(sender) if asks else "")
        edit = await self._edit(order, opened, parcel.archive_key)
        return Sending(
            outgoing=Outgoing(
                sender=sender,
                recipients=tuple([_recipient(c) for c in batch]),
                ret="HDRS" if tagged else parcel.ret,
                envid=parcel.wire_id if tagged else parcel.envid,
                smtputf8=parcel.smtputf8 or any(not c.recipient.ascii for c in batch),
                requiretls=parcel.requiretls or any(o.get("requiretls") for o in outward),
                require_tls=any(c.require_tls for c in batch),
                eightbit=parcel.body != "7BIT",
                pieces=edit.pieces(opened.view),
                paired=edit.untouched(opened.octets.size) if opened.octets.paired else 0,
            ),
            edit=edit.to_json(),
            opened=opened,
        )

    async def _fetched(self, parcel: Parcel) -> _Opened:
        """The letter from the archive: once, however many of its deliveries ask at the same time."""
        number = parcel.submission_id
        coming = self._coming.get(number)
        if coming is None:
            coming = self._loop.run_in_executor(self._executor, self._fetch, parcel)
            self._coming[number] = coming
            coming.add_done_callback(lambda _: self._coming.pop(number, None))
        return await asyncio.shield(coming)  # who is cancelled takes it from nobody else

    def _fetch(self, parcel: Parcel) -> _Opened:
        return _Opened(self._archive.open(parcel.archive_key), ours=True)

    async def _edit(self, order: Order, opened: _Opened, key: str) -> Edit:
        """The edit of this letter, made once however many copies bear it."""
        made = opened.edits.get(order)
        if made is None:
            made = opened.edits[order] = self._loop.create_future()
            try:
                made.set_result(await self._made(order, opened, key))
            except BaseException as error:
                del opened.edits[order]
                if isinstance(error, Exception):
                    made.set_exception(error)
                    made.exception()  # others may wait for it; nobody need
                else:
                    made.cancel()
                raise
        return await made

    async def _made(self, order: Order, opened: _Opened, key: str) -> Edit:
        octets = opened.octets
        if order.keys or order.seals:
            # The room reads a larger letter from its file: it has been stored before anything is sent.
            path = None if octets.size <= _BY_VALUE else octets.path or self._archive.path_of(key)
            whole = bytes(opened.view) if path is None and octets.size <= _MOST_BY_VALUE else None
            if whole is not None or path is not None:
                try:
                    return await self._room.seal(order, whole, str(path) if path is not None else None)
                except RoomClosed:
                    pass
            return await self._loop.run_in_executor(self._executor, self._sealed_here, order, opened)
        return self._sealed_here(order, opened)

    def _sealed_here(self, order: Order, opened: _Opened) -> Edit:
        return seal(order, opened.view, scan(opened.view), self._ring, opened.hashed)

    def _order(self, batch: list[Claim], notify_to: str) -> Order:
        parcel, claim = batch[0].parcel, batch[0]
        tagged = claim.tag
        keys: tuple[KeyName, ...] = ()
        if claim.kind is DeliveryKind.RECEIPT:
            keys = self._identity.own_keys
        elif tagged and claim.sign:
            keys = self._keys_of(parcel)
        number = parcel.number
        results = parcel.facts.get("results")
        chain, seals = self._chain(results, tagged, bool(keys)) if results else ("", ())
        return Order(
            submission_id=parcel.submission_id,
            hostname=self._identity.hostname,
            zone=self._identity.zone,
            tagged=tagged,
            keys=keys,
            at_us=parcel.at_us,
            door=parcel.door.value,
            peer=parcel.peer,
            helo=parcel.helo,
            tls=parcel.tls,
            account=parcel.account,
            smtputf8=parcel.smtputf8,
            instance=self._instance.value(parcel.letter_id),
            number=number,
            subject_tag=_subject_tag(number, batch) if number and claim.subject_tag else None,
            classification=parcel.classification or None,
            urgency=parcel.urgency or None,
            authentication_results=parcel.facts.get("authentication_results") or "none",
            message_id=parcel.message_id,
            domain=self._identity.domain,
            chain=chain,
            notify_to=notify_to,
            seals=seals,
            due_us=parcel.letter_due_us,
            verify=self._identity.verify(number) if tagged and number and self._identity.verify else None,
        )

    def _chain(self, results: Any, tagged: bool, signed: bool) -> tuple[str, tuple[KeyName, ...]]:
        """The ARC chain that came in, and the keys of a set of ours when this copy is to bear one.

        Sealed is what we alter and what came with something to attest: a signature, a chain, or results
        of a sender that is not the author's agency. A chain that no name server let us judge is left alone.
        """
        found = {str(pair[0]): str(pair[1]) for pair in results}
        chain = found.get("arc", "none")
        came_signed = chain != "none" or found.get("dkim", "none") != "none"
        due = self._identity.seal and tagged and (came_signed or not signed) and chain != "temperror"
        return chain, self._identity.own_keys if due else ()

    def _sender(self, batch: list[Claim]) -> Address:
        parcel = batch[0].parcel
        if batch[0].kind is DeliveryKind.RECEIPT:
            return NULL_PATH
        if not batch[0].tag or parcel.sender.is_null:
            return parcel.sender  # nothing may come back for what has no return address
        if len(batch) == 1:
            return self._reverse_path.address_for(batch[0].delivery_id)
        return self._reverse_path.for_letter_hop(parcel.letter_id, batch[0].hop)

    def _keys_of(self, parcel: Parcel) -> tuple[KeyName, ...]:
        """The keys of the From domain, if the agency that submitted the letter owns that domain."""
        agency = self._directory().agency(parcel.agency) if parcel.agency else None
        _, _, domain = parcel.author.rpartition("@")
        if agency is None or not domain:
            return ()
        found = agency.dkim_for(domain.lower())
        return tuple([(str(key.key_file), key.domain, key.selector) for key in found])


def _outward(batch: list[Claim]) -> list[dict[str, Any]]:
    """What policy wants of each recipient's copy beside what stands in the claim; nearly always nothing."""
    outward = batch[0].parcel.facts.get(OUTWARD)
    return [outward.get(c.recipient.key) or {} for c in batch] if outward else []


def _subject_tag(number: str, batch: list[Claim]) -> str:
    """The tag in the shape that policy gives all these recipients, else in the usual one."""
    shapes = {one.get("subject") for one in _outward(batch)}
    shape = shapes.pop() if len(shapes) == 1 else None
    return (shape or "[{number}]").replace("{number}", number)


def _recipient(claim: Claim) -> OutRecipient:
    if claim.tag:
        # Outward Wasl always asks for its own reports (EVIDENCE); the author's wish stays in the record.
        return OutRecipient(
            address=claim.recipient,
            notify="SUCCESS,FAILURE,DELAY",
            orcpt=claim.orcpt or orcpt_of(claim.recipient),
        )
    if claim.kind is DeliveryKind.RECEIPT:
        return OutRecipient(address=claim.recipient, notify="NEVER")
    return OutRecipient(address=claim.recipient, notify=claim.notify, orcpt=claim.orcpt)
