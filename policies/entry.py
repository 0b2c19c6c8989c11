"""What the files of a policy have in common: blocks of known keys, lists of one, names in two languages.

Every model of a policy file (rules, groups, marks, calendar) is an :class:`Entry`: unknown keys are
refused, and the text below a field is its description in the JSON Schema and in docs/policy.md.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from policies.agency_entry import Text


class Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True
    )


class Description(Entry):
    """A text in both languages."""

    ar: Text
    """In Arabic."""
    en: Text
    """In English."""


def _listed(value: object) -> object:
    return value if isinstance(value, (list, tuple)) else [value]


# A list that may be written as its only value.
ONE = BeforeValidator(_listed)
MANY = Field(min_length=1, max_length=5000)

Weekday = Literal["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
