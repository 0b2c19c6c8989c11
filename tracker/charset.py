"""Octets to text, whatever the label says: declared charsets, their habits, and guesses (RFC 2978, 6532).

``decode`` tries the declared charset by the meaning mailers give it (``iso-8859-1`` is Windows-1252,
``gb2312`` is GB 18030, ``us-ascii`` may be anything). What does not fit is UTF-8 if it is valid
UTF-8, else Windows-1256 if its high octets read as Arabic, else what charset-normalizer finds.
Never raises: at worst each odd octet becomes U+FFFD.

A label is looked up in a closed list before the codec machinery sees it: Python keeps every unknown
name for ever, and some of its codecs (``idna``, ``punycode``, ``unicode_escape``) are no charsets.
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases
from functools import lru_cache

from charset_normalizer import from_bytes

GUESS_OCTETS = 4096  # how much of an unlabelled text the guess looks at

_NOT_CHARSETS = {
    "idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem", "rot_13",
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "uu_codec", "zlib_codec",
}  # fmt: skip
_KNOWN = {name for name, codec in aliases.items() if codec not in _NOT_CHARSETS} | set(aliases.values())
_KNOWN = (_KNOWN | {"cp720", "cp856", "cp1006", "koi8_u", "mac_arabic"}) - _NOT_CHARSETS
_HABITS = {
    "iso_8859_1": "cp1252",
    "latin_1": "cp1252",
    "latin1": "cp1252",
    "l1": "cp1252",
    "iso8859_1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x_gbk": "gb18030",
    "gb_2312_80": "gb18030",
    "euc_cn": "gb18030",
    "ks_c_5601_1987": "cp949",
    "ks_c_5601": "cp949",
    "ksc5601": "cp949",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "sjis": "cp932",
    "x_sjis": "cp932",
    "iso_8859_9": "cp1254",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_6_i": "iso8859_6",
    "iso_8859_6_e": "iso8859_6",
    "tis_620": "cp874",
    "big5": "big5hkscs",
    "utf_8n": "utf_8",
    "unicode_1_1_utf_7": "utf_7",
    "unicode_1_1_utf_8": "utf_8",
    "x_unicode_2_0_utf_7": "utf_7",
    "x_mac_arabic": "mac_arabic",
    "macintosh": "mac_roman",
    "x_mac_roman": "mac_roman",
    "arabic": "iso8859_6",
    "utf_16": "utf_16",
}
_SAYS_NOTHING = {
    "us_ascii", "ascii", "ansi_x3.4_1968", "ansi_x3_4_1968", "unknown_8bit", "unknown", "x_unknown", "8bit",
    "default", "default_charset", "iso_8859", "binary", "x_user_defined", "none", "ansi", "646",
}  # fmt: skip
_HIGH = re.compile(rb"[\x80-\xff]")
_HIGH_RUN = re.compile(rb"[\x80-\xff]{2,}")
_ARABIC = re.compile("[\u0621-\u064a]")
_ARABIC_OFTEN = re.compile(
    "[\u0627\u0644\u064a\u0645\u0648\u0646\u0631\u062a\u0628\u0629\u0647\u062f\u0639\u0633]"
)


@lru_cache(maxsize=512)
def codec_name(label: str) -> str | None:
    """The Python codec for a charset label as found in mail, or None for a label that says nothing."""
    name = re.sub(r"[^a-z0-9.]+", "_", label.strip().strip("\"'").lower()[:60]).strip("_")
    if name.startswith("cp_"):
        name = "cp" + name[3:]
    for prefix in ("x_windows_", "x_cp", "win_", "windows", "win"):
        if name.startswith(prefix) and name[len(prefix) :].strip("_").isdigit():
            name = "cp" + name[len(prefix) :].strip("_")
    if name in _SAYS_NOTHING:
        return None
    name = _HABITS.get(name, name)
    if name not in _KNOWN:
        name = name.replace(".", "_")
        if name not in _KNOWN:
            return None
    try:
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        return None


def guess(raw: bytes, hint: str | None = None, *, thorough: bool = True) -> str:
    """Text of octets with no usable label; ``hint`` is a charset named elsewhere in the message.

    ``thorough`` asks charset-normalizer too, which takes milliseconds: not for each of many pieces.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    named = codec_name(hint) if hint else None
    if named and named not in ("utf-8", "utf-7") and not named.startswith(("utf-16", "utf-32")):
        try:
            return raw.decode(named)
        except (LookupError, ValueError):
            pass
    sample = raw[:GUESS_OCTETS]
    high = len(_HIGH.findall(sample))
    if high * 50 < len(sample) and b"\xc3" not in sample and not _HIGH_RUN.search(sample):
        return raw.decode("cp1252", "replace")
    valid = sample.decode("utf-8", "ignore")
    if sum(1 for c in valid if c > "\x7f") * 2 >= high * 0.9:
        return raw.decode("utf-8", "replace")  # UTF-8 with a broken sequence in it, often a cut one
    runs = sum(map(len, _HIGH_RUN.findall(sample)))
    if runs * 2 >= high:
        arabic = sample.decode("cp1256", "replace")
        letters = len(_ARABIC.findall(arabic))
        if letters >= high * 0.85 and len(_ARABIC_OFTEN.findall(arabic)) >= letters * 0.6:
            return raw.decode("cp1256", "replace")
    if thorough and high >= 4:
        try:
            best = from_bytes(sample, steps=5, chunk_size=512).best()
        except Exception:  # the library guards no invariant we know of; a guess may fail, a letter may not
            best = None
        if best is not None:
            try:
                return raw.decode(best.encoding, "replace")
            except (LookupError, ValueError):
                pass
    return raw.decode("cp1252", "replace")


def decode(raw: bytes, label: str | None = None, *, thorough: bool = False) -> str:
    """Text of octets that are labelled with a charset, rightly or not. Never raises."""
    if raw.isascii() and (label is None or not label.strip()):
        return raw.decode("ascii")
    named = codec_name(label) if label else None
    if named is None:
        return raw.decode("ascii") if raw.isascii() else guess(raw, thorough=thorough)
    try:
        return raw.decode(named)
    except (LookupError, ValueError):
        pass
    if named == "utf-8":
        valid = raw.decode("utf-8", "ignore")
        if len(valid.encode()) * 10 < len(raw) * 9:
            return guess(raw, thorough=thorough)
        return raw.decode("utf-8", "replace")
    try:
        text = raw.decode("utf-8")
        if not raw.isascii():
            return text
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode(named, "replace")
    except (LookupError, ValueError):
        return guess(raw, thorough=thorough)
