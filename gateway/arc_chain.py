"""The Authenticated Received Chain of what came in: whether it is whole (RFC 8617 §5.2).

Structure first, then the newest ARC-Message-Signature, then every ARC-Seal; each octet of the sets is
hashed once, whatever their number, because the seals cover growing prefixes of one text. Results are none,
pass and fail, as §4.4 has them; for a name server that does not answer the RFC says fail as well
(§5.2.1), which is said, but kept apart as ``temperror`` so that we do not close a chain for good.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.authentication_dkim import (
    BodyHash,
    Signature,
    Unreadable,
    check_times,
    holds,
    key_of,
    signed_names,
    unsigned_second,
)
from gateway.authentication_dns import Lookups
from gateway.dkim_form import (
    MAX_FIELD,
    CanonicalHeader,
    FormError,
    PublicKey,
    base64_value,
    domain_value,
    tag_list,
    without_white,
)
from tracker.header import Field

MOST_SETS = 50  # RFC 8617 §4.2.1

RESULTS, MESSAGE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
NAMES = (RESULTS, MESSAGE, SEAL)

_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,4})[ \t\r\n]*(?:;|\Z)")


@dataclass(frozen=True, slots=True)
class Chain:
    """The state of a chain: none, pass, fail or temperror; ``sets`` is its highest instance."""

    result: str
    reason: str = ""
    sets: int = 0


@dataclass(slots=True)
class Sets:
    """The ARC sets of a header by instance; ``fault`` says why they are no chain."""

    by_instance: dict[int, dict[bytes, Field]] = field(default_factory=dict)
    fault: str = ""

    @property
    def highest(self) -> int:
        return max(self.by_instance, default=0)


def present(header: CanonicalHeader) -> bool:
    """True when there is any ARC field."""
    return any(header.fields(name) for name in NAMES)


def collect(header: CanonicalHeader) -> Sets:
    """The sets as they stand, with the first fault of their structure (§5.2 step 3)."""
    sets = Sets()
    for name in NAMES:
        for item in header.fields(name):
            value = header.value(item)
            number = instance(value)
            if number is None:
                sets.fault = sets.fault or f"{name.decode()} without an instance"
            elif len(value) > MAX_FIELD:
                sets.fault = sets.fault or f"{name.decode()} is too long"
            elif sets.by_instance.setdefault(number, {}).setdefault(name, item) is not item:
                sets.fault = sets.fault or f"two of {name.decode()} with i={number}"
    highest = sets.highest
    if len(sets.by_instance) != highest:
        sets.fault = sets.fault or "a set is missing"
    for number, of_set in sorted(sets.by_instance.items()):
        if len(of_set) != len(NAMES):
            sets.fault = sets.fault or f"set {number} is not whole"
    return sets


def instance(value: bytes) -> int | None:
    """The instance of an ARC field, 1 to 50; its tag stands first in ARC-Authentication-Results (§4.1.1)."""
    for part in value.split(b";")[:20]:
        found = _INSTANCE.match(part)
        if found is not None:
            number = int(found[1])
            return number if 1 <= number <= MOST_SETS else None
    return None


@dataclass(frozen=True, slots=True)
class _Seal:
    """One ARC-Seal, read."""

    instance: int
    item: Field
    key_name: str
    algorithm: str
    signature: bytes
    state: str


def _seal(header: CanonicalHeader, number: int, item: Field) -> _Seal:
    tags = tag_list(header.value(item))
    if "h" in tags:  # §4.1.3: not allowed
        raise FormError(f"seal {number} has an h=")
    for tag in ("a", "b", "cv", "d", "s"):
        if not tags.get(tag):
            raise FormError(f"seal {number} lacks {tag}=")
    return _Seal(
        instance=number,
        item=item,
        key_name=f"{domain_value(tags['s'], 's')}._domainkey.{domain_value(tags['d'], 'd')}",
        algorithm=_algorithm(tags["a"]),
        signature=base64_value(tags["b"], "b"),
        state=without_white(tags["cv"]).lower().decode("latin-1"),
    )


def _message(header: CanonicalHeader, item: Field) -> Signature:
    tags = tag_list(header.value(item))
    for tag in ("a", "b", "bh", "d", "h", "s"):
        if not tags.get(tag):
            raise FormError(f"the message signature lacks {tag}=")
    names = signed_names(tags["h"])
    if SEAL in names:
        raise FormError("the message signature covers a seal")
    forms = without_white(tags.get("c", b"relaxed/relaxed")).lower()
    relaxed = forms.split(b"/")
    if len(relaxed) > 2 or any(form not in (b"relaxed", b"simple") for form in relaxed):
        raise FormError("unknown canonicalisation")
    check_times(tags)
    second = unsigned_second(header, names)
    if second:
        raise FormError(f"a second {second} is not signed")
    return Signature(
        field=item,
        algorithm=_algorithm(tags["a"]),
        domain=domain_value(tags["d"], "d"),
        selector=domain_value(tags["s"], "s"),
        names=names,
        signature=base64_value(tags["b"], "b"),
        body_hash=base64_value(tags["bh"], "bh"),
        relaxed=(relaxed[0] == b"relaxed", len(relaxed) > 1 and relaxed[1] == b"relaxed"),
        partial="l" in tags,
    )


def _algorithm(value: bytes) -> str:
    name = without_white(value).lower().decode("latin-1")
    if name not in ("rsa-sha256", "ed25519-sha256"):
        raise FormError("unknown algorithm")
    return name


@dataclass(frozen=True, slots=True)
class Reading:
    """A chain whose structure is sound, read and waiting for its keys."""

    sets: Sets
    message: Signature
    seals: tuple[_Seal, ...]

    @property
    def key_names(self) -> frozenset[str]:
        return frozenset([self.message.key_name, *(seal.key_name for seal in self.seals)])


def read(header: CanonicalHeader) -> Reading | Chain:
    """Everything that can be said without a key: a state, or what is to be verified. Never raises."""
    if not present(header):
        return Chain("none")
    sets = collect(header)
    highest = sets.highest
    if sets.fault:
        return Chain("fail", sets.fault, highest)
    try:
        seals = tuple(_seal(header, i, sets.by_instance[i][SEAL]) for i in range(1, highest + 1))
        if seals[-1].state == "fail":
            return Chain("fail", f"seal {highest} says that the chain has failed", highest)
        for seal in seals:
            if seal.state != ("none" if seal.instance == 1 else "pass"):
                return Chain("fail", f"seal {seal.instance} says cv={seal.state[:20]}", highest)
        return Reading(sets, _message(header, sets.by_instance[highest][MESSAGE]), seals)
    except FormError as error:
        return Chain("fail", str(error), highest)


async def keys_of(lookups: Lookups, names: frozenset[str]) -> dict[str, PublicKey | Unreadable]:
    """The keys under the names, or why not."""

    async def one(name: str) -> tuple[str, PublicKey | Unreadable]:
        try:
            return name, await key_of(lookups, name)
        except Unreadable as error:
            return name, error

    return dict(await asyncio.gather(*(one(name) for name in sorted(names))))


def verified(
    chain: Reading, keys: Mapping[str, PublicKey | Unreadable], header: CanonicalHeader, body: BodyHash
) -> Chain:
    """The state of a chain whose keys were asked for (§5.2 steps 4 and 6)."""
    highest = chain.sets.highest
    missing = [(name, error) for name, error in keys.items() if isinstance(error, Unreadable)]
    missing.sort(key=lambda m: m[1].result == "temperror")  # what is certain comes first
    for name, error in missing:
        state = "temperror" if error.result == "temperror" else "fail"
        return Chain(state, f"{name[:60]}: {error.reason}", highest)
    message = chain.message
    key = keys[message.key_name]
    assert isinstance(key, PublicKey)  # all others were sorted out above
    if key.algorithm != message.algorithm or body(message.relaxed[1]) != message.body_hash:
        return Chain("fail", f"message signature {highest}: the body was changed", highest)
    if not holds(message, key, header):
        return Chain("fail", f"message signature {highest} does not verify", highest)
    covered = hashlib.sha256()
    for seal in chain.seals:
        of_set = chain.sets.by_instance[seal.instance]
        for kind in (RESULTS, MESSAGE):
            covered.update(header.relaxed(of_set[kind]) + b"\r\n")
        own = covered.copy()
        own.update(header.own_line(seal.item, True))
        key = keys[seal.key_name]
        assert isinstance(key, PublicKey)
        if key.algorithm != seal.algorithm or not key.verifies(own.digest(), seal.signature):
            return Chain("fail", f"seal {seal.instance} does not verify", highest)
        covered.update(header.relaxed(seal.item) + b"\r\n")
    return Chain("pass", "", highest)
