"""What a file's name tells: its extension, whether that runs as a program, what is odd about the name.

The extension is the one that a system would act on: after blanks and dots at the end, marks of direction
and alternate streams are taken away, since ``x.exe .`` is ``x.exe`` to Windows, and so is the name that a
right-to-left mark shows as ``xexe.pdf``.
"""

from __future__ import annotations

import re
import unicodedata

MAX_EXTENSION = 20

# What systems of today run, or hand to something that runs it, when a person opens it.
_RUN_THESE = """
    ade adp apk app appimage application appref-ms appx appxbundle bas bat chm class cmd com command cpl
    crx csh deb desktop dex diagcab dll dmg drv elf exe fxp gadget hlp hta inf ins ipa isp jar jnlp js
    jse ksh library-ms lnk mad maf mag mam maq mar mas mat mau mav maw mcf mda mde mdt mdw mdz msc msh
    msh1 msh2 mshxml msi msix msixbundle msp mst msu ocx ops osd pcd pif pkg pl plg prf prg
    printerexport ps1 ps1xml ps2 ps2xml psc1 psc2 psd1 psdm1 psm1 pssc py pyc pyo pyw pyz pyzw rb reg
    rgs rpm run scf scpt scr sct search-ms service settingcontent-ms sh shb shs so sys terminal theme
    themepack timer tool udl url vb vbe vbp vbs vsmacros vsw wasm webloc webpnp website ws wsc wsf wsh
    xbap xll xnk xpi
"""
_MACROS = """
    docm dotm potm ppam ppsm pptm sldm wbk wiz xla xlam xlm xlsm xltm
"""
_SHOWN = """
    bmp csv doc docx eml gif htm html jpeg jpg mp3 mp4 msg odp ods odt pdf png pps ppsx ppt pptx rtf tif
    tiff txt xls xlsx xml zip
"""
# Names of what may hold macros or members of its own: not to be judged by its name.
_DEEPER = """
    7z ace arj asice bz2 cab doc docm docx dot dotm dotx eml epub gz img iso jar lha lz lz4 lzh lzma msg
    odp ods odt p7m pot potm potx pps ppsm ppsx ppt pptm pptx rar rtf tar tbz tgz tnef txz vhd vhdx xar
    xlam xls xlsb xlsm xlsx xlt xltm xltx xps xz z zip zipx zst
"""

_RUNS = frozenset(_RUN_THESE.split())
MACRO_EXTENSIONS = frozenset(_MACROS.split())
DOCUMENTS = frozenset(_SHOWN.split())
HOLDS_MORE = frozenset(_DEEPER.split())

_OVERRIDES = frozenset("\u202a\u202b\u202d\u202e\u2066\u2067\u2068")
_HIDDEN = re.compile("[\x00-\x1f\x7f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffd]")
_WIDE_DOTS = str.maketrans({"\uff0e": ".", "\u2024": ".", "\ufe52": "."})
_PATH = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)|^[/\\]|^[A-Za-z]:")


def extension(name: str) -> str:
    """The extension in lower case without its dot; empty if there is none."""
    if name.isascii() and name.isprintable():
        shown = name
    else:
        shown = unicodedata.normalize("NFKC", _HIDDEN.sub("", name[:1000]).translate(_WIDE_DOTS))
    shown = re.split(r"[/\\]", shown)[-1].rstrip(". ")
    shown = shown.partition(":")[0].rstrip(". ") if ":" in shown else shown
    stem, dot, last = shown.rpartition(".")
    return last.strip().lower()[:MAX_EXTENSION] if dot and (stem or last) else ""


def runs(last: str) -> bool:
    """True for the extension of a program, a script or a link to one."""
    return last in _RUNS


def oddities(name: str, *, path_is_odd: bool = True) -> list[str]:
    """What is strange about a name. Folders are ordinary in an archive, ways out of it are not."""
    out = []
    if (path_is_odd and ("/" in name or "\\" in name)) or _PATH.search(name) is not None:
        out.append("path")
    if not name.isascii() and not _OVERRIDES.isdisjoint(name):
        out.append("bidi")
    if "\0" in name:
        out.append("nul")
    if not name.isprintable() and any(c < " " or c in "\x7f\ufffd" for c in name):
        out.append("control")
    base = name.rstrip(". ")
    last = extension(base)
    if runs(last) and extension(base[: -len(last) - 1]) in DOCUMENTS:
        out.append("double-extension")
    return out
