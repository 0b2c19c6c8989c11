"""The facts of one mail transaction, computed once, stored with their version, decided upon by rules.

Everything that a rule may ask stands here as a value: who handed the letter in, who claims to have
written it, what each recipient is to us. Rules look at nothing else, so that replaying a policy over
stored facts gives what it would have given then. Nothing here raises on any message: what is odd
or ambiguous is a fact of its own (RFC 5322 §3.6.2, RFC 3834, RFC 8601).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any

from policies.agency import Agency, Forwards, Mode
from policies.attachment_fact import AttachmentFact as AttachmentFact
from policies.author import Author, AuthorKind, believed, vouched
from policies.directory import Directory
from policies.field_facts import asked, marks, reply_by_us
from tracker.automatic import Automatic as Automatic
from tracker.automatic import reasons
from tracker.header import Headers
from tracker.model import Address, Connection, Door, Envelope, Recipient

FACTS_VERSION = 2
_READ_VERSIONS = frozenset({1, 2})  # facts of 1 lack what came with 2: it is at its default


class SenderKind(StrEnum):
    """The envelope sender, seen from the agency that hands the letter in."""

    NULL = "null"
    RETURN = "return"  # one of the gateway's own return addresses: a mailbox that redirects
    GATEWAY = "gateway"  # the gateway's domain, but no address that it made
    OWN = "own"
    AGENCY = "agency"  # another agency's
    OUTSIDE = "outside"


class Place(StrEnum):
    """What a recipient is to the gateway."""

    AGENCY = "agency"
    OUTSIDE = "outside"
    RETURN = "return"  # a genuine return address of the gateway
    POSTMASTER = "postmaster"  # of the gateway's domain
    GATEWAY = "gateway"  # the gateway's domain, but nobody there


class Crypto(StrEnum):
    NONE = "none"
    SMIME = "smime"  # encrypted: policy cannot see into it
    PGP = "pgp"
    SIGNED = "signed"  # S/MIME or PGP signature, content in clear


class Pending(StrEnum):
    """Groups of facts that are not known before the header is."""

    HEADER = "header"
    SUBMITTER = "submitter"  # which of the agencies of a shared network
    VOUCHED = "vouched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The letter that this one answers, as the record knows it. ``due_us``: UTC microseconds."""

    letter_id: int
    number: str = ""
    agency: str = ""
    classification: str = ""
    urgency: str = ""
    due_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientFacts:
    """One recipient. ``redirect`` is where the postmaster's mail goes."""

    recipient: Recipient
    place: Place
    agency: str | None = None
    mode: Mode = Mode.OFF
    connected: bool = False  # its agency has a next hop
    redirect: Address | None = None
    registry: Address | None = None  # registry mailbox of its agency
    registry_routing: bool = False  # its agency wants its letters there


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of one transaction. ``pending`` is empty once the header is here."""

    door: Door
    peer: str
    account: str | None = None
    submitters: tuple[str, ...] = ()  # agencies that the peer may be; several on a shared network
    submitter: str | None = None  # the one that sender and author make it
    submitter_mode: Mode = Mode.OFF
    outbound: bool = False  # the submitter has a way to the outside
    sender: str = ""
    sender_kind: SenderKind = SenderKind.NULL
    sender_agency: str | None = None
    author: str = ""
    author_name: str = ""
    author_kind: AuthorKind = AuthorKind.MISSING
    author_agency: str | None = None
    author_is_account: bool = False
    vouched: bool = False  # the submitter's own server vouches for a sender that is not its own
    recipients: tuple[RecipientFacts, ...] = ()
    size: int = 0
    message_id: str | None = None
    references: tuple[str, ...] = ()
    subject: str = ""
    subject_number: str | None = None  # what looks like a letter number in the subject
    text_numbers: tuple[str, ...] = ()  # those of letters that the first lines refer to
    automatic: frozenset[Automatic] = frozenset()
    content_type: str = "text/plain"
    crypto: Crypto = Crypto.NONE
    header_faults: tuple[str, ...] = ()
    hops: int = 0  # Received fields
    looped: bool = False  # goes in circles through this gateway
    authentication: tuple[str, ...] = ()  # method=result that is believed, such as dmarc=pass
    attachments: tuple[AttachmentFact, ...] = ()
    at_us: int = 0  # when it was taken in, UTC
    reply_by_us: int | None = None  # the author's Reply-By, UTC
    marks: tuple[tuple[str, str], ...] = ()  # raw (source, value) of classification and urgency
    fields: tuple[tuple[str, str], ...] = ()  # (name in lower case, value) of fields that a rule asks for
    answered: Answered | None = None
    results: tuple[tuple[str, str], ...] = ()  # (method, result) of what was checked on the way in
    stripped: tuple[str, ...] = ()  # Wasl- fields of somebody who may not set them
    undecidable: tuple[str, ...] = ()  # why the content as a whole cannot be judged
    before: int = 0  # recipients of the same transaction that were taken before these
    pending: frozenset[Pending] = frozenset()  # what hangs on the header while there is none

    def to_json(self) -> dict[str, Any]:
        """Plain values for the record; what is at its default is left out."""
        out: dict[str, Any] = {"v": FACTS_VERSION, "door": self.door.value, "peer": self.peer}
        for name, value in zip(_PLAIN, _plain_of(self), strict=True):
            if value:
                out[name] = value
        for name, value in zip(_TUPLES, _tuples_of(self), strict=True):
            if value:
                out[name] = list(value)
        for name, value in zip(_PAIRS, _pairs_of(self), strict=True):
            if value:
                out[name] = [list(pair) for pair in value]
        if self.answered is not None:
            out["answered"] = asdict(self.answered)
        out["submitter_mode"] = self.submitter_mode.value
        out["sender_kind"] = self.sender_kind.value
        out["author_kind"] = self.author_kind.value
        if self.crypto is not Crypto.NONE:
            out["crypto"] = self.crypto.value
        if self.automatic:
            out["automatic"] = sorted(self.automatic)
        out["recipients"] = [_recipient_json(r) for r in self.recipients]
        if self.attachments:
            out["attachments"] = [a.to_json() for a in self.attachments]
        return out

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Facts:
        """The reverse of :meth:`to_json`; raises ValueError for another version or a broken record."""
        if data.get("v") not in _READ_VERSIONS:
            raise ValueError(f"facts of version {data.get('v')!r}, this is version {FACTS_VERSION}")
        try:
            rest: dict[str, Any] = {name: data[name] for name in _PLAIN if name in data}
            rest |= {name: tuple(data[name]) for name in _TUPLES if name in data}
            for name in _PAIRS:
                if name in data:
                    rest[name] = tuple([(first, second) for first, second in data[name]])
            if "answered" in data:
                rest["answered"] = Answered(**data["answered"])
            return cls(
                door=Door(data["door"]),
                peer=data["peer"],
                submitter_mode=Mode(data["submitter_mode"]),
                sender_kind=SenderKind(data["sender_kind"]),
                author_kind=AuthorKind(data["author_kind"]),
                crypto=Crypto(data.get("crypto", "none")),
                automatic=frozenset(Automatic(a) for a in data.get("automatic", ())),
                recipients=tuple(_recipient_of(r) for r in data["recipients"]),
                attachments=tuple(AttachmentFact.from_json(a) for a in data.get("attachments", ())),
                **rest,
            )
        except (KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"a broken record of facts: {e!r}") from None


_PLAIN = (
    "account",
    "submitter",
    "outbound",
    "sender",
    "sender_agency",
    "author",
    "author_name",
    "author_agency",
    "author_is_account",
    "vouched",
    "size",
    "message_id",
    "subject",
    "subject_number",
    "content_type",
    "hops",
    "looped",
    "at_us",
    "reply_by_us",
)
_TUPLES = (
    "submitters",
    "references",
    "text_numbers",
    "header_faults",
    "authentication",
    "stripped",
    "undecidable",
)
_PAIRS = ("marks", "fields", "results")
_plain_of, _tuples_of, _pairs_of = attrgetter(*_PLAIN), attrgetter(*_TUPLES), attrgetter(*_PAIRS)


def _recipient_json(r: RecipientFacts) -> dict[str, Any]:
    out: dict[str, Any] = {"to": str(r.recipient.address), "place": r.place.value}
    if r.agency is not None:
        out["agency"] = r.agency
        out["mode"] = r.mode.value
        out["connected"] = r.connected
    if r.redirect is not None:
        out["redirect"] = str(r.redirect)
    if r.registry is not None:
        out["registry"] = str(r.registry)
    if r.registry_routing:
        out["registry_routing"] = True
    if r.recipient.notify is not None:
        out["notify"] = r.recipient.notify
    if r.recipient.orcpt is not None:
        out["orcpt"] = r.recipient.orcpt
    return out


def _recipient_of(data: dict[str, Any]) -> RecipientFacts:
    return RecipientFacts(
        recipient=Recipient(
            address=Address.parse(data["to"]), notify=data.get("notify"), orcpt=data.get("orcpt")
        ),
        place=Place(data["place"]),
        agency=data.get("agency"),
        mode=Mode(data.get("mode", "off")),
        connected=data.get("connected", False),
        redirect=Address.parse(data["redirect"]) if "redirect" in data else None,
        registry=Address.parse(data["registry"]) if "registry" in data else None,
        registry_routing=data.get("registry_routing", False),
    )


def _nobody(address: Address) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the gateway knows beside the letter: the directory in force and its own addresses."""

    directory: Directory
    domain: str  # the gateway's own, lower case
    is_return: Callable[[Address], bool] = _nobody  # a genuine return address
    postmaster: Address | None = None

    def place(self, recipient: Recipient) -> RecipientFacts:
        """What a recipient is to us."""
        host = recipient.address.host
        if host == self.domain:
            if self.is_return(recipient.address):
                return RecipientFacts(recipient=recipient, place=Place.RETURN)
            if self.postmaster is not None and recipient.address.local.lower() == "postmaster":
                home = self.directory.by_domain(self.postmaster.host)
                return replace(_in_agency(recipient, home), place=Place.POSTMASTER, redirect=self.postmaster)
            return RecipientFacts(recipient=recipient, place=Place.GATEWAY)
        agency = self.directory.by_domain(host)
        if agency is None:
            return RecipientFacts(recipient=recipient, place=Place.OUTSIDE)
        return _in_agency(recipient, agency)


