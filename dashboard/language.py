"""The two languages of the screen: catalogues, plural forms, direction.

Sources are English; ``locale/ar/dashboard.po`` holds the Arabic. The catalogue is read as text at
the start and compiled in memory, so that no binary file has to be kept beside it. Its plural formula
is CLDR's for Arabic (zero, one, two, few 3-10, many 11-99, other); Babel's own default swaps the
last two. A catalogue that cannot be read raises at the start, never in a request.
"""

from __future__ import annotations

import gettext
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES = ("ar", "en")


def N_(text: str) -> str:
    """Marks a text for the catalogue where it is defined; it is translated where it is shown."""
    return text


@dataclass(frozen=True, slots=True)
class Tongue:
    """One language: ``ar`` or ``en``."""

    code: str
    catalogue: gettext.NullTranslations

    @property
    def direction(self) -> str:
        return "rtl" if self.code == "ar" else "ltr"

    @property
    def other(self) -> Tongue:
        return tongue("en" if self.code == "ar" else "ar")

    @property
    def own_name(self) -> str:
        return "العربية" if self.code == "ar" else "English"

    @property
    def comma(self) -> str:
        return "، " if self.code == "ar" else ", "

    def say(self, text: str, **values: object) -> str:
        """The text in this language, ``%(name)s`` filled in."""
        told = self.catalogue.gettext(text)
        return told % values if values else told

    def count(self, one: str, many: str, number: int, **values: object) -> str:
        """The plural form for a number, ``%(num)s`` filled in."""
        return self.catalogue.ngettext(one, many, number) % {"num": number, **values}


@cache
def tongue(code: str) -> Tongue:
    """The language of that code; Arabic for one that we do not speak."""
    if code == "en":
        return Tongue("en", gettext.NullTranslations())
    source = files("dashboard").joinpath("locale", "ar", "dashboard.po")
    with source.open("rb") as text:
        catalogue = read_po(text, locale="ar", abort_invalid=True)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Tongue("ar", gettext.GNUTranslations(compiled))
