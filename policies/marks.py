"""What marks on a letter mean: classification and urgency, from the fields and words that people use.

``marks.yaml`` has both scales, from low to high, with their names, and a map from raw marks (a source
such as ``subject`` or ``importance``, and a value) to words of the scales. It belongs to the version of
the policy, so a candidate policy can read the same letters differently. The built-in map knows the
words of the GLOSSARY in Arabic and English, Sensitivity and Importance (RFC 4021 §2.1), X-Priority
and SIO-Label. Of several marks the highest counts; a mark that is not in the map says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from policies.agency_entry import Text
from policies.document import Document
from policies.entry import ONE, Entry
from policies.faults import Fault, suggestion
from tracker.search import fold

SOURCES = (
    "wasl-classification",
    "wasl-urgency",
    "sensitivity",
    "importance",
    "priority",
    "x-priority",
    "sio-label",
    "subject",
)

_WORD = re.compile(r"[a-z][a-z0-9-]{0,39}")

Source = Literal[
    "wasl-classification",
    "wasl-urgency",
    "sensitivity",
    "importance",
    "priority",
    "x-priority",
    "sio-label",
    "subject",
]


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError("must be a lower-case word, such as top-secret")
    return text


def _texts(value: object) -> object:
    values = value if isinstance(value, list) else [value]
    return [str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]


class DegreeEntry(Entry):
    """One degree of a scale."""

    id: Annotated[str, AfterValidator(_word)]
    """The word that rules use."""
    ar: Text
    """In Arabic."""
    en: Text
    """In English."""


class MarkEntry(Entry):
    """What raw marks mean."""

    source: Annotated[list[Source], ONE, Field(min_length=1)]
    """Where the mark stands; `subject` is a word in brackets in the subject."""
    value: Annotated[
        list[Annotated[Text, Field(max_length=200)]],
        BeforeValidator(_texts, json_schema_input_type=str | int | list[str | int]),
        Field(min_length=1),
    ]
    """The mark itself; alef, hamza, ya, ta marbuta, diacritics and case do not matter."""
    classification: str | None = None
    """The classification that it means."""
    urgency: str | None = None
    """The urgency that it means."""

    @model_validator(mode="after")
    def _whole(self) -> MarkEntry:
        if self.classification is None and self.urgency is None:
            raise ValueError("says nothing: give a classification or an urgency")
        return self


class MarksEntry(Entry):
    """`marks.yaml`."""

    classifications: Annotated[list[DegreeEntry], Field(min_length=1, max_length=20)]
    """From low to high."""
    urgencies: Annotated[list[DegreeEntry], Field(min_length=1, max_length=20)]
    """From low to high."""
    marks: Annotated[list[MarkEntry], Field(max_length=2000)]
    """Which marks mean which degree."""


@dataclass(frozen=True, slots=True)
class Degree:
    id: str
    ar: str
    en: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Degrees from low to high. The empty word, nothing said, is below all of them."""

    degrees: tuple[Degree, ...]

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(d.id for d in self.degrees)

    def rank(self, word: str) -> int:
        """0 for nothing said and for a word that is not of this scale, else from 1."""
        return next((i for i, d in enumerate(self.degrees, 1) if d.id == word), 0)

    def highest(self, words: Iterable[str]) -> str:
        """The highest of some words; empty when none is of this scale."""
        best = max((self.rank(word) for word in words), default=0)
        return self.degrees[best - 1].id if best else ""

    def at_least(self, word: str) -> frozenset[str]:
        """The words from this one up."""
        return frozenset(self.words[max(0, self.rank(word) - 1) :])


@dataclass(frozen=True)
class Marks:
    """Both scales and the map. ``meanings``: (source, folded value) -> (classification, urgency)."""

    classifications: Scale
    urgencies: Scale
    meanings: Mapping[tuple[str, str], tuple[str, str]]

    def read(self, marks: tuple[tuple[str, str], ...]) -> tuple[str, str]:
        """Classification and urgency that the raw marks of a letter amount to; empty words for none."""
        if not marks:
            return "", ""
        found = [m for m in (self.meanings.get(_plain(*mark)) for mark in marks) if m is not None]
        if not found:
            return "", ""
        return (
            self.classifications.highest([c for c, _ in found]),
            self.urgencies.highest([u for _, u in found]),
        )


@lru_cache(maxsize=2048)
def _plain(source: str, value: str) -> tuple[str, str]:
    """A raw mark in the form in which it is looked up."""
    if source == "x-priority":
        value = value.strip()[:1]  # "1 (Highest)"
    elif source in ("sensitivity", "importance", "priority"):
        value = value.partition("(")[0]
    return source, fold(value[:400])


def build_marks(entry: MarksEntry, document: Document, faults: list[Fault]) -> Marks:
    """The marks of a checked file; words that are on no scale and doubles go to ``faults``."""
    scales: dict[str, Scale] = {}
    for key, degrees in (("classification", entry.classifications), ("urgency", entry.urgencies)):
        plural = "classifications" if key == "classification" else "urgencies"
        seen: set[str] = set()
        for i, degree in enumerate(degrees):
            if degree.id in seen:
                faults.append(document.fault((plural, i, "id"), f"{degree.id} stands twice"))
            seen.add(degree.id)
        scales[key] = Scale(tuple(Degree(d.id, d.ar, d.en) for d in degrees))
    meanings: dict[tuple[str, str], tuple[str, str]] = {}
    for scale, source in (("classification", "wasl-classification"), ("urgency", "wasl-urgency")):
        # Our own fields bear the words themselves, or the names that people read.
        for d in scales[scale].degrees:
            said = (d.id, "") if scale == "classification" else ("", d.id)
            for name in (d.id, d.ar, d.en):
                meanings.setdefault(_plain(source, name), said)
    for i, mark in enumerate(entry.marks):
        for key in ("classification", "urgency"):
            word = getattr(mark, key)
            if word is not None and not scales[key].rank(word):
                hint = suggestion(word, scales[key].words)
                faults.append(document.fault(("marks", i, key), f"there is no {key} {word}", hint))
        said = (mark.classification or "", mark.urgency or "")
        for source in mark.source:
            for j, value in enumerate(mark.value):
                if meanings.setdefault(_plain(source, value), said) != said:
                    what = f"{value} under {source} means two things"
                    faults.append(document.fault(("marks", i, "value", j), what))
    return Marks(scales["classification"], scales["urgency"], meanings)