def _in_agency(recipient: Recipient, agency: Agency | None) -> RecipientFacts:
    if agency is None:
        return RecipientFacts(recipient=recipient, place=Place.OUTSIDE)
    return RecipientFacts(
        recipient=recipient,
        place=Place.AGENCY,
        agency=agency.code,
        mode=agency.mode,
        connected=agency.next_hop is not None,
        registry=agency.registry,
        registry_routing=agency.registry_routing,
    )


def candidates(conn: Connection, directory: Directory) -> tuple[Agency, ...]:
    """The agencies that the peer of a connection may be: the proven one, else those of its network."""
    if conn.agency is not None:
        agency = directory.agency(conn.agency)
        return (agency,) if agency is not None else ()
    return directory.by_network(conn.peer) if conn.door is Door.RELAY else ()


def of_envelope(
    conn: Connection,
    sender: Address,
    recipients: Sequence[Recipient],
    around: Surroundings,
    at_us: int = 0,
) -> Facts:
    """The facts known at RCPT time, before there is a header."""
    return _compute(conn, sender, recipients, around, None, 0, {"at_us": at_us})


def compute(
    headers: Headers,
    size: int,
    envelope: Envelope,
    conn: Connection,
    around: Surroundings,
    *,
    looped: bool = False,
    attachments: Sequence[AttachmentFact] = (),
    undecidable: Sequence[str] = (),
    needs: Iterable[str] = (),
    answered: Answered | None = None,
    results: Sequence[tuple[str, str]] = (),
    pgp: bool = False,
    at_us: int = 0,
) -> Facts:
    """The facts of a letter whose header was scanned. ``size`` in octets; ``looped``: it goes in circles
    (the caller knows its marks). ``needs`` names header fields, in any case, whose values a rule asks
    for; ``pgp``: an encrypted message stands in the body as text; ``at_us`` is now, UTC. What was found
    out elsewhere, of the content, the letter answered and the checks of authenticity, is given and
    kept as it is."""
    given: dict[str, Any] = {
        "looped": looped,
        "attachments": tuple(attachments),
        "undecidable": tuple(undecidable),
        "fields": asked(headers, needs),
        "answered": answered,
        "results": tuple(results),
        "at_us": at_us,
    }
    facts = _compute(conn, envelope.sender, envelope.recipients, around, headers, size, given)
    return replace(facts, crypto=Crypto.PGP) if pgp and facts.crypto is Crypto.NONE else facts


