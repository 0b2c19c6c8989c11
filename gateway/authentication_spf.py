"""SPF: whether a domain lets a machine send in its name (RFC 7208).

:func:`check_host` is the function of §4 with its limits (§4.6.4): ten terms that ask, two that find nothing,
ten exchanges, ten names of an address. ``exp=`` is checked for its form and never fetched: whoever is
refused gets the gateway's own words. Nothing raises: a record that cannot be read is ``permerror``, a
name server that does not answer ``temperror``.
"""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass
from urllib.parse import quote

from gateway.authentication_dns import Lookups, Unanswered
from gateway.dkim_form import ascii_domain

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_TERMS_THAT_ASK = 10
MOST_VOID = 2
MOST_HOSTS = 10
MOST_RECORD = 4_096  # octets
MOST_DEPTH = 20

_QUALIFIERS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_DIRECTIVE = re.compile(r"([+\-~?]?)([A-Za-z][A-Za-z0-9_.-]*)([:/].*)?", re.DOTALL)
_CIDR = re.compile(r"(?:/(0|[1-9]\d?))?(?://(0|[1-9]\d{0,2}))?\Z", re.ASCII)
_LITERAL = r"[\x21-\x24\x26-\x7e]"
_EXPAND = r"%(?:[%_\-]|\{[slodiphcrtvSLODIPHCRTV][0-9]{0,3}[rR]?[.\-+,/_=]*\})"
_MACRO_STRING = re.compile(rf"(?:{_LITERAL}|{_EXPAND})*\Z")
_MACRO = re.compile(r"%(?:([%_\-])|\{([A-Za-z])(\d*)([rR]?)([.\-+,/_=]*)\})")
_TOP_LABEL = re.compile(r"(?!\d+\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)


class _Permanent(Exception):
    """The record of a domain is wrong (``permerror``)."""


@dataclass(frozen=True, slots=True)
class Spf:
    """What SPF says, and why when there is something to say."""

    result: str
    reason: str = ""


async def check_host(lookups: Lookups, peer: str, domain: str, sender: str, helo: str) -> Spf:
    """The result for a machine that says it sends for ``sender`` (``local@domain``), RFC 7208 §4."""
    try:
        ip = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return Spf("none", "no address of the peer")
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    host = ascii_domain(domain)
    if host is None or "." not in host:
        return Spf("none", "no domain name")
    try:
        return Spf(*await _Check(lookups, ip, sender, helo).domain(host, 0))
    except _Permanent as error:
        return Spf("permerror", str(error))
    except Unanswered as error:
        return Spf("temperror", str(error))


@dataclass(frozen=True, slots=True)
class _Term:
    """A mechanism with its qualifier's result, its domain-spec and its prefix lengths."""

    result: str
    name: str
    spec: str
    four: int = 32
    six: int = 128
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None


class _Check:
    """One evaluation with what it has used up of its limits."""

    def __init__(self, lookups: Lookups, ip: Ip, sender: str, helo: str) -> None:
        self._lookups = lookups
        self._ip = ip
        local, _, domain = sender.rpartition("@")
        self._sender = f"{local or 'postmaster'}@{domain}"
        self._helo = helo
        self._asked = 0
        self._void = 0

    async def domain(self, domain: str, depth: int) -> tuple[str, str]:
        """Result and reason for one domain's record. Raises :class:`_Permanent`, :class:`Unanswered`."""
        if depth > MOST_DEPTH:
            raise _Permanent("records include one another")
        records = [text for text in await self._lookups.txt(domain) if _is_record(text)]
        if not records:
            return "none", ""
        if len(records) > 1:
            raise _Permanent(f"{domain} has several SPF records")
        terms, redirect = _parse(records[0])
        for term in terms:
            if await self._matches(term, domain, depth):
                return term.result, ""
        if redirect is None:
            return "neutral", ""
        self._count()
        target = ascii_domain(await self._expand(redirect, domain))
        if target is None:
            raise _Permanent("redirect= to no domain")
        result, reason = await self.domain(target, depth + 1)
        if result == "none":
            raise _Permanent(f"redirect={target} has no SPF record")
        return result, reason

    async def _matches(self, term: _Term, domain: str, depth: int) -> bool:
        match term.name:
            case "all":
                return True
            case "ip4" | "ip6":
                return term.network is not None and self._ip in term.network
        self._count()
        target = await self._expand(term.spec, domain) if term.spec else domain
        match term.name:
            case "include":
                return await self._included(target, depth)
            case "a":
                return await self._has_address(target, term)
            case "mx":
                return await self._exchanges(target, term)
            case "exists":
                found = await self._lookups.addresses(target, 4)
                self._note_void(found)
                return bool(found)
            case _:  # ptr
                name = target.lower().rstrip(".")
                return any(one == name or one.endswith("." + name) for one in await self._own_names(True))

    async def _included(self, target: str, depth: int) -> bool:
        host = ascii_domain(target)
        if host is None:
            raise _Permanent("include: of no domain")
        result, _ = await self.domain(host, depth + 1)
        if result == "none":
            raise _Permanent(f"include:{host} has no SPF record")
        return result == "pass"

    async def _has_address(self, host: str, term: _Term, void: bool = True) -> bool:
        found = await self._lookups.addresses(host, self._ip.version)
        if void:
            self._note_void(found)
        length = term.four if self._ip.version == 4 else term.six
        return any(self._ip in ipaddress.ip_network(f"{one}/{length}", strict=False) for one in found)

    async def _exchanges(self, target: str, term: _Term) -> bool:
        hosts = await self._lookups.exchanges(target)
        self._note_void(hosts)
        if len(hosts) > MOST_HOSTS:
            raise _Permanent(f"{target} has more than {MOST_HOSTS} mail exchanges")
        for host in hosts:
            if host and await self._has_address(host, term, void=False):
                return True
        return False

    async def _own_names(self, count_void: bool) -> list[str]:
        """The names of the peer that lead back to it (§5.5); failures are no names."""
        try:
            names = await self._lookups.names_of(self._ip)
            if count_void:
                self._note_void(names)
        except Unanswered:
            return []
        out = []
        for name in names[:MOST_HOSTS]:
            try:
                if str(self._ip) in await self._lookups.addresses(name, self._ip.version):
                    out.append(name)
            except Unanswered:
                continue
        return out

    async def _expand(self, spec: str, domain: str) -> str:
        """Macros of a domain-spec (§7); cut at the left to what a name may hold."""
        out: list[str] = []
        at = 0
        for match in _MACRO.finditer(spec):
            out.append(spec[at : match.start()])
            at = match.end()
            if match[1]:
                out.append({"%": "%", "_": " ", "-": "%20"}[match[1]])
                continue
            value = await self._macro(match[2].lower(), domain)
            out.append(_transformed(value, match[3], bool(match[4]), match[5], match[2].isupper()))
        out.append(spec[at:])
        text = "".join(out).removesuffix(".")
        while len(text) > 253 and "." in text:
            text = text.partition(".")[2]
        return text

    async def _macro(self, letter: str, domain: str) -> str:
        local, _, sender_domain = self._sender.rpartition("@")
        match letter:
            case "s":
                return self._sender
            case "l":
                return local
            case "o":
                return sender_domain
            case "d":
                return domain
            case "i" | "c":
                if self._ip.version == 4:
                    return str(self._ip)
                return ".".join(self._ip.exploded.replace(":", "")) if letter == "i" else str(self._ip)
            case "p":
                names = await self._own_names(False)
                own = [n for n in names if n == domain] or [n for n in names if n.endswith("." + domain)]
                return (own or names or ["unknown"])[0]
            case "v":
                return "in-addr" if self._ip.version == 4 else "ip6"
            case "h":
                return self._helo
            case "t":
                return str(int(time.time()))
            case _:
                return "unknown"

    def _count(self) -> None:
        self._asked += 1
        if self._asked > MOST_TERMS_THAT_ASK:
            raise _Permanent(f"more than {MOST_TERMS_THAT_ASK} terms that ask name servers")

    def _note_void(self, found: tuple[str, ...]) -> None:
        if not found:
            self._void += 1
            if self._void > MOST_VOID:
                raise _Permanent(f"more than {MOST_VOID} terms that find nothing")


def _is_record(text: bytes) -> bool:
    return text[:6].lower() == b"v=spf1" and (len(text) == 6 or text[6:7] == b" ")


def _parse(record: bytes) -> tuple[list[_Term], str | None]:
    """The terms in order and the redirect; raises :class:`_Permanent` for anything wrong anywhere (§4.6)."""
    if len(record) > MOST_RECORD or not record.isascii():
        raise _Permanent("the SPF record is too long or not ASCII")
    terms: list[_Term] = []
    modifiers: dict[str, str] = {}
    for word in record[6:].decode("ascii").split(" "):
        if not word:
            continue
        modifier = _MODIFIER.fullmatch(word)
        if modifier is not None:
            name, value = modifier[1].lower(), modifier[2]
            if name in ("redirect", "exp"):
                if name in modifiers:
                    raise _Permanent(f"{name}= stands twice")
                modifiers[name] = _domain_spec(value)
            elif _MACRO_STRING.match(value) is None:
                raise _Permanent(f"{name}= is malformed")
            continue
        terms.append(_directive(word))
    redirect = modifiers.get("redirect")
    return terms, None if any(term.name == "all" for term in terms) else redirect


def _directive(word: str) -> _Term:
    match = _DIRECTIVE.fullmatch(word)
    if match is None:
        raise _Permanent(f"{word[:40]!r} is no term")
    result, name, rest = _QUALIFIERS[match[1] or "+"], match[2].lower(), match[3] or ""
    match name:
        case "all":
            if rest:
                raise _Permanent("all takes nothing")
            return _Term(result, name, "")
        case "include" | "exists":
            if not rest.startswith(":"):
                raise _Permanent(f"{name} needs a domain")
            return _Term(result, name, _domain_spec(rest[1:]))
        case "ptr":
            if rest and not rest.startswith(":"):
                raise _Permanent("ptr takes a domain")
            return _Term(result, name, _domain_spec(rest[1:]) if rest else "")
        case "a" | "mx":
            return _host_term(result, name, rest)
        case "ip4" | "ip6":
            return _Term(result, name, "", network=_network(name, rest))
    raise _Permanent(f"{name[:40]} is no mechanism")


def _host_term(result: str, name: str, rest: str) -> _Term:
    found = _CIDR.search(rest)
    assert found is not None  # it matches the end of any text
    spec = rest[: found.start()]
    four, six = int(found[1] or 32), int(found[2] or 128)
    if four > 32 or six > 128 or (spec and not spec.startswith(":")):
        raise _Permanent(f"{name} has a malformed prefix length")
    return _Term(result, name, _domain_spec(spec[1:]) if spec else "", four, six)


def _network(name: str, rest: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if not rest.startswith(":"):
        raise _Permanent(f"{name} needs a network")
    address, slash, length = rest[1:].partition("/")
    if "%" in address or (slash and not re.fullmatch(r"0|[1-9]\d{0,2}", length)):
        raise _Permanent(f"{name} has a malformed prefix length")
    try:
        if name == "ip4":
            return ipaddress.IPv4Network(f"{address}/{length or 32}", strict=False)
        return ipaddress.IPv6Network(f"{address}/{length or 128}", strict=False)
    except ValueError:
        raise _Permanent(f"{name} of no network") from None


def _domain_spec(text: str) -> str:
    """A domain-spec as it stands (§7.1): ends with a macro or a top label; raises :class:`_Permanent`."""
    ends = 0
    if _MACRO_STRING.match(text) is not None:
        for match in _MACRO.finditer(text):
            if match[2] and (match[2].lower() in "crt" or (match[3] and int(match[3]) == 0)):
                raise _Permanent("a macro that has no place in a domain")
            ends = match.end()
        head, dot, top = text.removesuffix(".").rpartition(".")
        if text and (ends == len(text) or (dot and len(head) >= ends and _TOP_LABEL.fullmatch(top))):
            return text
    raise _Permanent(f"{text[:40]!r} is no domain")


def _transformed(value: str, digits: str, backwards: bool, delimiters: str, escape: bool) -> str:
    """Transformers of a macro (§7.3)."""
    if digits or backwards or delimiters:
        parts = re.split(f"[{re.escape(delimiters or '.')}]", value)
        if backwards:
            parts.reverse()
        if digits:
            parts = parts[-int(digits) :]
        value = ".".join(parts)
    return quote(value, safe="-._~") if escape else value
