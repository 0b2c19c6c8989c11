"""Our own checks of what came in: SPF, DKIM, DMARC and ARC, for the facts and for Authentication-Results.

WHEN
    :meth:`Authentication.worth` decides from the facts, without asking anybody. DKIM and ARC where such
    fields are there. SPF and DMARC where a server hands in what is not under its agency's own domains,
    where a rule of the policy needs them, or always (``authentication.own_domains``). A letter that an
    agency's proven server sends under its own name without any signature needs none of it.

HOW IT IS BOUNDED
    One deadline for all names of a letter, a number of signatures, each octet of the body hashed at most
    twice (once per canonical form), natively and in a thread. What is not known in time is ``temperror``.

HOW IT FAILS
    It does not: whatever goes wrong is a result, and the letter goes its way.
"""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gateway.authentication_results import Result
from policies.author import AuthorKind
from policies.chain import Policy
from policies.facts import Facts, SenderKind
from tracker.archive import Octets
from tracker.header import Headers
from tracker.model import Connection, Door, Envelope

if TYPE_CHECKING:
    from gateway.arc_chain import Chain
    from gateway.arc_chain import Reading as ChainReading
    from gateway.authentication_dkim import Signature, Unreadable
    from gateway.authentication_dns import Lookups, Names
    from gateway.authentication_spf import Spf
    from gateway.dkim_form import CanonicalHeader, PublicKey

_log = logging.getLogger("wasl.intake")

_INLINE = 32_768  # octets of a header that is read on the loop
_FOREIGN_SENDERS = frozenset({SenderKind.AGENCY, SenderKind.OUTSIDE, SenderKind.RETURN, SenderKind.GATEWAY})
_OWN_AUTHORS = frozenset({AuthorKind.OWN})


