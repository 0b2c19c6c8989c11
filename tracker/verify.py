"""Check letters, receipts and proofs of Wasl offline, from the log's public key alone (LEDGER.md).

One file that needs the standard library and ``cryptography``, so that whoever doubts the gateway can read
it whole and run it alone: ``python verify.py --key KEY FILE…``. A FILE is a receipt (.eml with evidence.json
and proof.txt), a letter (.eml, as it was sent or as a mailbox gives it back), a bundle (.zip of all these),
or evidence.json and proof.txt themselves. Formats: RFC 6962, RFC 9162, C2SP signed-note, tlog-checkpoint and
tlog-proof; ``--vectors`` runs the test vectors.

Exit status: 0 all that was given fits and is vouched for by the key; 1 something does not fit; 2 it could
not be decided (no key, no evidence, an unreadable file). Every line says what was checked; what is not
said was not checked. Octets from anywhere are met with a line, not with an exception.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.errors import MessageError
from email.header import decode_header, make_header
from email.utils import parseaddr
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_ED25519 = b"\x01"  # signature type of C2SP signed-note
_MAX_PROOF = 64  # hashes: a tree of 2^63 leaves has no more
_MAX_FILE = 512 << 20  # octets read of one file or bundle in all


class Unproven(ValueError):
    """What was given does not prove what it says; the message tells what does not fit."""


def canonical(value: object) -> bytes:
    """The one byte form of a JSON value (LEDGER.md 1): keys sorted, no spaces, UTF-8, integers only.

    Raises TypeError for floats and for what is no JSON. A lone surrogate is written as ``?``.
    """
    return json_text(value).encode("utf-8", "replace")


def json_text(value: object) -> str:
    """The canonical form as text, not yet octets."""
    form = _FORMS.get(type(value))
    if form is None:
        form = next((f for kind, f in _FORMS.items() if isinstance(value, kind)), None)
        if form is None:
            raise TypeError(f"{type(value).__name__} has no canonical form")
    return form(value)


def _object_text(value: dict[str, object]) -> str:
    return "{" + ",".join([f"{encode_basestring(k)}:{json_text(value[k])}" for k in sorted(value)]) + "}"


def _array_text(value: Sequence[object]) -> str:
    return "[" + ",".join([json_text(item) for item in value]) + "]"


_FORMS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
    int: int.__repr__,
    dict: _object_text,
    list: _array_text,
    tuple: _array_text,
}


def commit(salt: bytes, data: bytes) -> bytes:
    """The salted commitment to ``data``: SHA-256(length of salt ‖ salt ‖ data), 32 octets (LEDGER.md 2)."""
    return hashlib.sha256(b"%c%b%b" % (len(salt), salt, data)).digest()


def evidence_text(evidence: Mapping[str, Any]) -> bytes:
    """What the signature of an evidence.json is made over (LEDGER.md 5): all but the signature itself."""
    return b"wasl-evidence/v1\n" + canonical({k: v for k, v in evidence.items() if k != "signature"})


def leaf_hash(entry: bytes) -> bytes:
    """The leaf of an entry (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two hashes (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(leaf: bytes, seq: int, size: int, hashes: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 §2.1.3.2); raises :class:`Unproven`."""
    if not 0 <= seq < size:
        raise Unproven(f"entry {seq} is not in a tree of {size}")
    fn, sn, root = seq, size - 1, leaf
    for sibling in hashes:
        if sn == 0:
            raise Unproven("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            root = node_hash(sibling, root)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            root = node_hash(root, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise Unproven("the inclusion proof is too short")
    return root


def check_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, hashes: Sequence[bytes]
) -> None:
    """Check that the tree of ``second`` entries begins with that of ``first`` (RFC 9162 §2.1.4.2).

    Raises :class:`Unproven`.
    """
    if not 0 <= first <= second:
        raise Unproven(f"a tree of {second} cannot begin with one of {first}")
    if first == second:
        if hashes or first_root != second_root:
            raise Unproven("two trees of the same size differ")
        return
    if first == 0:
        if hashes or first_root != hashlib.sha256().digest():
            raise Unproven("the empty tree needs no proof")
        return
    path = list(hashes)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        raise Unproven("the consistency proof is empty")
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for node in path[1:]:
        if sn == 0:
            raise Unproven("the consistency proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(node, fr), node_hash(node, sr)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, node)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or fr != first_root or sr != second_root:
        raise Unproven("the log was rewritten: the newer tree does not begin with the older one")


@dataclass(frozen=True, slots=True)
class Vkey:
    """A public key as C2SP signed-note writes it: ``name+keyid+base64(type ‖ key)``."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> Vkey:
        """Read the text form; raises ValueError."""
        name, plus, rest = text.strip().partition("+")
        keyid, plus2, encoded = rest.partition("+")
        raw = _base64(encoded)
        if not name or not plus or not plus2 or raw[:1] != _ED25519 or len(raw) != 33:
            raise ValueError("not an Ed25519 verifier key")
        vkey = cls(name, raw[1:])
        if vkey.keyid.hex() != keyid:
            raise ValueError("the key id does not fit the key")
        return vkey

    @property
    def keyid(self) -> bytes:
        """Four octets that tell which key signed."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.keyid.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    def verify(self, signature: bytes, data: bytes) -> bool:
        """True when ``signature`` is this key's Ed25519 signature over ``data``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Head:
    """What a checkpoint says: the log's origin, how many entries, and the root above them."""

    origin: str
    size: int
    root: bytes


def open_checkpoint(note: str, keys: Sequence[Vkey]) -> Head:
    """Read a signed note (C2SP tlog-checkpoint) that one of ``keys`` signed; raises :class:`Unproven`."""
    head, signatures, text = read_checkpoint(note)
    good = False
    for name, keyid, signature in signatures:
        for key in keys:
            if (key.name, key.keyid) == (name, keyid):
                if not key.verify(signature, text):
                    raise Unproven(f"the signature of {name} over the checkpoint is wrong")
                good = good or key.name == head.origin
    if not good:
        raise Unproven(f"no known key of {head.origin} signed the checkpoint")
    return head


def read_checkpoint(note: str) -> tuple[Head, list[tuple[str, bytes, bytes]], bytes]:
    """A checkpoint unchecked: what it says, its signatures (name, key id, signature), the signed text."""
    body, blank, signed = note.rpartition("\n\n")
    lines = body.split("\n")
    if not blank or not signed.endswith("\n") or len(lines) < 3 or not all(lines) or len(note) > 100_000:
        raise Unproven("not a checkpoint")
    if any(ord(c) < 32 and c != "\n" for c in note):
        raise Unproven("a control character in the checkpoint")
    signatures = []
    for line in signed[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        raw = _base64(encoded)
        if dash != "—" or not name or len(raw) < 5:
            raise Unproven("a malformed signature line in the checkpoint")
        signatures.append((name, raw[:4], raw[4:]))
    root = _base64(lines[2])
    if len(root) != 32:
        raise Unproven("a malformed root in the checkpoint")
    return Head(lines[0], _decimal(lines[1]), root), signatures, (body + "\n").encode()


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unproven("malformed base64") from error
    if base64.b64encode(raw).decode() != text:  # one text for one value, or a proof could be varied
        raise Unproven("malformed base64")
    return raw


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or (text[0] == "0" and text != "0") or len(text) > 19:
        raise Unproven("malformed number")
    return int(text)


@dataclass(frozen=True, slots=True)
class LogProof:
    """A ``proof.txt`` (C2SP tlog-proof): an entry, its place, the way to the root, the checkpoint."""

    entry: bytes
    index: int
    hashes: tuple[bytes, ...]
    note: str

    @classmethod
    def parse(cls, text: str) -> LogProof:
        """Read one proof; raises :class:`Unproven`."""
        head, blank, note = text.partition("\n\n")
        lines = head.split("\n")
        if not blank or len(lines) < 3 or lines[0] != PROOF_HEADER or len(lines) > 3 + _MAX_PROOF:
            raise Unproven("not a proof")
        if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
            raise Unproven("the proof lacks its entry or its index")
        hashes = tuple(_base64(line) for line in lines[3:])
        if any(len(each) != 32 for each in hashes):
            raise Unproven("a malformed hash in the proof")
        return cls(_base64(lines[1][6:]), _decimal(lines[2][6:]), hashes, note)

    @staticmethod
    def split(text: str) -> list[str]:
        """The proofs of a file that holds several, each with its first line."""
        pieces = ("\n" + text.replace("\r\n", "\n")).split("\n" + PROOF_HEADER + "\n")
        return [f"{PROOF_HEADER}\n{piece.rstrip()}\n" for piece in pieces[1:]]

    def check(self) -> Head:
        """The checkpoint's head (its signature unchecked) once the proof leads to its root; else raises."""
        head, _, _ = read_checkpoint(self.note)
        root = root_from_inclusion(leaf_hash(self.entry), self.index, head.size, self.hashes)
        if root != head.root:
            raise Unproven("the proof does not lead to the checkpoint's root")
        return head

    def fields(self) -> dict[str, Any]:
        """The members of the entry; raises :class:`Unproven` unless it is canonical."""
        try:
            entry = json.loads(self.entry)
        except (ValueError, RecursionError) as error:
            raise Unproven("the entry is no JSON") from error
        if not isinstance(entry, dict) or entry.get("v") != 1 or canonical(entry) != self.entry:
            raise Unproven("the entry is not of this form")
        return entry


# -- the letter ------------------------------------------------------------------------------------------

_FIELD = re.compile(rb"(?m)^([!-9;-~]+)[ \t]*:((?:[^\n]*\n(?=[ \t]))*[^\n]*(?:\n|\Z))")
_END = re.compile(rb"\n\r?\n")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)
_MESSAGES = ("message/rfc822", "message/global", "message/news")
_AUTHORS_FIELDS = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"mime-version",
    b"content-type",
)
_CHARSETS = {"iso-8859-1": "cp1252", "us-ascii": "utf-8", "gb2312": "gb18030", "gbk": "gb18030", "": "utf-8"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of a message with content of its own, transfer encoding undone."""

    name: str
    kind: str
    charset: str
    content: bytes
    is_text: bool  # may be the text of the letter: no attachment, no name, in no enclosed message

    def text_digests(self) -> Iterator[bytes]:
        """The digest of the text, by its label and by the charsets that mail really uses (LEDGER.md 3)."""
        label = self.charset.lower()
        for name in dict.fromkeys((_CHARSETS.get(label, label), "utf-8", "cp1256", "cp1252")):
            try:
                text = self.content.decode(name)
            except (LookupError, ValueError):
                continue
            raw = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")
            bare = b"\n".join([line.rstrip(b" \t") for line in raw.split(b"\n")]).rstrip()
            yield hashlib.sha256(bare).digest()


def _header(data: bytes, start: int, end: int) -> tuple[list[tuple[bytes, int, bytes]], int]:
    """The fields (name, where, value unfolded) of the header at ``start``, and where the body begins."""
    if data[start : start + 1] == b"\n" or data[start : start + 2] == b"\r\n":
        return [], data.index(b"\n", start) + 1
    blank = _END.search(data, start, end)
    body = blank.end() if blank else end
    fields = []
    for found in _FIELD.finditer(data[start : blank.start() + 1 if blank else end]):
        value = found[2].replace(b"\r", b"").replace(b"\n", b"").strip()
        fields.append((found[1].lower(), start + found.start(), value))
        if len(fields) > 2000:
            break
    return fields, body


def _value(fields: list[tuple[bytes, int, bytes]], name: bytes) -> str:
    found = next((value for each, _, value in fields if each == name), b"")
    return found[:10_000].decode("utf-8", "replace")


def _parameters(value: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for name, given in _PARAMETER.findall(value):
        text = given.strip()
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        out.setdefault(re.sub(r"\*.*", "", name.lower()), text)
    return out


def _undone(content: bytes, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        return binascii.a2b_qp(content)
    if encoding != "base64":
        return content
    try:
        return binascii.a2b_base64(content)
    except binascii.Error:
        kept = content.translate(None, _NOT_BASE64)
        kept = kept[: len(kept) - (len(kept) % 4 == 1)]
        return base64.b64decode(kept + b"=" * (-len(kept) % 4))


def leaves(data: bytes) -> list[Leaf]:
    """The leaves of a message in order, at most 1000 and 50 levels deep (RFC 2045, RFC 2046)."""
    found: list[Leaf] = []
    stack = [(0, len(data), 0, False, "text/plain")]
    while stack and len(found) < 1000:
        start, end, depth, within, default = stack.pop()
        fields, body = _header(data, start, end)
        body = min(body, end)
        given = _value(fields, b"content-type")
        params = _parameters(given)
        kind = given.split(";")[0].strip().lower() or default
        encoding = _value(fields, b"content-transfer-encoding").lower()
        if kind.startswith("multipart/") and depth < 50:
            inner = "message/rfc822" if kind == "multipart/digest" else "text/plain"
            kids = [
                (*kid, depth + 1, within, inner)
                for kid in _divided(data, body, end, params.get("boundary", ""))
            ]
            if kids:
                stack.extend(reversed(kids))
                continue
        placed = _value(fields, b"content-disposition")
        name = _parameters(placed).get("filename") or params.get("name", "")
        attached = placed.split(";")[0].strip().lower() == "attachment"
        is_text = kind.startswith("text/") and not attached and not name and not within
        content = _undone(data[body:end], encoding)
        found.append(Leaf(name, kind, params.get("charset", ""), content, is_text))
        if kind in _MESSAGES and depth and depth < 50 and encoding in ("", "7bit", "8bit", "binary"):
            stack.append((body, end, depth + 1, True, "text/plain"))
    return found


def _divided(data: bytes, start: int, end: int, boundary: str) -> list[tuple[int, int]]:
    if not boundary.strip():
        return []
    line = re.compile(rb"\n--" + re.escape(boundary.rstrip().encode()) + rb"(--)?[ \t]*\r*(?:\n|\Z)")
    kids: list[tuple[int, int]] = []
    begin, at = -1, max(start - 1, 0)
    while (mark := line.search(data, at, end)) is not None and len(kids) < 1000:
        if begin >= 0:
            stop = mark.start()
            while stop > begin and data[stop - 1] == 13:
                stop -= 1
            kids.append((begin, max(stop, begin)))
        begin = -1 if mark[1] else mark.end()
        if mark[1]:
            break
        at = begin - 1
    if begin >= 0:
        kids.append((begin, end))
    return kids


def _forms(data: bytes, number: str, size: int | None) -> Iterator[bytes]:
    """The octets that a letter out of a mailbox may have been when it was accepted (LEDGER.md 6)."""
    whole = re.sub(rb"\r?\n", b"\r\n", data)
    ended = whole if whole.endswith(b"\n") else whole + b"\r\n"
    tag = f"[{number}]".encode()
    for form in dict.fromkeys((data, whole, ended)):
        fields, body = _header(form, 0, len(form))
        starts = []
        for name, at, _ in fields:
            starts.append(at)
            if name in _AUTHORS_FIELDS:
                break  # no server puts its fields behind the author's
        for start in dict.fromkeys((0, *starts)):  # 0 is not the first field's when an mbox line is in front
            yield form[start:]
            subject = next((at for name, at, _ in fields if name == b"subject"), None)
            at = form.find(tag, subject, body) if number and subject is not None else -1
            if at < 0 or subject is None or subject < start:
                continue
            for before, after in ((0, b" "), (0, b"\r\n "), (1, b" "), (1, b""), (0, b"")):
                stop = at + len(tag)
                if form[stop:].startswith(after):
                    form_without = form[start : at - before] + form[stop + len(after) :]
                    if size is None or len(form_without) == size:
                        yield form_without


# -- what is found ---------------------------------------------------------------------------------------


def _table(text: str) -> dict[str, tuple[str, str]]:
    """Key and English on one line, Arabic on the next."""
    lines = text.strip().split("\n")
    pairs = zip((line.split(maxsplit=1) for line in lines[::2]), lines[1::2], strict=True)
    return {key: (english, arabic.strip()) for (key, english), arabic in pairs}


_EVENTS = _table("""
submitted accepted by the gateway
    قُبل للإرسال
refused refused by the gateway
    رُفض إرساله
held held for approval
    محجوز للمراجعة
released released
    أُفرج عنه
attempted tried, to be tried again
    محاولة إرسال ستُعاد
in-doubt sent, the answer was not seen
    أُرسل ولم يُعرف الرد
relayed taken over by the receiving server
    رُحّل إلى خادم الجهة المستلمة
delivered delivered to the mailbox
    سُلّم إلى صندوق البريد
late late
    تأخر تسليمه
failed could not be delivered
    تعذّر تسليمه
cancelled cancelled
    أُلغي
fetched fetched by the mail client
    سُحب الكتاب
seen marked as seen (a hint)
    مؤشر اطّلاع (غير قاطع)
read read receipt
    إشعار قراءة
registered registered by the receiver
    قُيّد في الوارد
referred referred
    أُحيل
returned returned
    أُعيد
processed processed
    عولج
expired the time limit passed
    انتهت المهلة
auto-reply automatic reply
    رد آلي
requeued queued again
    أُعيد إلى الطابور
""")

# A check that found all well has its bare name, one that found a fault "!", an undecided one "?".
_TEXTS = _table("""
checkpoint The log {origin} signed its state of {size} entries.
    وقّع السجلّ {origin} حالته عند {size} من القيود.
checkpoint! The checkpoint is not good: {why}.
    نقطة التحقّق غير صحيحة: {why}.
checkpoint? No public key was given: who signed the log's state was not checked.
    لم يُعطَ مفتاح عام، فلم يُتحقّق ممّن وقّع حالة السجلّ.
inclusion Entry {index} is in the log.
    القيد {index} مثبت في السجلّ.
inclusion! The proof of an entry is not good: {why}.
    برهان القيد غير صحيح: {why}.
signature {origin} signed the evidence.
    وقّع {origin} الدليل.
signature! The signature of the evidence is wrong: it was changed or forged.
    توقيع الدليل خاطئ: عُدّل الدليل أو زُوّر.
signature? The evidence bears no signature of a key that was given.
    لا يحمل الدليل توقيعاً بمفتاح من المفاتيح المعطاة.
record {event}, {at}, grade E{grade}: just as entry {index} sealed it.
    {event}، {at}، الدرجة E{grade}: مطابق لما خُتم في القيد {index}.
record! {event}, {at}: this is not what entry {index} sealed.
    {event}، {at}: ليس هذا ما خُتم في القيد {index}.
record? {event}, {at}, grade E{grade}: no proof in the log was given for it (yet).
    {event}، {at}، الدرجة E{grade}: لم يُعطَ له برهان في السجلّ (بعد).
entry? Entry {index} is in the log; its evidence was not given, so nothing more is known of it.
    القيد {index} مثبت في السجلّ، ولم يُعطَ دليله فلا يُعرف عنه شيء آخر.
whole The letter is, octet for octet, the one that was accepted.
    الكتاب مطابق تماماً، بايتاً ببايت، للكتاب الذي قُبل.
whole! The letter is not the one that was accepted, and its parts were not sealed one by one.
    ليس هذا هو الكتاب الذي قُبل، ولم تُختم أجزاؤه كلٌّ على حدة.
whole? The letter as a whole is not as it was accepted (servers may rewrite it); part by part:
    الكتاب بمجمله ليس كما قُبل (قد تعيد الخوادم صياغته)؛ وفيما يلي أجزاؤه:
header Message-ID, author and subject are those recorded.
    معرّف الرسالة والمرسل والموضوع كما سُجّلت.
header! Not as recorded: {why}.
    يخالف المسجَّل: {why}.
text The text is unchanged.
    النص لم يتغيّر.
text! The text was changed, or is that of another letter.
    النص مغيَّر، أو هو نص كتاب آخر.
part {part}: unchanged.
    {part}: لم يتغيّر.
part! {part}: changed or added; it was not accepted so.
    {part}: مغيَّر أو مضاف؛ لم يُقبل هكذا.
missing! Of {of} parts that were accepted, {count} are not in this file.
    ليس في هذا الملف {count} من الأجزاء التي قُبلت، وعددها {of}.
unsealed? Nothing that was given seals a letter's content: add the receipt of acceptance.
    لا يختم شيء مما أُعطي محتوى كتاب: أضف إشعار قبول الإرسال.
file! The file cannot be read: {why}.
    تعذّرت قراءة الملف: {why}.
file? Nothing in the file can be verified.
    لا شيء في الملف يمكن التحقّق منه.
vector {count} test vectors agree.
    عدد متّجهات الاختبار المتوافقة: {count}.
vector! Test vector {index} does not agree: {why}.
    متّجه الاختبار {index} لا يوافق: {why}.
verdict Verified.
    تم التحقّق.
verdict! Not verified: something does not fit.
    لم يثبت: هناك ما لا يطابق.
verdict? Undecided: too little was given to verify it.
    غير محسوم: ما أُعطي لا يكفي للتحقّق.
""")
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was checked: ``good`` is None where it could not be decided."""

    file: str
    code: str
    good: bool | None
    values: Mapping[str, str] = field(default_factory=dict)

    def text(self, language: str = "en") -> str:
        """The sentence in ``en`` or ``ar``; what others wrote is shown without control characters."""
        arabic = language == "ar"
        values = {name: _HIDDEN.sub("\ufffd", value) for name, value in self.values.items()}
        if "event" in values:
            names = _EVENTS.get(values["event"], (values["event"], values["event"]))
            values["event"] = names[arabic]
        return _TEXTS[str(self)][arabic].format_map(values)

    def __str__(self) -> str:
        return f"{self.code}{'' if self.good else '?' if self.good is None else '!'}"


@dataclass(slots=True)
class Result:
    """What was found, line by line."""

    lines: list[Line] = field(default_factory=list)
    vouched: int = 0  # pieces of evidence that a given key vouches for
    doubtful: int = 0  # and those that none does

    @property
    def good(self) -> bool | None:
        """True: all fits and is vouched for; False: something does not fit; None: undecided."""
        if any(line.good is False for line in self.lines):
            return False
        undecided = {"unsealed", "file"}
        if self.doubtful or any(line.code in undecided for line in self.lines):
            return None
        return True if self.vouched else None

    @property
    def status(self) -> int:
        """The exit status: 0, 1 or 2."""
        return {True: 0, False: 1, None: 2}[self.good]

    def text(self, language: str = "en") -> str:
        """All lines, the verdict last."""
        marks = {True: "✓", False: "✗", None: "·"}
        out = []
        shown = ""
        for line in self.lines:
            if line.file != shown:
                shown = line.file
                out.append(_HIDDEN.sub("\ufffd", shown))
            out.append(f"  {marks[line.good]} {line.text(language)}")
        return "\n".join([*out, Line("", "verdict", self.good).text(language)]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        lines = [
            {"file": a.file, "check": a.code, "good": a.good, "en": a.text(), "ar": a.text("ar"), **a.values}
            for a in self.lines
        ]
        return {"verified": self.good, "lines": lines}


@dataclass(slots=True)
class _Evidence:
    """A piece of evidence.json and what was found out about it."""

    file: str
    members: dict[str, Any]
    record: dict[str, Any]
    salt: bytes
    octets: set[str] = field(default_factory=set)  # what seals the letter: a commitment or a digest, hex
    parts: set[str] = field(default_factory=set)  # what seals its parts, likewise
    number: str = ""
    size: int | None = None

    @classmethod
    def read(cls, file: str, members: object) -> _Evidence | None:
        opening = members.get("opening") if isinstance(members, dict) else None
        if not isinstance(members, dict) or not isinstance(opening, dict):
            return None
        record, salt = opening.get("record"), opening.get("salt")
        if not isinstance(record, dict) or not isinstance(salt, str):
            return None
        try:
            raw = bytes.fromhex(salt)
        except ValueError:
            return None
        return cls(file, members, record, raw) if 16 <= len(raw) <= 255 else None

    @property
    def detail(self) -> dict[str, Any]:
        """The record's detail."""
        detail = self.record.get("detail")
        return detail if isinstance(detail, dict) else {}

    def believe(self, signed: bool) -> None:
        """Take over what the proven record, or the signed evidence, states about the letter."""
        self.octets.update(_strings([self.detail.get("sha256")]))
        self.number = next(_strings([self.detail.get("number")]), "")
        size = self.detail.get("size")
        self.size = size if isinstance(size, int) else None
        info, names = self.members.get("UserContentInfo"), self.members.get("MessageIdentifier")
        if signed and isinstance(info, dict):
            self.octets.update(_strings([info.get("DigestValue")]))
            given = info.get("PartsInfo")
            if not self.parts and isinstance(given, list):
                self.parts.update(
                    _strings(each.get("DigestValue") for each in given if isinstance(each, dict))
                )
        if signed and not self.number and isinstance(names, dict):
            self.number = next(_strings([names.get("Number")]), "")

    def seal(self, digest: bytes, among: set[str]) -> str | None:
        """The one among them that seals ``digest``, if any."""
        return next((each for each in (commit(self.salt, digest).hex(), digest.hex()) if each in among), None)

    def line(self, code: str, good: bool | None, index: int | None = None) -> Line:
        at = self.record.get("at")
        try:
            seconds = datetime.fromtimestamp(at / 1_000_000, UTC) if isinstance(at, int) else None
        except (ValueError, OverflowError, OSError):
            seconds = None
        values = {
            "event": str(self.record.get("event")),
            "grade": str(self.record.get("grade")),
            "at": seconds.strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "?",
            "index": "" if index is None else str(index),
        }
        return Line(self.file, code, good, values)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that names no member twice: two readers could read two things."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _strings(values: object) -> Iterator[str]:
    return (value for value in values if isinstance(value, str)) if isinstance(values, Iterable) else iter(())


class _Check:
    """One run over all that was given."""

    def __init__(self, keys: Sequence[Vkey]) -> None:
        self.keys = keys
        self.result = Result()
        self.evidence: list[_Evidence] = []
        self.proofs: list[tuple[str, str]] = []
        self.letters: list[tuple[str, bytes]] = []
        self.left = _MAX_FILE

    def say(self, file: str, code: str, good: bool | None, **values: object) -> None:
        self.result.lines.append(Line(file, code, good, {name: str(value) for name, value in values.items()}))

    # what is in a file

    def take(self, file: str, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            self.say(file, "file", False, why="too large")
        elif data.startswith(b"PK\x03\x04"):
            self._take_zip(file, data)
        elif not self._take_attachment(file, data):
            self._take_message(file, data)

    def _take_zip(self, file: str, data: bytes) -> None:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as bundle:
                for item in bundle.infolist()[:1000]:
                    if item.file_size > self.left:
                        self.say(item.filename, "file", False, why="too large")
                    elif not item.is_dir():
                        self.take(item.filename, bundle.read(item))
        except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, OSError, EOFError) as error:
            self.say(file, "file", False, why=error)

    def _take_attachment(self, file: str, data: bytes) -> bool:
        """Proofs and evidence; False: it is neither."""
        start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
        if start.startswith(PROOF_HEADER.encode()):
            self.proofs += [(file, text) for text in LogProof.split(data.decode("utf-8", "replace"))]
            return True
        if start[:1] not in (b"{", b"["):
            return False
        try:
            value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
        except (ValueError, RecursionError):
            return False
        found = [_Evidence.read(file, each) for each in (value if isinstance(value, list) else [value])]
        self.evidence += [each for each in found if each is not None]
        return any(found)

    def _take_message(self, file: str, data: bytes) -> None:
        if not any(name in _AUTHORS_FIELDS for name, _, _ in _header(data, 0, len(data))[0]):
            self.say(file, "file", None)
            return
        parts = leaves(data)
        receipt = False
        for part in parts:
            if part.name.lower().endswith((".json", ".txt")):
                receipt = self._take_attachment(file, part.content) or receipt
        if not receipt:
            self.letters.append((file, data))

    # what it says

    def run(self) -> Result:
        proven = self._check_proofs()
        for evidence in self.evidence:
            self._check_evidence(evidence, proven)
        for index, (file, entry, _) in proven.items():
            if not any(each.record.get("id") == entry.get("id") for each in self.evidence):
                self.say(file, "entry", None, index=index)
        for file, data in self.letters:
            self._check_letter(file, data)
        return self.result

    def _check_proofs(self) -> dict[int, tuple[str, dict[str, Any], bool]]:
        """The proven entries by index: file, members, and whether a key vouches for the checkpoint."""
        proven: dict[int, tuple[str, dict[str, Any], bool]] = {}
        notes: dict[str, bool | None] = {}
        for file, text in self.proofs:
            try:
                proof = LogProof.parse(text)
            except Unproven as error:
                self.say(file, "inclusion", False, why=error)
                continue
            if proof.note not in notes:
                notes[proof.note] = self._check_note(file, proof.note)
            if notes[proof.note] is False:
                continue
            try:
                proof.check()
                entry = proof.fields()
            except Unproven as error:
                self.say(file, "inclusion", False, why=error)
                continue
            self.say(file, "inclusion", True, index=proof.index)
            proven[proof.index] = file, entry, notes[proof.note] is True
        return proven

    def _check_note(self, file: str, note: str) -> bool | None:
        try:
            head = open_checkpoint(note, self.keys) if self.keys else read_checkpoint(note)[0]
        except Unproven as error:
            self.say(file, "checkpoint", False, why=error)
            return False
        self.say(file, "checkpoint", True if self.keys else None, origin=head.origin, size=head.size)
        return True if self.keys else None

    def _check_evidence(
        self, evidence: _Evidence, proven: Mapping[int, tuple[str, dict[str, Any], bool]]
    ) -> None:
        signed = self._check_signature(evidence)
        record = evidence.record
        same = [(index, *found) for index, found in proven.items() if found[1].get("id") == record.get("id")]
        fits, relied = False, signed is True
        for index, _, entry, vouched in same:
            try:
                fits = commit(evidence.salt, canonical(record)).hex() == entry.get("record")
            except TypeError:
                fits = False
            named = ("v", "id", "letter", "delivery", "event", "grade", "at")
            fits = fits and all(record.get(name) == entry.get(name) for name in named)
            self.result.lines.append(evidence.line("record", fits, index))
            if fits:
                relied = relied or vouched
                evidence.octets.update(_strings([entry.get("octets")]))
                evidence.parts.update(_strings(entry.get("parts")))
        if not same:
            claimed = evidence.members.get("LedgerIndex")
            elsewhere = isinstance(claimed, int) and claimed in proven
            self.result.lines.append(evidence.line("record", False if elsewhere else None, claimed))
        self.result.vouched += relied
        self.result.doubtful += not relied
        if signed or fits:
            evidence.believe(signed is True)

    def _check_signature(self, evidence: _Evidence) -> bool | None:
        given = evidence.members.get("signature")
        good: bool | None = None
        origin = ""
        if given is not None:
            try:
                origin, _, keyid = str(given["key"]).rpartition("+")
                signature, text = _base64(str(given["ed25519"])), evidence_text(evidence.members)
            except (KeyError, TypeError, Unproven):
                good = False
            else:
                known = [key for key in self.keys if (key.name, key.keyid.hex()) == (origin, keyid)]
                good = known[0].verify(signature, text) if known else None
        self.say(evidence.file, "signature", good, origin=origin)
        return good

    def _check_letter(self, file: str, data: bytes) -> None:
        sealing = [each for each in self.evidence if each.octets]
        if not sealing:
            self.say(file, "unsealed", None)
            return
        for evidence in sealing:
            for form in _forms(data, evidence.number, evidence.size):
                if evidence.seal(hashlib.sha256(form).digest(), evidence.octets):
                    self.say(file, "whole", True)
                    return
        parted = [each for each in sealing if each.parts]
        self.say(file, "whole", None if parted else False)
        if parted:
            found = leaves(data if b"\r\n" in data else data.replace(b"\n", b"\r\n"))
            self._check_parts(file, found, max(parted, key=lambda each: len(_matches(each, found))))
        self._check_header(file, data, (parted or sealing)[0])

    def _check_parts(self, file: str, found: list[Leaf], evidence: _Evidence) -> None:
        matches = _matches(evidence, found)
        text = _text_of(found)
        for place, leaf in enumerate(found):
            if leaf is text:
                self.say(file, "text", place in matches)
            else:
                self.say(file, "part", place in matches, part=leaf.name or leaf.kind)
        missing = evidence.parts - set(matches.values())
        if missing:
            self.say(file, "missing", False, count=len(missing), of=len(evidence.parts))

    def _check_header(self, file: str, data: bytes, evidence: _Evidence) -> None:
        fields, _ = _header(data, 0, len(data))
        subject = _words(_value(fields, b"subject")).replace(f"[{evidence.number}]", "")
        given = {
            "message_id": ("Message-ID", _value(fields, b"message-id")),
            "author": ("From", parseaddr(_value(fields, b"from"))[1].lower()),
            "subject": ("Subject", " ".join(subject.split())),
        }
        wrong = []
        for name, (shown, value) in given.items():
            recorded = self._recorded(evidence, name)
            if recorded is not None and recorded != value:
                wrong.append(f"{shown}: {value}")
        self.say(file, "header", not wrong, why="; ".join(wrong))

    def _recorded(self, evidence: _Evidence, name: str) -> str | None:
        value = evidence.detail.get(name)
        if not isinstance(value, str):
            return None
        return value.lower() if name == "author" else " ".join(value.split())


def _text_of(found: Sequence[Leaf]) -> Leaf | None:
    plain = (each for each in found if each.is_text and each.kind == "text/plain")
    return next(plain, next((each for each in found if each.is_text), None))


def _matches(evidence: _Evidence, found: Sequence[Leaf]) -> dict[int, str]:
    """Which leaves are sealed, by their place, and by what."""
    text = _text_of(found)
    matches = {}
    for place, leaf in enumerate(found):
        digests = leaf.text_digests() if leaf is text else iter((hashlib.sha256(leaf.content).digest(),))
        seal = next((seal for digest in digests if (seal := evidence.seal(digest, evidence.parts))), None)
        if seal is not None:
            matches[place] = seal
    return matches


def _words(value: str) -> str:
    """A field with its encoded words decoded (RFC 2047), as far as they can be."""
    try:
        return str(make_header(decode_header(value)))
    except (MessageError, ValueError, LookupError):
        return value


# -- test vectors ----------------------------------------------------------------------------------------


def run_vectors(files: Iterable[tuple[str, bytes]]) -> Result:
    """Compute what files of test vectors say, and say where it differs; raises ValueError for other files."""
    result = Result()
    for file, data in files:
        vector = json.loads(data)
        agreed = 0
        for index, case in enumerate(vector["cases"]):
            try:
                wrong = _VECTORS[vector["kind"]](vector, case)
            except (Unproven, TypeError) as error:
                wrong = None if "error" in case else str(error)
            else:
                wrong = "it should have been refused" if "error" in case else wrong
            if wrong is not None:
                result.lines.append(Line(file, "vector", False, {"index": str(index), "why": wrong}))
            agreed += wrong is None
        result.lines.append(Line(file, "vector", True, {"count": str(agreed)}))
        result.vouched += agreed
    return result


def _canonical_case(_: Mapping[str, Any], case: Mapping[str, Any]) -> str | None:
    found = canonical(case["value"]).decode()
    return None if found == case["canonical"] else found


def _commit_case(_: Mapping[str, Any], case: Mapping[str, Any]) -> str | None:
    found = commit(bytes.fromhex(case["salt"]), bytes.fromhex(case["data"])).hex()
    return None if found == case["commitment"] else found


def _entry_case(_: Mapping[str, Any], case: Mapping[str, Any]) -> str | None:
    record, salt = case["record"], bytes.fromhex(case["salt"])
    entry = {name: record[name] for name in ("v", "id", "letter", "delivery", "event", "grade", "at")}
    entry["record"] = commit(salt, canonical(record)).hex()
    if case["octets"]:
        entry["octets"] = commit(salt, bytes.fromhex(case["octets"])).hex()
    if case["parts"]:
        entry["parts"] = [commit(salt, bytes.fromhex(part)).hex() for part in case["parts"]]
    found = canonical(entry)
    return (
        None if (found.decode(), leaf_hash(found).hex()) == (case["entry"], case["leaf"]) else found.decode()
    )


def _tree_case(_: Mapping[str, Any], case: Mapping[str, Any]) -> str | None:
    if "inclusion" in case:
        hashes = [_base64(each) for each in case["inclusion"]]
        root = root_from_inclusion(_base64(case["leaf"]), case["index"], case["size"], hashes)
        if root != _base64(case["root"]):
            raise Unproven("another root")
    elif "consistency" in case:
        hashes = [_base64(each) for each in case["consistency"]]
        roots = _base64(case["first_root"]), _base64(case["second_root"])
        check_consistency(case["first"], roots[0], case["second"], roots[1], hashes)
    else:
        level = [leaf_hash(b"entry %d" % n) for n in range(case["size"])] or [b""]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            level = [node_hash(*pair) for pair in pairs] + ([level[-1]] if len(level) % 2 else [])
        computed = level[0] if case["size"] else hashlib.sha256().digest()
        return None if computed == _base64(case["root"]) else computed.hex()
    return None


def _checkpoint_case(vector: Mapping[str, Any], case: Mapping[str, Any]) -> str | None:
    head = open_checkpoint(case["note"], [Vkey.parse(vector["key"])])
    expected = Head(case["origin"], case["size"], _base64(case["root"]))
    return None if head == expected else str(head)


def _proof_case(vector: Mapping[str, Any], case: Mapping[str, Any]) -> str | None:
    items = [("evidence.json", json.dumps(case["evidence"]).encode())] if "evidence" in case else []
    items += [(name, case[name].encode()) for name in ("proof", "letter") if name in case]
    result = verify(items, [Vkey.parse(vector["key"])])
    found = [str(line) for line in result.lines]
    good = result.status == case["status"] and set(case["codes"]) <= set(found)
    return None if good else f"{result.status} {found}"


_VECTORS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str | None]] = {
    "canonical": _canonical_case,
    "commit": _commit_case,
    "entry": _entry_case,
    "tree": _tree_case,
    "checkpoint": _checkpoint_case,
    "proof": _proof_case,
}


# -- the doors -------------------------------------------------------------------------------------------


def verify(items: Iterable[tuple[str, bytes]], keys: Sequence[Vkey]) -> Result:
    """Check files given as (name, octets) together, trusting ``keys`` only. Never raises on their content."""
    check = _Check(keys)
    for file, data in items:
        check.take(file, data)
    return check.run()


def verify_files(paths: Iterable[Path], keys: Sequence[Vkey]) -> Result:
    """Check files together; raises OSError when one cannot be opened."""
    return verify(((str(path), path.read_bytes()) for path in paths), keys)


def read_keys(text: str) -> list[Vkey]:
    """Public keys, one a line, lines that begin with # left out; raises ValueError."""
    lines = (line.strip() for line in text.splitlines())
    return [Vkey.parse(line) for line in lines if line and not line.startswith("#")]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Check letters and receipts of Wasl offline.")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help=".eml, .zip, proof.txt, evidence.json"
    )
    parser.add_argument(
        "--key", action="append", default=[], help="public key of the log, or a file of such keys"
    )
    parser.add_argument("--lang", choices=("en", "ar"), default="en", help="language of the answer")
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    parser.add_argument("--vectors", action="store_true", help="the files are test vectors: run them")
    given = parser.parse_args(arguments)
    try:
        keys = [
            key
            for text in given.key
            for key in read_keys(text if "+" in text else Path(text).read_text("utf-8"))
        ]
        files = [(str(path), path.read_bytes()) for path in given.files]
        result = run_vectors(files) if given.vectors else verify(files, keys)
    except (OSError, ValueError, KeyError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        print(result.text(given.lang), end="")
    return result.status


if __name__ == "__main__":
    sys.exit(main())