def _compute(
    conn: Connection,
    sender: Address,
    recipients: Sequence[Recipient],
    around: Surroundings,
    headers: Headers | None,
    size: int,
    fields: dict[str, Any],
) -> Facts:
    directory = around.directory
    possible = candidates(conn, directory)
    owner = None if sender.is_null else directory.by_domain(sender.host)
    author = Author(headers, directory) if headers is not None else None
    agency = _submitter(possible, owner, author)
    code = agency.code if agency is not None else None
    sender_kind = _sender_kind(sender, owner, code, around)
    if headers is not None and author is not None:
        fields |= _header_facts(headers, author, conn, code, sender_kind)
    results = believed(headers, agency) if headers is not None and agency is not None else ()
    pending: set[Pending] = set()
    if headers is None:
        pending.add(Pending.HEADER)
        if len(possible) > 1 and owner not in possible:
            pending |= {Pending.SUBMITTER, Pending.VOUCHED}
        elif agency is not None and agency.forwards is Forwards.AUTHENTICATED and agency.authserv_ids:
            pending.add(Pending.VOUCHED)
    return Facts(
        door=conn.door,
        peer=conn.peer,
        account=conn.account,
        submitters=tuple(a.code for a in possible),
        submitter=code,
        submitter_mode=agency.mode if agency is not None else Mode.OFF,
        outbound=agency is not None and agency.outbound is not None,
        sender=str(sender),
        sender_kind=sender_kind,
        sender_agency=owner.code if owner is not None else None,
        vouched=vouched(agency, results, sender, author),
        recipients=tuple([around.place(r) for r in recipients]),
        size=size,
        authentication=tuple(f"{method}=pass" for method, _ in results),
        pending=frozenset(pending),
        **fields,
    )


