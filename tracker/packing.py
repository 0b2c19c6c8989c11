"""How the record's nouns are packed for the way to the record room and back.

Pickle reads and restores a frozen dataclass with slots field by field in Python; that was a fifth of what a
letter cost in the room. Here each noun is packed as its number and the tuple of its values, and made anew
through the descriptors of its slots. Both ends are the same program, so the numbers agree; what has no
number is packed as pickle does it. Nothing here fails that pickle does not: ``pack`` raises what it raises.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from operator import attrgetter
from typing import Any

from tracker.acceptance import Acceptance, Accepted, DeliveryDraft
from tracker.attempt_lease import Lease
from tracker.claims import Claim, Parcel, Want
from tracker.model import (
    Address,
    Connection,
    DeliveryKind,
    Door,
    Envelope,
    LetterKind,
    Recipient,
    TlsInfo,
)
from tracker.noting import AttemptEnd, Note, Noted
from tracker.states import Event, Grade, Outcome, Standing, State

_NOUNS: tuple[type, ...] = (
    Acceptance, Accepted, Address, AttemptEnd, Claim, Connection, DeliveryDraft, Envelope, Lease, Note, Noted,
    Parcel, Recipient, Standing, TlsInfo, Want,
)  # fmt: skip
_ENUMS: tuple[type[Enum], ...] = (DeliveryKind, Door, Event, Grade, LetterKind, Outcome, State)

_SETTERS: list[tuple[type, tuple[Callable[[Any, Any], None], ...]]] = []
_MEMBERS: list[list[Enum]] = []
_TABLE: dict[type, Callable[[Any], tuple[Any, ...]]] = {}


def pack(value: Any) -> bytes:
    """``value`` as octets; what :func:`unpack` makes of them is equal to it."""
    out = io.BytesIO()
    pickler = pickle.Pickler(out, protocol=5)
    pickler.dispatch_table = _TABLE
    pickler.dump(value)
    return out.getvalue()


def unpack(data: bytes | memoryview) -> Any:
    """The reverse of :func:`pack`; only for octets that this program packed."""
    return pickle.loads(data)


def _made(number: int, values: tuple[Any, ...]) -> Any:
    cls, setters = _SETTERS[number]
    noun: Any = object.__new__(cls)
    for put, value in zip(setters, values, strict=True):
        put(noun, value)
    return noun


def _member(number: int, index: int) -> Enum:
    return _MEMBERS[number][index]


def _register(number: int, noun: type) -> None:
    names = [f.name for f in fields(noun)]
    _SETTERS.append((noun, tuple([noun.__dict__[name].__set__ for name in names])))
    values = attrgetter(*names)
    _TABLE[noun] = lambda one: (_made, (number, values(one)))


def _register_enum(number: int, kind: type[Enum]) -> None:
    members = list(kind)
    _MEMBERS.append(members)
    packed = {member: (_member, (number, index)) for index, member in enumerate(members)}
    _TABLE[kind] = packed.__getitem__


for _number, _noun in enumerate(_NOUNS):
    _register(_number, _noun)
for _number, _kind in enumerate(_ENUMS):
    _register_enum(_number, _kind)
