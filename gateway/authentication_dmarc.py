"""DMARC: whether what SPF or DKIM proved is the domain that the author's From shows (RFC 7489).

The organisational domain is found by the public suffix list (§3.2), which is loaded on first use, in a
thread. Records are read as §6.3 and §6.6.3 have it: none or several is ``none``, and a record
without a usable ``p=`` counts only if it asks for reports. What to do with a failure is for the gateway's
own policy to say, the domain's wish stands in the result.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gateway.authentication_dns import Lookups, Unanswered
from gateway.authentication_results import Result
from gateway.dkim_form import FormError, ascii_domain, tag_list

_VERSION = re.compile(rb"[ \t]*v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_POLICIES = ("none", "quarantine", "reject")


@dataclass(frozen=True, slots=True)
class Record:
    """What a domain wishes for. ``strict_dkim`` and ``strict_spf`` are adkim=s and aspf=s."""

    policy: str
    subdomains: str
    strict_dkim: bool = False
    strict_spf: bool = False


@lru_cache(maxsize=1)
def _suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


@lru_cache(maxsize=4096)
def organisation(domain: str) -> str:
    """The organisational domain; a public suffix is its own."""
    return str(_suffixes().privatesuffix(domain) or domain)


def aligned(domain: str, author: str, strict: bool) -> bool:
    """True when ``domain`` speaks for the author's (§3.1); both in A-labels and lower case."""
    return domain == author or (not strict and organisation(domain) == organisation(author))


def record_of(texts: Sequence[bytes]) -> Record | None:
    """The one record among the texts of a name; None when there is none that counts."""
    found = [text for text in texts if _VERSION.match(text)]
    if len(found) != 1 or len(found[0]) > 4096:
        return None
    tags = _tags(found[0])
    wish = tags.get("p", "")
    if wish not in _POLICIES or tags.get("sp", wish) not in _POLICIES:
        if not tags.get("rua"):
            return None
        wish = "none"
        tags.pop("sp", None)
    return Record(wish, tags.get("sp", wish), tags.get("adkim") == "s", tags.get("aspf") == "s")


def _tags(text: bytes) -> dict[str, str]:
    """The tags of a record; a malformed one is left out, the first of a name counts."""
    out: dict[str, str] = {}
    for part in text.split(b";")[:64]:
        try:
            for name, value in tag_list(part).items() if part.strip() else ():
                out.setdefault(name.lower(), value.decode("latin-1").lower())
        except FormError:
            continue
    return out


async def check(
    lookups: Lookups, author: str | None, spf: tuple[str, str] | None, dkim: Sequence[Result]
) -> Result:
    """The result for the author's domain; None: there is not one author.

    ``spf`` is result and domain of the envelope's check, ``dkim`` what the signatures gave.
    """
    domain = ascii_domain(author) if author else None
    if domain is None:
        return Result(method="dmarc", result="permerror", reason="no single author's domain")
    about = (("header.from", domain),)
    try:
        await asyncio.get_running_loop().run_in_executor(None, organisation, domain)
        record = record_of(await lookups.txt(f"_dmarc.{domain}"))
        wish = record.policy if record is not None else ""
        if record is None and (whole := organisation(domain)) != domain:
            record = record_of(await lookups.txt(f"_dmarc.{whole}"))
            wish = record.subdomains if record is not None else ""
    except Unanswered as error:
        return Result(method="dmarc", result="temperror", reason=str(error), properties=about)
    if record is None:
        return Result(method="dmarc", result="none", properties=about)
    shown = (*about, ("policy.dmarc", wish))
    unknown = False
    for result, name, strict in _proofs(spf, dkim, record):
        if not name or not aligned(name, domain, strict):
            continue
        if result == "pass":
            return Result(method="dmarc", result="pass", properties=shown)
        unknown = unknown or result == "temperror"
    if unknown:
        return Result(method="dmarc", result="temperror", properties=shown)
    return Result(method="dmarc", result="fail", properties=shown)


def _proofs(
    spf: tuple[str, str] | None, dkim: Sequence[Result], record: Record
) -> list[tuple[str, str, bool]]:
    out = [(one.result, dict(one.properties).get("header.d", ""), record.strict_dkim) for one in dkim]
    if spf is not None:
        out.append((spf[0], ascii_domain(spf[1]) or "", record.strict_spf))
    return out
