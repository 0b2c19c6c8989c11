"""The match keys as conditions on a case: what each looks at, and when it holds.

A condition with an ``axis`` hangs on one value of few: a kind, a mode, which of the agencies that
rules name, above which of the bounds. The index (``policies/index.py``) sorts letters by those values
and asks such a condition once for all letters that share them. Conditions without an axis (words in
the subject, header fields, names) are asked of each letter for which everything else holds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from policies.calendar import WEEK
from policies.case import Case
from policies.facts import Automatic, Pending, unreadable
from tracker.search import fold

Fact = Callable[[Case], Any]


class Axis(StrEnum):
    """What kind of value a condition looks at."""

    FEW = "few"  # a flag, a kind, a mode: as it is
    NAMED = "named"  # one value; only those that rules name matter
    SET = "set"  # several values at once; only those that rules name matter
    BOUND = "bound"  # a number; only above which of the bounds it is matters
    FREE = "free"  # none


@dataclass(frozen=True, slots=True)
class Key:
    """What a match key looks at. ``on``: keys that share an axis."""

    fact: Fact
    axis: Axis
    needs: Pending | None = None
    recipient: bool = False  # differs between the recipients of a letter
    on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One match key with what it asks for."""

    key: str
    fact: Fact
    accepts: Callable[[Any], bool]
    axis: Axis
    name: str  # of the axis
    recipient: bool = False
    needs: Pending | None = None
    values: frozenset[Any] = frozenset()  # that it names, on a NAMED or SET axis
    bound: int = 0  # on a BOUND axis
    asks: str = ""  # what it asks for, to compare with others

    def test(self, case: Case) -> bool:
        return self.accepts(self.fact(case))

    def shown(self, case: Case) -> str:
        """The value that it looks at, as text."""
        return show(self.fact(case))


