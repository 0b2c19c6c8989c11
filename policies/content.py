"""One content, looked at as everything that it is: the kinds of :func:`content_type.kinds` and their readers.

``examine`` is given the octets of an attachment or of a member of one and reports to a
:class:`~policies.content_finding.Look`. Whatever the octets are, it raises nothing but ``Undecided``,
which the look turns into its reason: an error of a reader is "unreadable", for it met what it did not
expect, and what cannot be read cannot be judged.
"""

from __future__ import annotations

from functools import partial

from policies import content_archive
from policies.content_7z import read_7z
from policies.content_finding import Bounds, Look, Undecided
from policies.content_name import extension
from policies.content_ole import read_ole
from policies.content_package import read_pdf, read_rtf, read_zip
from policies.content_sealed import encrypted_packets, read_cms
from policies.content_type import kinds
from tracker import tnef
from tracker.header import scan
from tracker.mime import Limits, Structure, attachments, decoded, file_name, walk

WALK = Limits(depth=30, parts=500, passes=8, seconds=4.0)

# What the walk finds faulty, in the words of the facts. A letter cut off at its end hides nothing.
FAULTS = {
    "too deep": "too deep",
    "too many parts": "too many parts",
    "too slow": "time",
    "no boundary": "ambiguous structure",
    "boundary not found": "ambiguous structure",
}

_READERS = {
    "zip": read_zip,
    "ole": read_ole,
    "pdf": read_pdf,
    "rtf": read_rtf,
    "7z": read_7z,
    "rar": content_archive.read_rar,
    "tar": content_archive.read_tar,
    "cab": content_archive.read_cab,
    "cms": read_cms,
}
_LETTERS = frozenset({"eml", "mht", "mhtml", "nws"})
_UNREAD = frozenset(
    {"ace", "arj", "img", "iso", "lha", "lz", "lz4", "lzh", "vhd", "vhdx", "vmdk", "wim", "xar", "z", "zst"}
)


def look_at(content: bytes, name: str, bounds: Bounds, *, message: bool = False) -> Look:
    """What is found in one attachment; ``message``: it is declared to be a message. Never raises."""
    look = Look(bounds, examine)
    try:
        bounds.check()
        if message:
            read_letter(content, look)
        else:
            examine(content, name, look)
    except Undecided as undecided:
        look.doubt(undecided.reason)
    return look


def examine(content: bytes, name: str, look: Look) -> None:
    """Look at octets called ``name``. Raises :class:`Undecided`."""
    if not content:
        return
    look.bounds.check()
    found = kinds(content)
    last = extension(name)
    for kind in found:
        try:
            _read(kind, content, name, look)
        except Undecided as undecided:
            # A second meaning that leads nowhere is only a look-alike, the first one must be readable.
            if kind == found[0] or undecided.reason != "unreadable":
                look.doubt(undecided.reason)
            if undecided.reason == "timeout":
                raise
        except RecursionError:
            look.doubt("nested")
        except MemoryError:
            look.doubt("too large")
        except Exception:  # a reader met what its author did not foresee: undecided, never a lost letter
            look.doubt("unreadable")
    if len(set(found)) > 1 or (found == ["zip"] and not content.startswith(b"PK")):
        look.odd["polyglot"] = None
    if not found:
        if last in _LETTERS or name == "smime.eml":
            read_letter(content, look)
        elif last in ("pgp", "gpg", "asc", "age") or encrypted_packets(content):
            look.encrypted = look.encrypted or last != "asc"
        elif last in _UNREAD:
            look.archive = True
            look.doubt("unread")


def _read(kind: str, content: bytes, name: str, look: Look) -> None:
    reader = _READERS.get(kind)
    if reader is not None:
        reader(content, look)
    elif kind in ("gzip", "bzip2", "xz"):
        content_archive.read_stream(content, name, kind, look)
    elif kind == "program":
        look.executable = True
    elif kind == "unread":
        look.archive = True
        look.doubt("unread")
    elif kind == "locked":
        look.encrypted = True
    elif kind == "signature":
        look.signed = True
    elif kind == "tnef":
        _tnef(content, look)


def _tnef(content: bytes, look: Look) -> None:
    """The files in a winmail.dat."""
    look.archive = True
    try:
        found = tnef.attached(content)
    except ValueError:
        raise Undecided("unreadable") from None
    look.bounds.count(len(found))
    for name, data in found:
        look.named(name)
        look.inside(name, data)


def read_letter(content: bytes, look: Look) -> None:
    """An enclosed message: its own attachments, and what those hold (RFC 2046 §5.2.1)."""
    structure = walk(content, scan(content), WALK)
    look.bounds.count(len(structure.parts))
    for fault in structure.faults:
        if fault in FAULTS:
            look.doubt("nested" if fault.startswith("too") else "ambiguous")
    _enclosed(content, structure, look)


def _enclosed(content: bytes, structure: Structure, look: Look) -> None:
    root = structure.root.content_type
    if root == "multipart/encrypted":
        look.encrypted = True
    elif root == "multipart/signed":
        look.signed = True
    for part in attachments(structure):
        name = file_name(part.filename) or ""
        look.named(name or part.content_type)
        data = decoded(content, part)
        look.bounds.check()
        if part.content_type == "message/rfc822" and not kinds(data):
            look.below(partial(read_letter, data, look))
        else:
            look.inside(name, data)
