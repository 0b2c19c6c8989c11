"""What attachments are and hold: every kind once, what hides in them, what cannot be decided."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import time
import zipfile
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.content import look_at
from policies.content_finding import Bounds, Look
from tests.unit import sample_files as make
from tests.unit.sample_files import compound, locked_zip, office, opendocument, zipped

FLAGS = ("encrypted", "signed", "macros", "executable", "archive")


def look(content: bytes, name: str = "", **bounds: Any) -> Look:
    return look_at(content, name, Bounds(**bounds))


def said(found: Look) -> set[str]:
    """The flags, what is odd, and what is undecided, in one set."""
    told = {flag for flag in FLAGS if getattr(found, flag)} | set(found.odd)
    return told | ({f"?{found.undecided}"} if found.undecided else set())


def biff(*records: tuple[int, bytes]) -> bytes:
    return b"".join(
        struct.pack("<HH", kind, len(data)) + data for kind, data in ((0x809, bytes(16)), *records)
    )


WITH_MACRO = office(extra={"word/vbaProject.bin": b"x"})
INSTALLER = bytes.fromhex("84100c0000000000c000000000000046")
PACKAGE = compound({"\x01Ole10Native": make.package_stream("report.exe", make.PE)})


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("empty", b"", set()),
        ("text", "كتاب رسمي".encode(), set()),
        (
            "text that begins like a program",
            b"MZ is how this text begins, and it goes on as a text " * 3,
            set(),
        ),
        # Programs, whatever they are called.
        ("pe", make.PE, {"executable"}),
        ("elf", make.ELF, {"executable"}),
        ("mach-o", make.MACH_O, {"executable"}),
        ("java class", b"\xca\xfe\xba\xbe" + bytes(40), {"executable"}),
        ("shortcut", make.LINK, {"executable"}),
        ("shell", b"#!/bin/sh\nrm x\n", {"executable"}),
        ("batch", b"@ECHO OFF\r\ndel x\r\n", {"executable"}),
        ("batch in UTF-16", "@echo off\r\n".encode("utf-16"), {"executable"}),
        ("internet shortcut", b"\xef\xbb\xbf[InternetShortcut]\r\nURL=file://x\r\n", {"executable"}),
        ("hta", b"<html><HTA:APPLICATION id=x></html>", {"executable"}),
        ("help", b"ITSF\3\0\0\0", {"executable"}),
        ("installer", compound({"x": b"y"}, clsid=INSTALLER), {"executable"}),
        ("jar", zipped({"META-INF/MANIFEST.MF": "x"}), {"executable", "archive"}),
        ("apk", zipped({"AndroidManifest.xml": "x", "classes.dex": "x"}), {"executable", "archive"}),
        # Zip.
        ("zip", zipped({"a.txt": "x", "folder/": ""}), {"archive"}),
        ("stored", zipped({"a.txt": "x"}, method=zipfile.ZIP_STORED), {"archive"}),
        ("empty zip", zipped({}), {"archive"}),
        ("zip of a program", zipped({"a.dat": make.PE}), {"archive", "executable"}),
        (
            "zip of a program in bzip2",
            zipped({"a.dat": make.PE}, method=zipfile.ZIP_BZIP2),
            {"archive", "executable"},
        ),
        (
            "zip of a program in LZMA",
            zipped({"a.dat": make.PE}, method=zipfile.ZIP_LZMA),
            {"archive", "executable"},
        ),
        ("zip of a program's name", zipped({"a.scr": "x"}), {"archive", "executable"}),
        ("locked zip", locked_zip({"a.txt": "x"}), {"archive", "encrypted"}),
        ("zip in a zip", zipped({"b.zip": zipped({"c.dat": make.ELF})}), {"archive", "executable"}),
        ("locked zip in a zip", zipped({"b.zip": locked_zip({"c": "x"})}), {"archive", "encrypted"}),
        ("macros in a zip", zipped({"d.docx": WITH_MACRO}), {"archive", "macros"}),
        ("way out", zipped({"../../etc/x": "x"}), {"archive", "path"}),
        ("way out, Windows", zipped({"C:\\x": "x"}), {"archive", "path"}),
        ("bidi", zipped({"a\u202efdp.exe": "x"}), {"archive", "executable", "bidi"}),
        ("two extensions", zipped({"a.pdf.exe": "x"}), {"archive", "executable", "double-extension"}),
        # Other archives.
        ("tar", make.tarred({"a.txt": b"x"}), {"archive"}),
        ("tar of a program", make.tarred({"long/" * 30 + "a": make.PE}), {"archive", "executable"}),
        ("tar.gz", gzip.compress(make.tarred({"a.txt": b"x"})), {"archive"}),
        ("gzip of a program", gzip.compress(make.PE), {"archive", "executable"}),
        ("bzip2 of a program", bz2.compress(make.PE), {"archive", "executable"}),
        ("xz of a program", lzma.compress(make.PE), {"archive", "executable"}),
        ("lzma of a program", lzma.compress(make.PE, lzma.FORMAT_ALONE), {"archive", "executable"}),
        ("rar5", make.rar5(["a.txt"]), {"archive"}),
        ("rar5 of a program", make.rar5(["a.exe"]), {"archive", "executable"}),
        ("locked rar5", make.rar5(["a.txt"], locked=True), {"archive", "encrypted"}),
        ("sealed rar5", make.rar5([], sealed=True), {"archive", "encrypted"}),
        ("rar5 bomb", make.rar5(["a.txt"], size=1 << 40), {"archive", "?ratio"}),
        ("rar5 of a document", make.rar5(["a.doc"]), {"archive", "?nested"}),
        ("rar4", make.rar4(["a.txt"]), {"archive"}),
        ("rar4 of a program", make.rar4(["a.exe"]), {"archive", "executable"}),
        ("locked rar4", make.rar4(["a.txt"], locked=True), {"archive", "encrypted"}),
        ("sealed rar4", make.rar4([], sealed=True), {"archive", "encrypted"}),
        ("7z", make.seven_zip(["a.txt", "b.txt"]), {"archive"}),
        ("7z with a plain header", make.seven_zip(["a.txt"], packed=False), {"archive"}),
        ("7z of a program", make.seven_zip(["a.txt", "b.exe"]), {"archive", "executable"}),
        ("locked 7z", make.seven_zip(["a.txt"], aes=True), {"archive", "encrypted"}),
        ("sealed 7z", make.seven_zip(["a.txt"], sealed=True), {"archive", "encrypted"}),
        ("disk image", bytes(32769) + b"CD001" + bytes(100), {"archive", "?unread"}),
        ("zstandard", b"\x28\xb5\x2f\xfd" + bytes(20), {"archive", "?unread"}),
        # Office.
        ("docx", office(), set()),
        ("docm", WITH_MACRO, {"macros"}),
        (
            "macros by type",
            office(types="<x ContentType='application/vnd.ms-office.vbaProject'/>"),
            {"macros"},
        ),
        ("Excel 4 macros", office("xl", {"xl/macrosheets/sheet1.xml": "x"}), {"macros"}),
        ("signed docx", office(extra={"_xmlsignatures/sig1.xml": "x"}), {"signed"}),
        ("docx with a program", office(extra={"word/embeddings/oleObject1.bin": PACKAGE}), {"executable"}),
        ("docx with macros inside", office(extra={"word/embeddings/a.docm": WITH_MACRO}), {"macros"}),
        ("locked docx", compound({"EncryptedPackage": b"x", "EncryptionInfo": b"x"}), {"encrypted"}),
        ("doc", compound({"WordDocument": b"\xec\xa5" + bytes(30)}), set()),
        ("locked doc", compound({"WordDocument": b"\xec\xa5" + bytes(9) + b"\1"}), {"encrypted"}),
        ("doc with macros", compound({"WordDocument": b"x", "dir": b"x"}, ("Macros", "VBA")), {"macros"}),
        ("xls", compound({"Workbook": biff((0x85, bytes(4) + b"\0\0\0"), (0x0A, b""))}), set()),
        ("locked xls", compound({"Workbook": biff((0x2F, bytes(6)))}), {"encrypted"}),
        ("xls with a macro sheet", compound({"Workbook": biff((0x85, bytes(4) + b"\0\1"))}), {"macros"}),
        ("locked ppt", compound({"Current User": bytes(12) + b"\xdf\xc4\xd1\xf3"}), {"encrypted"}),
        ("doc with a program", PACKAGE, {"executable"}),
        ("odt", opendocument(), set()),
        ("odt with macros", opendocument({"Basic/Standard/Module1.xml": "x"}), {"macros"}),
        ("locked odt", opendocument(manifest="<manifest:encryption-data/>"), {"encrypted"}),
        ("signed odt", opendocument({"META-INF/documentsignatures.xml": "x"}), {"signed"}),
        ("rtf", b"{\\rtf1 text}", set()),
        (
            "rtf with a program",
            b"{\\rtf1{\\object\\objdata " + PACKAGE.hex().encode() + b"}}",
            {"executable", "embedded"},
        ),
        ("pdf", b"%PDF-1.7\n1 0 obj<</Length 3>>\n%%EOF", set()),
        ("locked pdf", b"%PDF-1.7\ntrailer<</Encrypt 5 0 R>>", {"encrypted"}),
        ("locked pdf, written oddly", b"%PDF-1.7\ntrailer<</#45ncr#79pt 5 0 R>>", {"encrypted"}),
        ("signed pdf", b"%PDF-1.7\n<</Type/Sig/ByteRange[0 1 2 3]>>", {"signed"}),
        ("pdf with a file", b"%PDF-1.7\n<</Type/EmbeddedFile>>", {"embedded"}),
        # Two things at once.
        (
            "gif and jar",
            b"GIF89a" + bytes(99) + zipped({"A.class": "x"}),
            {"archive", "executable", "polyglot"},
        ),
        ("pdf and zip", b"%PDF-1.4\n" + zipped({"a.txt": "x"}), {"archive", "polyglot"}),
        ("program and zip", make.PE + zipped({"a.txt": "x"}), {"archive", "executable", "polyglot"}),
        ("program and pdf", make.PE + b"%PDF-1.4\n", {"executable", "polyglot"}),
        # What policy cannot see into.
        ("pgp", b"-----BEGIN PGP MESSAGE-----\n\nhQ\n", {"encrypted"}),
        ("pgp in octets", b"\x84\x04\x03abc\xd2\x01x", {"encrypted"}),
        ("pgp signature", b"-----BEGIN PGP SIGNATURE-----\n", {"signed"}),
        ("age", b"age-encryption.org/v1\n", {"encrypted"}),
        # Outlook.
        ("winmail", make.tnef({"كتاب.txt": b"x"}), {"archive"}),
        ("winmail with a program", make.tnef({"a.dat": make.PE}), {"archive", "executable"}),
        ("winmail with macros", make.tnef({"a.docx": WITH_MACRO}), {"archive", "macros"}),
        ("broken winmail", make.tnef({"a.txt": b"x" * 99})[:-9], {"archive", "?unreadable"}),
        (
            "Outlook message",
            compound(
                {
                    "__properties_version1.0": b"x",
                    "__substg1.0_3707001F": "a.exe".encode("utf-16-le") + b"\0\0",
                    "__substg1.0_37010102": b"x",
                }
            ),
            {"executable"},
        ),
        # Broken.
        ("zip without an end", zipped({"a": "x"})[:-30], {"archive", "?unreadable"}),
        ("rar cut off", make.rar5(["a.txt"])[:-12], {"archive", "?unreadable"}),
        ("7z cut off", make.seven_zip(["a.txt"])[:-4], {"archive", "?unreadable"}),
        ("compound cut off", compound({"a": bytes(9000)})[:700], {"?unreadable"}),
        ("gzip of nothing sensible", b"\x1f\x8b\x08\0" + b"\xff" * 40, {"archive", "?unreadable"}),
        ("tar cut off", make.tarred({"a": bytes(2000)})[:1024], {"archive", "?unreadable"}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_found(name: str, content: bytes, wanted: set[str]) -> None:
    assert said(look(content)) == wanted


def test_members_are_named_with_their_places() -> None:
    inner = zipped({"c.txt": "x"})
    assert look(zipped({"كتاب.txt": "x", "d/b.zip": inner})).members == ["كتاب.txt", "d/b.zip", "c.txt"]
    assert look(make.seven_zip(["a.txt", "كتاب.pdf"])).members == ["a.txt", "كتاب.pdf"]
    assert look(make.tnef({"كتاب.txt": b"x"})).members == ["كتاب.txt"]
    assert look(make.tarred({"n" * 150: b"x"})).members == ["n" * 120]
    many = look(zipped({f"{i}.txt": "x" for i in range(500)}))
    assert len(many.members) == 50 and not many.undecided


def nested(levels: int, core: bytes) -> bytes:
    for number in range(levels):
        core = zipped({f"{number}.zip": core})
    return core


def test_archives_in_archives_to_a_depth() -> None:
    found = look(nested(3, zipped({"a.dat": make.PE})))
    assert found.executable and not found.undecided
    found = look(nested(8, zipped({"a.dat": make.PE})))
    assert found.undecided == "nested" and not found.executable


def test_a_ratio_is_seen_before_anything_is_inflated() -> None:
    began = time.thread_time()
    bomb = zipped({"a": bytes(150 << 20)})
    made = time.thread_time()
    assert said(look(bomb)) == {"archive", "?ratio"}
    assert time.thread_time() - made < (made - began) / 4, "nothing was inflated"
    assert said(look(gzip.compress(bytes(80 << 20)))) == {"archive", "?ratio"}
    # Each member is ordinary, all together are not.
    some = zipped({f"{i}.pdf": b"%PDF-1.4" + bytes(8 << 20) for i in range(10)})
    assert look(some).undecided == "ratio"


def without_entry(names: list[str], left_out: int) -> bytes:
    """A zip whose directory names all members but one."""
    whole = bytearray(zipped(dict.fromkeys(names, "x")))
    at = whole.index(b"PK\x01\x02")
    for _ in range(left_out):
        at = whole.index(b"PK\x01\x02", at + 4)
    length = 46 + len(names[left_out])
    del whole[at : at + length]
    end = whole.rindex(b"PK\x05\x06")
    count, size = len(names) - 1, struct.unpack_from("<L", whole, end + 12)[0] - length
    struct.pack_into("<HHL", whole, end + 8, count, count, size)
    return bytes(whole)


def test_directories_that_lie() -> None:
    honest = zipped({"a.txt": "harmless", "b.txt": "too"})
    other_name = honest.replace(b"a.txt", b"a.exe", 1)  # the local header, which some programs go by
    assert look(other_name).undecided == "ambiguous"
    for place in range(3):  # a member that the directory leaves out, before, between and behind the others
        assert look(without_entry(["a.txt", "b.txt", "c.txt"], place)).undecided == "ambiguous"
    shared = bytearray(honest)  # two members with the same octets: how bombs without nesting are made
    first = shared.index(b"PK\x01\x02")
    second = shared.index(b"PK\x01\x02", first + 4)
    shared[second + 42 : second + 46] = shared[first + 42 : first + 46]
    assert look(bytes(shared)).undecided == "ambiguous"
    counted = bytearray(honest)
    at = counted.rindex(b"PK\x05\x06")
    counted[at + 10 : at + 12] = b"\1\0"
    assert look(bytes(counted)).undecided == "ambiguous"
    counted[at + 10 : at + 12] = b"\xfe\xff"
    assert look(bytes(counted)).undecided == "count"
    assert look(honest + honest).undecided == "ambiguous"


def test_a_chain_of_sectors_that_runs_in_circles() -> None:
    file = bytearray(compound({"WordDocument": bytes(9000)}))
    table = struct.unpack_from("<L", file, 76)[0]
    struct.pack_into("<L", file, (table + 1) * 512, 0)  # the first sector follows itself
    assert look(bytes(file)).undecided in ("", "unreadable")
    struct.pack_into("<L", file, 48, 0)  # and is the directory
    assert look(bytes(file)).undecided == "unreadable"


def signer() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    import datetime

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(day).not_valid_after(day + datetime.timedelta(days=9000))
    return made.sign(key, hashes.SHA256()), key


@pytest.mark.parametrize("detached", [True, False])
def test_an_opaque_signature_hides_nothing(detached: bool) -> None:
    certificate, key = signer()
    builder = pkcs7.PKCS7SignatureBuilder().set_data(make.letter(("a.dat", make.PE)))
    builder = builder.add_signer(certificate, key, hashes.SHA256())
    options = [pkcs7.PKCS7Options.Binary] + [pkcs7.PKCS7Options.DetachedSignature] * detached
    found = look(builder.sign(serialization.Encoding.DER, options), "smime.p7m")
    assert found.signed and not found.undecided
    assert found.executable is not detached


def test_an_enclosed_letter_is_looked_into() -> None:
    inner = make.letter(("a.dat", make.PE), ("b.docx", WITH_MACRO))
    found = look_at(inner, "x.eml", Bounds(), message=True)
    assert found.executable and found.macros and found.members == ["a.dat", "b.docx"]
    assert look(inner, "x.eml").executable
    deep = make.letter(("a.dat", make.PE))
    for _ in range(8):
        deep = make.letter(("x.eml", deep))
    assert look_at(deep, "x.eml", Bounds(), message=True).undecided == "nested"


def test_time_is_over() -> None:
    found = look(zipped({"a.txt": "x"}), seconds=0.0)
    assert found.undecided == "timeout"


STARTS = [
    b"", b"MZ", b"\x84", b"PK\x03\x04", b"PK\x05\x06", b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00", b"%PDF-",
    b"7z\xbc\xaf\x27\x1c", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"{\\rt\\objdata", b"\x1f\x8b\x08", b"BZh9",
    b"MSCF", b"\xfd7zXZ\x00", b"\x78\x9f\x3e\x22", b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02",
]  # fmt: skip
SAMPLES = [
    zipped({"a.txt": "x", "b.zip": zipped({"c": "x"})}), make.rar4(["a", "b"]), make.rar5(["a", "b"]),
    make.seven_zip(["a", "b"]), make.seven_zip(["a", "b"], packed=False), make.tnef({"a": b"x"}), PACKAGE,
    make.tarred({"a": b"x"}), WITH_MACRO, compound({"Workbook": biff((0x85, bytes(8)))}),
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(STARTS),
    st.binary(max_size=600),
    st.sampled_from(["", "a.eml", "a.pgp", "a.iso", "\0.\u202e"]),
)
def test_nothing_raises_on_any_octets(start: bytes, rest: bytes, name: str) -> None:
    look(start + rest, name)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_nothing_raises_on_files_with_octets_changed(sample: bytes, data: st.DataObject) -> None:
    content = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    began = time.thread_time()
    look(bytes(content), "x")
    look(bytes(content[:cut]), "x")
    assert time.thread_time() - began < 15  # a hundredth of it
