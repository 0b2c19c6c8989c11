"""What became of the sample letters, and every difference from what should have.

Three witnesses are asked: the gateway's register (``wasl letter list``), the mailboxes of the agencies over
IMAP, and the ledger (``wasl ledger verify``). Signatures of delivered copies are verified by dkimpy with the
published keys (RFC 6376, RFC 8463), receipts by ``wasl verify`` with the ledger's public key alone.

A difference is a sentence; no difference at all is what ``make demo ONCE=1`` calls success.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path
from typing import Any

import dkim

from deploy.demo.agencies import Agency
from deploy.demo.house import HOSTNAME, Gateway
from deploy.demo.letters import Fate, Letter
from deploy.demo.mailboxes import all_mail
from tests.servers.place import ServerFailed
from tests.servers.wasl import wasl


@dataclass(kw_only=True)
class Found:
    """What became of one letter, as far as it is known."""

    letter: Letter
    refusal: str = ""  # what the gateway answered, if it did not take it
    number: str = ""
    fates: dict[str, Fate] = field(default_factory=dict)
    urgency: str = ""
    due_us: int | None = None
    done: dict[str, str] = field(default_factory=dict)  # recipient to what people did with it there
    copies: dict[str, bytes] = field(default_factory=dict)  # recipient to what lies in the mailbox
    receipts: list[bytes] = field(default_factory=list)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the receipts that came, in order of arrival."""
        return tuple(str(_header(octets)["Wasl-Receipt"]) for octets in self.receipts)

    @property
    def is_letter(self) -> bool:
        return bool(self.letter.fates)

    def as_it_should(self) -> bool:
        """True when states, mailboxes and receipts are those expected."""
        return not list(self.differences())

    def differences(self) -> Iterator[str]:
        """Each way in which this is not what it should be."""
        letter, name = self.letter, self.letter.key
        if self.refusal != letter.refusal:
            yield f"{name}: answered {self.refusal or 'accepted'}, not {letter.refusal or 'accepted'}"
            return
        for address, wanted in letter.fates.items():
            found = self.fates.get(address)
            if found != wanted:
                yield f"{name}: {address} is {found or 'not in the register'}, not {wanted}"
        if self.urgency != letter.urgency or (self.due_us is not None) != bool(letter.urgency):
            yield f"{name}: urgency {self.urgency or 'not set'}, due {self.due_us or 'not set'}"
        for address in self.fates.keys() - letter.fates.keys():
            yield f"{name}: {address} is in the register and should not be"
        arrives = {a for a in letter.recipients if letter.fates.get(a, _ARRIVES).state == "sent"}
        arrives = set() if letter.refusal else arrives
        for address in sorted(arrives - self.copies.keys()):
            yield f"{name}: nothing of it is in the mailbox of {address}"
        for address in sorted(self.copies.keys() - arrives):
            yield f"{name}: it is in the mailbox of {address} and should not be"
        if Counter(self.kinds) != Counter(letter.receipts):
            came, due = ", ".join(self.kinds) or "none", ", ".join(letter.receipts) or "none"
            yield f"{name}: receipts that came: {came}; due: {due}"


_ARRIVES = Fate(state="sent", grade="", outcome="")


def _header(octets: bytes) -> Message:
    return BytesParser(policy=compat32).parsebytes(octets, headersonly=True)


def look(gateway: Gateway, agencies: list[Agency], found: Sequence[Found]) -> None:
    """Ask register and mailboxes, and put what they say into ``found``."""
    by_subject = {(one.letter.author.address, one.letter.subject): one for one in found}
    for row in gateway.house.rows("letter", "list"):
        known = by_subject.get((row["author"], row["subject"]))
        if known is not None and row["kind"] == "letter":
            known.number, known.urgency, known.due_us = row["number"], row["urgency"], row["due_us"]
            known.fates = {
                r["address"]: Fate(state=r["state"], grade=r["grade"], outcome=r["outcome"])
                for r in row["recipients"]
            }
    by_id = {one.letter.message_id: one for one in found}
    for one in found:
        one.receipts, one.copies = [], {}
    for address, messages in all_mail(agencies).items():
        for octets in messages:
            header = _header(octets)
            if header["Wasl-Receipt"]:
                about = by_id.get(str(header["In-Reply-To"]))
                if about is not None and about.letter.envelope_sender == address:
                    about.receipts.append(octets)
            elif (itself := by_id.get(str(header["Message-ID"]))) is not None:
                itself.copies[address] = octets