class Wants(NamedTuple):
    """The checks that are worth their cost for one letter."""

    spf: bool = False
    dkim: bool = False
    dmarc: bool = False
    arc: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What of the settings concerns the checks."""

    spf: bool = True
    dkim: bool = True
    dmarc: bool = True
    arc: bool = True
    own_domains: bool = False
    signatures: int = 5
    timeout_s: float = 2.0


class Authentication:
    """The checks of one process. ``names`` asks the name servers."""

    def __init__(self, checks: Checks, names: Names, executor: Executor) -> None:
        self._checks = checks
        self._names = names
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._policy = ""  # the version that was last looked at
        self._needed: frozenset[str] = frozenset()

    def worth(self, facts: Facts, headers: Headers, policy: Policy) -> Wants | None:
        """The checks for a letter, on the policy in force; None for none."""
        if facts.submitter is None:
            return None  # a stranger's: it is refused, or a report that is known by its address
        checks = self._checks
        dkim = checks.dkim and "dkim-signature" in headers
        arc = checks.arc and ("arc-seal" in headers or "arc-message-signature" in headers)
        spf = dmarc = False
        if facts.door is Door.RELAY:
            if policy.version != self._policy:
                self._policy, self._needed = policy.version, _named(policy)
            foreign = (
                checks.own_domains
                or facts.sender_kind in _FOREIGN_SENDERS
                or facts.author_kind not in _OWN_AUTHORS
            )
            spf = checks.spf and (foreign or "spf" in self._needed)
            dmarc = checks.dmarc and (foreign or "dmarc" in self._needed)
        if not (dkim or arc or spf or dmarc):
            return None
        return Wants(spf=spf, dkim=dkim or (dmarc and checks.dkim), dmarc=dmarc, arc=arc)

    async def check(
        self,
        wants: Wants,
        conn: Connection,
        envelope: Envelope,
        headers: Headers,
        octets: Octets,
        facts: Facts,
    ) -> tuple[Result, ...]:
        """Do the checks; never raises on any letter and any answer of a name server."""
        try:
            return await self._check(wants, conn, envelope, headers, octets, facts)
        except Exception:
            _log.exception("the checks of a letter from [%s] failed", conn.peer)
            return tuple(
                Result(method=name, result="temperror") for name, wanted in wants._asdict().items() if wanted
            )

    async def _check(
        self,
        wants: Wants,
        conn: Connection,
        envelope: Envelope,
        headers: Headers,
        octets: Octets,
        facts: Facts,
    ) -> tuple[Result, ...]:
        lookups = self._names.lookups(self._checks.timeout_s)
        single = facts.author_kind not in (AuthorKind.MISSING, AuthorKind.AMBIGUOUS)
        author = facts.author.rpartition("@")[2].lower() if single else ""
        if len(headers.head) <= _INLINE:
            letter = _Letter(wants, headers, octets, author, self._checks.signatures)
        else:
            letter = await self._loop.run_in_executor(
                self._executor, _Letter, wants, headers, octets, author, self._checks.signatures
            )
        keys, spf, _ = await asyncio.gather(
            letter.keys(lookups),
            _spf(lookups, conn, envelope) if wants.spf else _nothing(),
            _warm(lookups, author) if wants.dmarc and author else _nothing(),
        )
        dkim, chain = letter.unverified()
        if keys:
            dkim, chain = await self._loop.run_in_executor(self._executor, letter.verify, keys)
        results: list[Result] = []
        proof: tuple[str, str] | None = None
        if spf is not None:
            domain = envelope.sender.host or conn.helo
            name = "smtp.helo" if envelope.sender.is_null else "smtp.mailfrom"
            results.append(
                Result(method="spf", result=spf.result, reason=spf.reason, properties=((name, domain),))
            )
            proof = spf.result, domain
        results += dkim
        if wants.dmarc:
            from gateway import authentication_dmarc

            results.append(await authentication_dmarc.check(lookups, author or None, proof, dkim))
        if chain is not None:
            results.append(_arc(chain, conn.peer))
        return tuple(results)


class _Letter:
    """The signatures and the chain of one letter, read; then verified in a thread."""

    def __init__(self, wants: Wants, headers: Headers, octets: Octets, author: str, most: int) -> None:
        from gateway import arc_chain, authentication_dkim
        from gateway.dkim_form import CanonicalHeader

        self._octets = octets
        self._body_start = headers.body_start
        self._hashes: dict[bool, bytes] = {}
        self._header: CanonicalHeader = CanonicalHeader(headers)
        self._signatures: list[Signature | Result] = []
        self._chain: Chain | ChainReading | None = None
        if wants.dkim:
            fields, left_out = authentication_dkim.chosen(self._header, author, most)
            for item in fields:
                try:
                    self._signatures.append(authentication_dkim.read(self._header, item))
                except authentication_dkim.Unreadable as error:
                    self._signatures.append(_unreadable(error))
            if left_out:
                self._signatures.append(
                    Result(method="dkim", result="policy", reason=f"{left_out} not checked")
                )
            if not self._signatures:
                self._signatures.append(Result(method="dkim", result="none"))
        if wants.arc:
            self._chain = arc_chain.read(self._header)

    async def keys(self, lookups: Lookups) -> dict[str, PublicKey | Unreadable]:
        """The keys of everything that can be verified, or why they are not there."""
        from gateway.arc_chain import keys_of

        names = {one.key_name for one in self._signatures if not isinstance(one, Result)}
        names |= getattr(self._chain, "key_names", frozenset())
        return await keys_of(lookups, frozenset(names)) if names else {}

    def unverified(self) -> tuple[list[Result], Chain | None]:
        """What is known when there is nothing to verify."""
        from gateway.arc_chain import Chain

        found = [one for one in self._signatures if isinstance(one, Result)]
        return found, self._chain if isinstance(self._chain, Chain) else None

    def verify(self, keys: dict[str, PublicKey | Unreadable]) -> tuple[list[Result], Chain | None]:
        """All results; hashes the body, so it runs in a thread."""
        from gateway import arc_chain, authentication_dkim

        results: list[Result] = []
        for one in self._signatures:
            if isinstance(one, Result):
                results.append(one)
                continue
            key = keys[one.key_name]
            if isinstance(key, authentication_dkim.Unreadable):
                results.append(authentication_dkim.result_of(one, key.result, key.reason))
            else:
                results.append(authentication_dkim.verified(one, key, self._header, self._body))
        chain = self._chain
        if isinstance(chain, arc_chain.Reading):
            wanted = {name: keys[name] for name in chain.key_names}
            chain = arc_chain.verified(chain, wanted, self._header, self._body)
        return results, chain

    def _body(self, relaxed: bool) -> bytes:
        known = self._hashes.get(relaxed)
        if known is None:
            from gateway.dkim_form import simple_body_hash
            from gateway.sign import body_hash

            make = body_hash if relaxed else simple_body_hash
            known = self._hashes[relaxed] = make(self._octets.view(), self._body_start)
        return known


def _named(policy: Policy) -> frozenset[str]:
    """The methods that the files of a policy name; a comment that does only costs a few questions."""
    whole = "\n".join(policy.texts.values())
    return frozenset(name for name in ("spf", "dmarc") if re.search(rf"\b{name}\b", whole))


def _unreadable(error: Unreadable) -> Result:
    return Result(method="dkim", result=error.result, reason=error.reason, properties=error.properties)


def _arc(chain: Chain, peer: str) -> Result:
    about = (("smtp.remote-ip", peer),) if chain.result != "none" else ()
    return Result(method="arc", result=chain.result, reason=chain.reason, properties=about)


async def _spf(lookups: Lookups, conn: Connection, envelope: Envelope) -> Spf:
    from gateway.authentication_spf import check_host

    sender = envelope.sender
    domain = conn.helo if sender.is_null else sender.host
    return await check_host(
        lookups, conn.peer, domain, f"postmaster@{domain}" if sender.is_null else str(sender), conn.helo
    )


async def _warm(lookups: Lookups, author: str) -> None:
    """Ask for the author's DMARC record beside the keys; :mod:`authentication_dmarc` asks again."""
    from gateway.authentication_dns import Unanswered
    from gateway.dkim_form import ascii_domain

    domain = ascii_domain(author)
    if domain is not None:
        try:
            await lookups.txt(f"_dmarc.{domain}")
        except Unanswered:
            return


async def _nothing() -> None:
    return None
