"""The arguments of MAIL and RCPT: paths and parameters (RFC 5321 §4.1.2, RFC 3461, 6531, 6533, 8689).

Reads, never repairs: what stands in an :class:`~tracker.model.Address`, ENVID or ORCPT is what stood on the
wire, letter for letter. Source routes are refused (RFC 5321 §3.6.1 lets a server do so); percent signs and
exclamation marks in a local part mean nothing here.

How it fails: :class:`Refused` carries the reply; 501 for syntax, 553 for an address, 555 for a parameter
that is not offered, 552 for a declared size above the limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.desk import MailParams
from tracker.model import NULL_PATH, Address, AddressError, Recipient
from tracker.reply import Reply

# A closing bracket inside a quoted local part does not end the path.
_MAIL = re.compile(r'FROM: ?<((?:[^<>"]|"(?:[^"\\]|\\.)*")*)>(?: +(.*))?', re.IGNORECASE | re.ASCII)
_RCPT = re.compile(r'TO: ?<((?:[^<>"]|"(?:[^"\\]|\\.)*")*)>(?: +(.*))?', re.IGNORECASE | re.ASCII)
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_HEXCHAR = r"\+[0-9A-F]{2}"
_XTEXT = re.compile(rf"(?:[!-*,-<>-~]|{_HEXCHAR})*")  # RFC 3461 §4
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")
# RFC 6533 §3: utf-8-addr-xtext, and utf-8-addr-unitext where SMTPUTF8 is in use.
_EMBEDDED = r"\\x\{(?:[0-9A-F]{2,6})\}"
_UTF8_XTEXT = re.compile(rf"(?:[!-*,-<>-\[\]-~]|{_HEXCHAR}|{_EMBEDDED})+")
_UTF8_UNITEXT = re.compile(rf"(?:[!-*,-<>-\[\]-~]|[\u00a1-\U0010ffff]|{_HEXCHAR}|{_EMBEDDED})+")

MAX_ENVID = 100  # RFC 3461 §4.4
MAX_ORCPT = 500  # RFC 3461 §4.2
_NO_PARAMS = MailParams()


class Refused(Exception):
    """A command is answered by ``reply`` and changes nothing."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def _refused(code: int, status: str, text: str) -> Refused:
    return Refused(Reply.of(code, status, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What this session was offered in answer to EHLO; nothing at all after HELO."""

    extended: bool
    size: int
    tls: bool = False
    auth: bool = False


def parse_mail(arg: str, offered: Offered) -> tuple[Address, MailParams]:
    """``FROM:<path> [parameters]``; raises :class:`Refused`."""
    match = _MAIL.fullmatch(arg)
    if match is None:
        raise _refused(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
    path, rest = match.groups()
    params = _mail_params(rest, offered) if rest else _NO_PARAMS
    if not path:
        return NULL_PATH, params
    return _address(path, params.smtputf8, "5.1.7"), params


def parse_rcpt(arg: str, offered: Offered, *, smtputf8: bool, hostname: str) -> Recipient:
    """``TO:<path> [parameters]``; raises :class:`Refused`.

    ``<Postmaster>`` without a domain (RFC 5321 §4.5.1) is the postmaster of ``hostname``.
    """
    match = _RCPT.fullmatch(arg)
    if match is None:
        raise _refused(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
    path, rest = match.groups()
    if not path:
        raise _refused(553, "5.1.3", "The null path is no recipient")
    if len(path) == 10 and path.lower() == "postmaster":
        path = f"{path}@{hostname}"
    address = _address(path, smtputf8, "5.1.3")
    if not rest:
        return Recipient(address=address)
    return _recipient(address, rest, offered, smtputf8)


def _address(path: str, smtputf8: bool, status: str) -> Address:
    if path[0] == "@":
        raise _refused(553, status, "Source routes are not accepted")
    try:
        address = Address.parse(path)
    except AddressError as error:
        raise _refused(553, status, f"Bad address: {error}") from None
    if not smtputf8 and not address.ascii:
        raise _refused(553, "5.6.7", "An address outside ASCII needs the SMTPUTF8 parameter")
    return address


def _params(text: str, offered: Offered) -> dict[str, str | None]:
    if not offered.extended:
        raise _refused(555, "5.5.4", "Parameters need EHLO")
    found: dict[str, str | None] = {}
    for word in filter(None, text.split(" ")):
        keyword, equals, value = word.partition("=")
        if _KEYWORD.fullmatch(keyword) is None or (equals and not value):
            raise _refused(501, "5.5.4", "Malformed parameter")
        keyword = keyword.upper()
        if not value.isascii() and keyword != "ORCPT":  # before upper(), which makes ASCII of a long s
            raise _refused(501, "5.5.4", f"{_shown(keyword)} is ASCII")
        if keyword in found:
            raise _refused(501, "5.5.4", f"{keyword} is given twice")
        found[keyword] = value if equals else None
    return found


def _mail_params(text: str, offered: Offered) -> MailParams:
    size: int | None = None
    body, ret, envid = "7BIT", None, None
    smtputf8 = requiretls = False
    for keyword, value in _params(text, offered).items():
        if keyword == "SIZE":
            size = _size(value, offered.size)
        elif keyword == "BODY":
            body = (value or "").upper()
            if body == "BINARYMIME":
                raise _refused(555, "5.6.1", "BINARYMIME is not offered")
            if body not in ("7BIT", "8BITMIME"):
                raise _refused(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
        elif keyword == "SMTPUTF8" and value is None:
            smtputf8 = True
        elif keyword == "RET":
            ret = (value or "").upper()
            if ret not in ("FULL", "HDRS"):
                raise _refused(501, "5.5.4", "RET is FULL or HDRS")
        elif keyword == "ENVID":
            envid = value or ""
            if len(envid) > MAX_ENVID or not envid or _XTEXT.fullmatch(envid) is None:
                raise _refused(501, "5.5.4", f"ENVID is xtext of up to {MAX_ENVID} characters")
        elif keyword == "REQUIRETLS" and offered.tls and value is None:
            requiretls = True
        elif keyword == "AUTH" and offered.auth and value is not None:
            # RFC 4954 §5: a peer may name who submitted first; we trust no such claim and pass none on.
            if value != "<>" and _XTEXT.fullmatch(value) is None:
                raise _refused(501, "5.5.4", "AUTH is <> or xtext")
        elif keyword in ("SMTPUTF8", "REQUIRETLS") and value is not None:
            raise _refused(501, "5.5.4", f"{keyword} takes no value")
        else:
            raise _refused(555, "5.5.4", f"{_shown(keyword)} is not offered")
    return MailParams(size=size, body=body, smtputf8=smtputf8, requiretls=requiretls, ret=ret, envid=envid)


def _size(value: str | None, limit: int) -> int:
    # RFC 1870 §3: 1*20DIGIT
    if value is None or not value.isdecimal() or len(value) > 20:
        raise _refused(501, "5.5.4", "SIZE is a number of octets")
    size = int(value)
    if size > limit:
        raise _refused(552, "5.3.4", f"Message larger than {limit} octets")
    return size


def _recipient(address: Address, text: str, offered: Offered, smtputf8: bool) -> Recipient:
    notify = orcpt = None
    for keyword, value in _params(text, offered).items():
        if keyword == "NOTIFY":
            notify = _notify(value or "")
        elif keyword == "ORCPT":
            orcpt = _orcpt(value or "", smtputf8)
        else:
            raise _refused(555, "5.5.4", f"{_shown(keyword)} is not offered")
    return Recipient(address=address, notify=notify, orcpt=orcpt)


def _notify(value: str) -> str:
    value = value.upper()
    words = value.split(",")
    if value != "NEVER" and (
        len(set(words)) != len(words) or not {"SUCCESS", "FAILURE", "DELAY"} >= set(words)
    ):
        raise _refused(501, "5.5.4", "NOTIFY is NEVER, or a list of SUCCESS, FAILURE, DELAY")
    return value


def _orcpt(value: str, smtputf8: bool) -> str:
    kind, semicolon, address = value.partition(";")
    form = _XTEXT
    if kind.lower() == "utf-8":
        form = _UTF8_UNITEXT if smtputf8 else _UTF8_XTEXT
    if (
        not semicolon
        or not address
        or len(value.encode()) > MAX_ORCPT
        or _ATOM.fullmatch(kind) is None
        or form.fullmatch(address) is None
    ):
        raise _refused(501, "5.5.4", "ORCPT is address-type;xtext")
    return value


def _shown(keyword: str) -> str:
    return keyword if len(keyword) <= 40 else f"{keyword[:40]}..."