def proofs(gateway: Gateway, found: Sequence[Found], folder: Path) -> list[str]:
    """The differences that show only in the octets and in the ledger."""
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(lambda: list(_ledger(gateway))),
            pool.submit(lambda: list(_verified(gateway, found, folder))),
        ]
        faults = list(_numbers(found))
        for one in found:
            faults += _copies(gateway, one)
            for kind, octets in zip(one.kinds, one.receipts, strict=True):
                said = _signatures(gateway, octets, HOSTNAME)
                faults += [f"{one.letter.key}: receipt {kind}: {fault}" for fault in said]
        return [*faults, *(fault for part in asked for fault in part.result())]


def _ledger(gateway: Gateway) -> Iterator[str]:
    try:
        gateway.house.run("ledger", "verify")
    except ServerFailed as fault:
        yield str(fault)


def _copies(gateway: Gateway, one: Found) -> Iterator[str]:
    domain = one.letter.author.address.rpartition("@")[2]
    for address, octets in one.copies.items():
        where = f"{one.letter.key}: copy for {address}"
        header = _header(octets)
        if one.is_letter:
            if header["Wasl-Letter"] != one.number:
                yield f"{where}: Wasl-Letter is {header['Wasl-Letter']}, not {one.number}"
            if one.letter.urgency and (header["Wasl-Urgency"], bool(header["Wasl-Due"])) != (
                one.letter.urgency,
                True,
            ):
                yield f"{where}: Wasl-Urgency {header['Wasl-Urgency']}, Wasl-Due {header['Wasl-Due']}"
            if header["Bcc"]:
                yield f"{where}: the field Bcc is still in it"
            yield from (f"{where}: {fault}" for fault in _signatures(gateway, octets, domain))
        elif header["Wasl-Letter"] or header["DKIM-Signature"]:
            yield f"{where}: private mail was tagged or signed"


def _signatures(gateway: Gateway, octets: bytes, domain: str) -> Iterator[str]:
    """The RSA and the Ed25519 signature of ``domain`` must both verify."""
    good = []
    message: Any = dkim.DKIM(octets)  # type: ignore[no-untyped-call]
    count = sum(name.lower() == b"dkim-signature" for name, _ in message.headers)

    def key(name: bytes, timeout: float = 5) -> bytes:
        return gateway.dkim.get(name.decode().rstrip("."), "").encode()

    for index in range(count):
        try:
            if message.verify(idx=index, dnsfunc=key) and message.domain == domain.encode():
                good.append(bytes(message.signature_fields[b"a"]).decode())
        except dkim.DKIMException as fault:
            yield f"signature {index + 1}: {fault}"
    if sorted(good) != ["ed25519-sha256", "rsa-sha256"]:
        yield f"of {count} signatures these verify for {domain}: {', '.join(good) or 'none'}"


def _numbers(found: Sequence[Found]) -> Iterator[str]:
    """Numbers are AGENCY/YEAR/SEQUENCE without a gap."""
    taken: dict[tuple[str, str], list[int]] = {}
    for one in found:
        if one.number:
            match = re.fullmatch(r"([A-Z]+)/(\d{4})/(\d{6})", one.number)
            if match is None:
                yield f"{one.letter.key}: {one.number} is no number"
            else:
                taken.setdefault((match[1], match[2]), []).append(int(match[3]))
    for (agency, year), numbers in taken.items():
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            yield f"the numbers of {agency} in {year} have gaps: {sorted(numbers)}"


def _verified(gateway: Gateway, found: Sequence[Found], folder: Path) -> Iterator[str]:
    """Every receipt that carries a proof is checked offline, as its reader may do it."""
    files: list[str] = []
    for one in found:
        for kind, octets in zip(one.kinds, one.receipts, strict=True):
            if b"proof.txt" in octets:
                file = folder / f"{one.letter.key}-{kind}.eml"
                file.write_bytes(octets)
                files.append(str(file))
        if one.is_letter and b"proof.txt" not in b"".join(one.receipts):
            yield f"{one.letter.key}: no receipt carries a proof"
    if files:
        try:
            wasl("verify", "--key", gateway.ledger_key, *files)
        except ServerFailed as fault:
            yield str(fault)
