"""What a ``winmail.dat`` says of itself: message class and a few MAPI properties (MS-OXTNEF, MS-OXCMSG).

Exchange wraps read receipts and non-delivery reports in TNEF when it believes the other side to be
Outlook, and attachments too. Of reports only the top level is read, with every count and length held
against the octets that are there, so that a hostile file costs no more than its own length. ``read``
returns None for what is no TNEF; it never raises. ``attached`` lists the files in a stream.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tracker import charset

SIGNATURE = 0x223E9F78
MAX_PROPERTIES = 4000
MAX_ATTACHED = 500

_MESSAGE_CLASS = 0x8008
_MAPI_PROPERTIES = 0x9003
_SUBJECT = 0x8004
_CODEPAGE = 0x9007
_ATTACH_BEGIN = 0x9002  # attAttachRenddata comes first of each attachment
_ATTACH_TITLE = 0x8010
_ATTACH_DATA = 0x800F
_ATTACH_PROPERTIES = 0x9005
_TEXT_TYPES = (0x1E, 0x1F)
_SIZES = {0x02: 4, 0x0B: 4, 0x03: 4, 0x04: 4, 0x0A: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x14: 8, 0x40: 8, 0x48: 16}
_LONG_TYPES = (0x1E, 0x1F, 0x0D, 0x102, 0x00)

# Property ids (MS-OXPROPS).
INTERNET_REFERENCES = 0x1039
IN_REPLY_TO_ID = 0x1042
ORIGINAL_MESSAGE_ID = 0x1046
MESSAGE_CLASS = 0x001A
ATTACH_LONG_FILENAME = 0x3707


@dataclass(slots=True)
class Tnef:
    """The message class, e.g. ``REPORT.IPM.Note.IPNRN``, and the text properties by their id."""

    message_class: str = ""
    subject: str = ""
    texts: dict[int, str] = field(default_factory=dict)

    @property
    def is_read_receipt(self) -> bool:
        """Class of a receipt that says the message was read (MS-OXOMSG §2.2.2)."""
        return self.message_class.upper().endswith((".IPNRN", ".READ RECEIPT"))

    @property
    def is_not_read(self) -> bool:
        """Class of a notice that the message was deleted unread."""
        return self.message_class.upper().endswith((".IPNNRN", ".NON-READ RECEIPT"))

    @property
    def is_failure(self) -> bool:
        """Class of a non-delivery report."""
        return self.message_class.upper().endswith((".NDR", ".NON-DELIVERY", ".NON-DELIVERY REPORT"))


def read(content: bytes) -> Tnef | None:
    """Read the top level of a TNEF stream; None if it is none."""
    if len(content) < 6 or struct.unpack_from("<I", content)[0] != SIGNATURE:
        return None
    out = Tnef()
    codepage = "cp1252"
    pos = 6
    pending: list[tuple[int, bytes]] = []
    while pos + 9 <= len(content):
        level, name, _, length = struct.unpack_from("<BHHI", content, pos)
        data = content[pos + 9 : pos + 9 + min(length, len(content))]
        pos += 9 + length + 2
        if level != 1:
            break  # attachments follow the message's own attributes
        if name == _CODEPAGE and len(data) >= 4:
            codepage = f"cp{struct.unpack_from('<I', data)[0]}"
        elif name in (_MESSAGE_CLASS, _SUBJECT, _MAPI_PROPERTIES):
            pending.append((name, data))
    for name, data in pending:
        if name == _MESSAGE_CLASS:
            out.message_class = _text(data, codepage)
        elif name == _SUBJECT:
            out.subject = _text(data, codepage)
        else:
            _properties(data, codepage, out.texts)
    out.message_class = out.message_class or out.texts.get(MESSAGE_CLASS, "")
    return out


def attached(content: bytes) -> list[tuple[str, bytes]]:
    """Name and content of each file in a TNEF stream, at most ``MAX_ATTACHED`` (MS-OXTNEF §2.1.3.3).

    Raises ValueError where the stream ends in the middle of an attribute or is no TNEF.
    """
    if len(content) < 6 or struct.unpack_from("<I", content)[0] != SIGNATURE:
        raise ValueError("no TNEF")
    names: list[str] = []
    found: list[bytes] = []
    codepage = "cp1252"
    pos = 6
    while pos < len(content):
        if pos + 11 > len(content):
            raise ValueError("ends in the middle of an attribute")
        level, name, _, length = struct.unpack_from("<BHHI", content, pos)
        if pos + 9 + length + 2 > len(content) or level not in (1, 2):
            raise ValueError("ends in the middle of an attribute")
        data = content[pos + 9 : pos + 9 + length]
        pos += 9 + length + 2
        if name == _CODEPAGE and len(data) >= 4:
            codepage = f"cp{struct.unpack_from('<I', data)[0]}"
        elif level == 2 and name == _ATTACH_BEGIN:
            if len(found) >= MAX_ATTACHED:
                raise ValueError("too many attachments")
            names.append("")
            found.append(b"")
        elif level == 2 and found:
            if name == _ATTACH_TITLE:
                names[-1] = names[-1] or _text(data, codepage)
            elif name == _ATTACH_DATA:
                found[-1] = data
            elif name == _ATTACH_PROPERTIES:
                texts: dict[int, str] = {}
                _properties(data, codepage, texts)
                names[-1] = texts.get(ATTACH_LONG_FILENAME, names[-1])
    return list(zip(names, found, strict=True))


def _text(data: bytes, codepage: str) -> str:
    if codepage == "utf-16-le":
        return data.decode("utf-16-le", "replace").replace("\0", "")
    return charset.decode(data.rstrip(b"\0"), codepage).replace("\0", "")


def _properties(data: bytes, codepage: str, into: dict[int, str]) -> None:
    """The text properties of an attMsgProps attribute (MS-OXTNEF §2.1.3.4)."""
    try:
        (count,) = struct.unpack_from("<I", data, 0)
        pos = 4
        for _ in range(min(count, MAX_PROPERTIES)):
            kind, name = struct.unpack_from("<HH", data, pos)
            pos += 4
            if name >= 0x8000:
                (how,) = struct.unpack_from("<I", data, pos + 16)
                pos += 20
                if how == 0:
                    pos += 4
                else:
                    (length,) = struct.unpack_from("<I", data, pos)
                    pos += 4 + length + (-length % 4)
            many = bool(kind & 0x1000)
            kind &= 0x0FFF
            values = 1
            if many or kind in _LONG_TYPES:
                (values,) = struct.unpack_from("<I", data, pos)
                pos += 4
            if kind in _LONG_TYPES:
                for number in range(values):
                    (length,) = struct.unpack_from("<I", data, pos)
                    raw = data[pos + 4 : pos + 4 + length]
                    pos += 4 + length + (-length % 4)
                    if kind in _TEXT_TYPES and number == 0:
                        into.setdefault(name, _text(raw, "utf-16-le" if kind == 0x1F else codepage))
            elif kind in _SIZES:
                size = _SIZES[kind]
                if many and kind in (0x02, 0x0B):
                    size = 2
                pos += size * values
            else:
                return
    except struct.error:
        return