def _submitter(possible: tuple[Agency, ...], owner: Agency | None, author: Author | None) -> Agency | None:
    """Which of the agencies that share a network hands this in: the sender's, else the author's."""
    if len(possible) < 2:
        return possible[0] if possible else None
    if owner is not None and owner in possible:
        return owner
    if author is not None and author.agency is not None and author.agency in possible:
        return author.agency
    return possible[0]


def _sender_kind(sender: Address, owner: Agency | None, code: str | None, around: Surroundings) -> SenderKind:
    if sender.is_null:
        return SenderKind.NULL
    if sender.host == around.domain:
        return SenderKind.RETURN if around.is_return(sender) else SenderKind.GATEWAY
    if owner is None:
        return SenderKind.OUTSIDE
    return SenderKind.OWN if owner.code == code else SenderKind.AGENCY


_NUMBER = re.compile(
    r"\[([A-Za-z0-9][A-Za-z0-9/_.\-]{2,58}[0-9])\]"
    r"|رقم[ :]+([A-Za-z0-9][A-Za-z0-9/_.\-]{2,58}[0-9])(?![A-Za-z0-9/_\-])"
)
_UNREADABLE = frozenset({"header too large", "too many fields", "no header", "NUL", "bare CR"})


def _header_facts(
    headers: Headers, author: Author, conn: Connection, code: str | None, sender_kind: SenderKind
) -> dict[str, Any]:
    names = headers._by_name()
    subject = (headers.text("subject") or "")[:1000] if b"subject" in names else ""
    number = _NUMBER.search(subject) if "[" in subject or "رقم" in subject else None
    content_type = _content_type(headers)
    kind = author.kind
    if kind is None:
        if author.agency is None:
            kind = AuthorKind.OUTSIDE
        else:
            kind = AuthorKind.OWN if author.agency.code == code else AuthorKind.AGENCY
    # Only the body that wrote a letter marks it; what an agency forwards for others says nothing.
    said, stripped = marks(headers, subject, kind is AuthorKind.OWN)
    return {
        "marks": said,
        "stripped": stripped,
        "reply_by_us": reply_by_us(headers) if b"reply-by" in names else None,
        "author": author.text,
        "author_name": author.name,
        "author_kind": kind,
        "author_agency": author.agency.code if author.agency is not None else None,
        "author_is_account": bool(
            conn.account and author.address is not None and author.address.key == conn.account.casefold()
        ),
        "message_id": headers.message_id,
        "references": headers.references[-50:] if b"references" in names or b"in-reply-to" in names else (),
        "subject": subject,
        "subject_number": (number[1] or number[2]) if number is not None else None,
        "automatic": reasons(headers, content_type, null_sender=sender_kind is SenderKind.NULL),
        "content_type": content_type,
        "crypto": _crypto(headers, content_type),
        "header_faults": tuple(headers.faults),
        "hops": len(names.get(b"received", ())),
    }


_TYPE = re.compile(rb"\s*([a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,80})", re.IGNORECASE)


def _content_type(headers: Headers) -> str:
    match = _TYPE.match(headers.raw("content-type") or b"")
    return match[1].decode("ascii").lower() if match is not None else "text/plain"


def _crypto(headers: Headers, content_type: str) -> Crypto:
    """What the top of the message says (RFC 8551 §3, RFC 3156)."""
    if content_type == "multipart/encrypted":
        return Crypto.PGP
    if content_type == "multipart/signed":
        return Crypto.SIGNED
    if content_type in ("application/pkcs7-mime", "application/x-pkcs7-mime"):
        value = (headers.raw("content-type") or b"").lower()
        return Crypto.SIGNED if b"signed-data" in value else Crypto.SMIME
    return Crypto.NONE


def unreadable(facts: Facts) -> bool:
    """True when the header cannot be relied upon."""
    return any(fault in _UNREADABLE for fault in facts.header_faults)