def show(value: object) -> str:
    """A value of facts as people read it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, frozenset | set | tuple | list):
        return ", ".join(sorted(show(v) for v in value)) or "-"
    if value is None or value == "":
        return "-"
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


_NONE: frozenset[str] = frozenset()


def _mailbox(address: str, agency: str | None) -> frozenset[str]:
    """What a mailbox may be called by in a rule."""
    if not address:
        return _NONE
    key = address.casefold()
    domain = f"@{key.rpartition('@')[2]}"
    return frozenset((key, domain, f"agency:{agency}")) if agency else frozenset((key, domain))


def _types(case: Case) -> frozenset[str]:
    found = case.f.attachments
    if not found:
        return _NONE
    types = {a.detected for a in found}
    return frozenset(types | {f"{t.partition('/')[0]}/*" for t in types})


def _extensions(case: Case) -> frozenset[str]:
    return frozenset([a.extension for a in case.f.attachments]) if case.f.attachments else _NONE


def _odd(case: Case) -> frozenset[str]:
    found = case.f.attachments
    return frozenset([word for a in found for word in a.odd]) if found else _NONE


def _results(case: Case) -> frozenset[str]:
    facts = case.f
    if not facts.results and not facts.authentication:
        return _NONE
    return frozenset((*[f"{method}={result}" for method, result in facts.results], *facts.authentication))


def _any(flag: str) -> Fact:
    """Whether any attachment has this flag."""

    def fact(case: Case) -> bool:
        found = case.f.attachments
        return bool(found) and any(getattr(a, flag) for a in found)

    return fact


def _undecidable(case: Case) -> bool:
    facts = case.f
    return bool(facts.undecidable) or (
        bool(facts.attachments) and any(a.undecided for a in facts.attachments)
    )


_H, _S = Pending.HEADER, Pending.SUBMITTER

KEYS: dict[str, Key] = {
    "door": Key(lambda c: c.f.door, Axis.FEW),
    "agency_server": Key(lambda c: bool(c.f.submitters), Axis.FEW),
    "peer": Key(lambda c: c.f.peer, Axis.FREE),
    "submitter": Key(lambda c: c.f.submitter, Axis.NAMED, _S),
    "submitter_mode": Key(lambda c: c.f.submitter_mode, Axis.FEW, _S),
    "sender": Key(lambda c: c.f.sender_kind, Axis.FEW, _S),
    "sender_mailbox": Key(lambda c: _mailbox(c.f.sender, c.f.sender_agency), Axis.SET),
    "author": Key(lambda c: c.f.author_kind, Axis.FEW, _H),
    "author_mailbox": Key(lambda c: _mailbox(c.f.author, c.f.author_agency), Axis.SET, _H),
    "author_is_account": Key(lambda c: c.f.author_is_account, Axis.FEW, _H),
    "vouched": Key(lambda c: c.f.vouched, Axis.FEW, Pending.VOUCHED),
    "recipient": Key(lambda c: c.r.place, Axis.FEW, None, True),
    "recipient_agency": Key(lambda c: c.r.agency, Axis.NAMED, None, True),
    "recipient_mailbox": Key(
        lambda c: _mailbox(str(c.r.recipient.address), c.r.agency), Axis.SET, None, True
    ),
    "recipient_mode": Key(lambda c: c.r.mode, Axis.FEW, None, True),
    "registry_routing": Key(lambda c: c.r.registry_routing, Axis.FEW, None, True),
    "connected": Key(lambda c: c.r.connected, Axis.FEW, None, True),
    "same_agency": Key(lambda c: c.r.agency is not None and c.r.agency == c.f.submitter, Axis.FEW, _S, True),
    "outbound": Key(lambda c: c.f.outbound, Axis.FEW, _S),
    "automatic": Key(lambda c: c.f.automatic, Axis.FEW, _H),
    "classification": Key(lambda c: c.classification, Axis.NAMED, _H),
    "classification_at_least": Key(lambda c: c.classification, Axis.NAMED, _H, on="classification"),
    "urgency": Key(lambda c: c.urgency, Axis.NAMED, _H),
    "urgency_at_least": Key(lambda c: c.urgency, Axis.NAMED, _H, on="urgency"),
    "answers": Key(lambda c: c.f.answered is not None, Axis.FEW, _H),
    "reply_by": Key(lambda c: c.f.reply_by_us is not None, Axis.FEW, _H),
    "subject_contains": Key(lambda c: c.f.subject, Axis.FREE, _H),
    "header": Key(lambda c: c.f.fields, Axis.FREE, _H),
    "authentication": Key(_results, Axis.SET, _H),
    "crypto": Key(lambda c: c.f.crypto, Axis.FEW, _H),
    "attachment_type": Key(_types, Axis.SET, _H),
    "attachment_extension": Key(_extensions, Axis.SET, _H),
    "attachment_name": Key(lambda c: [a.name for a in c.f.attachments], Axis.FREE, _H),
    "attachment_encrypted": Key(_any("encrypted"), Axis.FEW, _H),
    "attachment_signed": Key(_any("signed"), Axis.FEW, _H),
    "attachment_macros": Key(_any("macros"), Axis.FEW, _H),
    "attachment_executable": Key(_any("executable"), Axis.FEW, _H),
    "attachment_archive": Key(_any("archive"), Axis.FEW, _H),
    "attachment_odd": Key(_odd, Axis.SET, _H),
    "attachment_undecided": Key(_any("undecided"), Axis.FEW, _H),
    "attachments_over": Key(lambda c: len(c.f.attachments), Axis.BOUND, _H),
    "attachment_size_over": Key(
        lambda c: max([a.size for a in c.f.attachments]) if c.f.attachments else 0, Axis.BOUND, _H
    ),
    "size_over": Key(lambda c: c.f.size, Axis.BOUND, _H),
    "recipients_over": Key(lambda c: len(c.f.recipients) + c.before, Axis.BOUND),
    "hops_over": Key(lambda c: c.f.hops, Axis.BOUND, _H),
    "looped": Key(lambda c: c.f.looped, Axis.FEW, _H),
    "unreadable": Key(lambda c: unreadable(c.f), Axis.FEW, _H),
    "undecidable": Key(_undecidable, Axis.FEW, _H),
    "forged_marks": Key(lambda c: bool(c.f.stripped), Axis.FEW, _H),
    "working_time": Key(lambda c: c.working, Axis.FEW, _H),
    "weekday": Key(lambda c: c.local.weekday(), Axis.FEW, _H),
    "time": Key(lambda c: c.local.hour * 60 + c.local.minute, Axis.FREE, _H),
}


def condition(key: str, value: object, asks: str = "") -> Condition:
    """Compile one match key. ``value`` is checked, groups and degrees in it are spelt out; ``asks``
    stands for a value that the settings give."""
    look = KEYS[key]
    values: frozenset[Any] = frozenset()
    bound = 0
    accepts: Callable[[Any], bool]
    if key in _FREE:
        accepts = _FREE[key](value)
    elif look.axis is Axis.BOUND:
        assert isinstance(value, int)
        bound = value
        accepts = bound.__lt__
    elif key == "automatic":
        accepts = _automatic(value)
    elif isinstance(value, bool):
        accepts = bool if value else _not
    else:
        assert isinstance(value, list | tuple | frozenset)
        values = frozenset(WEEK.index(v) for v in value) if key == "weekday" else frozenset(value)
        accepts = _touches(values) if look.axis is Axis.SET else values.__contains__
    return Condition(
        key=key,
        fact=look.fact,
        accepts=accepts,
        axis=look.axis,
        name=look.on or key,
        recipient=look.recipient,
        needs=look.needs,
        values=values,
        bound=bound,
        asks=asks or repr(sorted(values) if values else value),
    )


def _not(value: object) -> bool:
    return not value


def _touches(values: frozenset[Any]) -> Callable[[frozenset[Any]], bool]:
    return lambda found: not values.isdisjoint(found)


def _automatic(value: object) -> Callable[[frozenset[Automatic]], bool]:
    if isinstance(value, bool):
        return bool if value else _not
    assert isinstance(value, list | tuple)
    return _touches(frozenset(Automatic(v) for v in value))


def _peers(value: Any) -> Callable[[str], bool]:
    networks = [ipaddress.ip_network(text) for text in value]

    def accepts(peer: str) -> bool:
        address = _address(peer)
        return address is not None and any(address in net for net in networks)

    return accepts


@lru_cache(maxsize=1024)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # ::ffff:10.1.2.3 is what a dual-stack socket calls 10.1.2.3 (RFC 4291 §2.5.5.2).
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


_folded = lru_cache(maxsize=512)(fold)


def _subjects(value: Any) -> Callable[[str], bool]:
    words = [fold(word) for word in value]
    return lambda subject: bool(subject) and any(word in _folded(subject) for word in words)


def pattern(text: str) -> Callable[[str], bool]:
    """Whether a folded text is that one, where ``*`` stands for anything; linear in the text."""
    first, *rest = text.casefold().split("*")
    if not rest:
        return first.__eq__
    *middle, last = rest

    def fits(value: str) -> bool:
        if not value.startswith(first) or len(value) < len(first) + len(last) or not value.endswith(last):
            return False
        at, end = len(first), len(value) - len(last)
        for piece in middle:
            found = value.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return fits


def _names(value: Any) -> Callable[[list[str]], bool]:
    wanted = [pattern(text) for text in value]
    return lambda names: any(fits(name.casefold()) for name in names for fits in wanted)


def _headers(value: Any) -> Callable[[tuple[tuple[str, str], ...]], bool]:
    wanted = [
        (name, want if isinstance(want, bool) else [pattern(text) for text in want])
        for name, want in value.items()
    ]

    def accepts(fields: tuple[tuple[str, str], ...]) -> bool:
        for name, want in wanted:
            found = [v for n, v in fields if n == name]
            if isinstance(want, bool):
                if bool(found) is not want:
                    return False
            elif not any(fits(v.strip().casefold()) for v in found for fits in want):
                return False
        return True

    return accepts


def _clock(value: Any) -> Callable[[int], bool]:
    spans = []
    for text in value:
        begin, end = ((int(t[:2]) * 60 + int(t[3:])) for t in text.split("-"))
        spans.append((begin, end))

    def accepts(minute: int) -> bool:
        return any((b <= minute < e) if b < e else (minute >= b or minute < e) for b, e in spans)

    return accepts


_FREE: dict[str, Callable[[Any], Callable[[Any], bool]]] = {
    "peer": _peers,
    "subject_contains": _subjects,
    "header": _headers,
    "attachment_name": _names,
    "time": _clock,
}
