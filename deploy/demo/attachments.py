"""Attachments for the sample letters, made here octet by octet so that no binary file lies in the repository.

Each is small and real: a PDF with one page (ISO 32000), a Word document (ECMA-376) with Arabic text from
right to left, a PNG (ISO 15948). Nothing here fails.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from xml.sax.saxutils import escape

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PNG = "image/png"
ZIP = "application/zip"


def pdf(*lines: str) -> bytes:
    """One A4 page with lines of Latin text."""
    shown = "".join(
        f"BT /F1 14 Tf 72 {770 - 24 * row} Td ({line.translate({40: '[', 41: ']', 92: '/'})}) Tj ET\n"
        for row, line in enumerate(lines)
    )
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        " /Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(shown)} >>\nstream\n{shown}endstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, text in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{text}\nendobj\n".encode("latin-1", "replace")
    start = len(out)
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}".encode()
    out += f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
_MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"


def docx(*paragraphs: str) -> bytes:
    """A Word document whose paragraphs run from right to left."""
    body = "".join(
        "<w:p><w:pPr><w:bidi/></w:pPr><w:r><w:rPr><w:rtl/></w:rPr>"
        f'<w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'
        for text in paragraphs
    )
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    relations = "application/vnd.openxmlformats-package.relationships+xml"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        f'<Default Extension="rels" ContentType="{relations}"/>'
        f'<Override PartName="/word/document.xml" ContentType="{_MAIN}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_OFFICE}" Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>',
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in files.items():
            package.writestr(name, head + text)
    return out.getvalue()


def png(width: int = 160, height: int = 90) -> bytes:
    """A chart of three columns in the colours of the dashboard."""
    columns = ((20, 50, 0.45, (15, 108, 92)), (65, 95, 0.7, (201, 155, 60)), (110, 140, 0.9, (31, 58, 95)))
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            colour = (247, 245, 240)
            for left, right, share, paint in columns:
                if left <= x < right and y >= height - share * height:
                    colour = paint
            rows += bytes(colour)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(bytes(rows), 9)),
            chunk(b"IEND", b""),
        ]
    )


def locked_zip(name: str, content: bytes, password: bytes) -> bytes:
    """A ZIP archive with one stored member, encrypted as every archiver can (APPNOTE §6.1)."""
    keys = [0x12345678, 0x23456789, 0x34567890]

    def turn(octet: int) -> None:
        keys[0] = _crc(keys[0], octet)
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = _crc(keys[2], keys[1] >> 24)

    for octet in password:
        turn(octet)
    check = zlib.crc32(content)
    locked = bytearray()
    for octet in bytes(11) + bytes([check >> 24]) + content:
        mask = keys[2] | 2
        locked.append(octet ^ (mask * (mask ^ 1) >> 8 & 0xFF))
        turn(octet)
    told = name.encode()
    # Version 2.0; bits 0 (encrypted) and 11 (UTF-8 name); stored; 2026-11-22 10:00.
    head = struct.pack("<HHHHHIII", 20, 0x801, 0, 0x5000, 0x5D76, check, len(locked), len(content))
    local = b"PK\x03\x04" + head + struct.pack("<HH", len(told), 0) + told + locked
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + head + struct.pack("<HHHHHII", len(told), *[0] * 6) + told
    return local + entry + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)


def _crc(before: int, octet: int) -> int:
    """One step of the CRC-32 without its complements."""
    return ~zlib.crc32(bytes([octet & 0xFF]), ~before & 0xFFFFFFFF) & 0xFFFFFFFF
