"""What is signed or encrypted as a message is: CMS (S/MIME) and OpenPGP.

Encrypted content is said to be so, policy cannot see into it. The content of an opaque signature is in
clear: it is taken out of its ASN.1 wrapping and looked at, as any mail client does (RFC 5652 §5). Nothing
is verified here. BER with indefinite and constructed lengths is read, within the octets that are there.
"""

from __future__ import annotations

from policies.content_finding import Look, Undecided

_PKCS7 = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07"  # 1.2.840.113549.1.7
_SMIME_CT = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01"  # 1.2.840.113549.1.9.16.1
_DATA, _SIGNED, _ENVELOPED, _DIGESTED, _ENCRYPTED = (_PKCS7 + bytes([n]) for n in (1, 2, 3, 5, 6))
_AUTH_ENVELOPED = _SMIME_CT + b"\x17"
_COMPRESSED = _SMIME_CT + b"\x09"
MAX_NODES = 10_000


class _Ber:
    """Reads tags and lengths; ``nodes`` bounds the work."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.nodes = 0

    def head(self, at: int, end: int) -> tuple[int, int, int]:
        """Tag octet, where the value begins and where it ends (-1: at an end-of-contents mark)."""
        self.nodes += 1
        data = self.data
        if self.nodes > MAX_NODES or at + 2 > end or data[at] & 0x1F == 0x1F:
            raise Undecided("unreadable")
        tag, length = data[at], data[at + 1]
        at += 2
        if length == 0x80:
            if not tag & 0x20:
                raise Undecided("unreadable")
            return tag, at, -1
        if length > 0x80:
            count = length & 0x7F
            if count > 8 or at + count > end:
                raise Undecided("unreadable")
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + length > end:
            raise Undecided("unreadable")
        return tag, at, at + length

    def skip(self, at: int, end: int, depth: int = 0) -> int:
        """Where the value at ``at`` ends."""
        if depth > 30:
            raise Undecided("unreadable")
        _, start, stop = self.head(at, end)
        if stop >= 0:
            return stop
        while self.data[start : start + 2] != b"\0\0":
            start = self.skip(start, end, depth + 1)
        return start + 2

    def string(self, at: int, end: int, out: list[bytes], depth: int = 0) -> int:
        """Gather an octet string, in one piece or in many; where it ends."""
        tag, start, stop = self.head(at, end)
        if depth > 10 or tag & 0xDF not in (0x04, 0x80):
            raise Undecided("unreadable")
        if not tag & 0x20:
            out.append(self.data[start:stop])
            return stop
        limit = end if stop < 0 else stop
        while (start < limit) if stop >= 0 else (self.data[start : start + 2] != b"\0\0"):
            start = self.string(start, limit, out, depth + 1)
        return start if stop >= 0 else start + 2


def read_cms(content: bytes, look: Look) -> None:
    """A CMS structure in BER (RFC 5652 §3)."""
    ber = _Ber(content)
    end = len(content)
    _, at, _ = ber.head(0, end)
    tag, start, stop = ber.head(at, end)
    if tag != 0x06 or stop < 0:
        raise Undecided("unreadable")
    kind = content[start:stop]
    if kind in (_ENVELOPED, _ENCRYPTED, _AUTH_ENVELOPED):
        look.encrypted = True
        return
    if kind == _COMPRESSED:
        raise Undecided("nested")
    if kind not in (_SIGNED, _DIGESTED):
        return
    look.signed = look.signed or kind == _SIGNED
    _, at, _ = ber.head(stop, end)  # [0] EXPLICIT
    _, at, _ = ber.head(at, end)  # SignedData
    at = ber.skip(at, end)  # version
    at = ber.skip(at, end)  # digest algorithms
    _, at, stop = ber.head(at, end)  # EncapsulatedContentInfo
    _, _, after = ber.head(at, end)
    if after < 0 or after == stop or content[after : after + 2] == b"\0\0":
        return  # a detached signature
    _, at, _ = ber.head(after, end)
    pieces: list[bytes] = []
    ber.string(at, end, pieces)
    look.inside("smime.eml", b"".join(pieces))


_SECRET_PACKETS = frozenset({1, 3, 9, 18, 20})


def encrypted_packets(content: bytes) -> bool:
    """True when octets begin with packets of an encrypted OpenPGP message (RFC 9580 §4.2, §5)."""
    if len(content) < 4 or not content[0] & 0x80:
        return False
    first = content[0]
    tag = first & 0x3F if first & 0x40 else first >> 2 & 0x0F
    if tag not in (1, 3):
        return False
    if first & 0x40:
        length, at = content[1], 2
        if length >= 192:
            if length >= 224:
                return False
            length, at = ((length - 192) << 8) + content[2] + 192, 3
    else:
        if first & 3 > 1:
            return False
        length, at = (content[1], 2) if not first & 3 else (int.from_bytes(content[1:3], "big"), 3)
    version = content[at : at + 1]
    follows = content[at + length : at + length + 1]
    if version not in (b"\x03", b"\x04", b"\x05", b"\x06") or not follows or not follows[0] & 0x80:
        return False
    next_tag = follows[0] & 0x3F if follows[0] & 0x40 else follows[0] >> 2 & 0x0F
    return next_tag in _SECRET_PACKETS
