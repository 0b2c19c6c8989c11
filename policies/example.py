"""Examples beside the rules: a message, how it comes, and what must become of it.

They lie in ``examples/`` of a policy folder: files with a list ``examples:``, each with its message inside
or in an ``.eml`` beside it, or pairs ``NAME.eml`` and ``NAME.expect.yaml``. An example says only what it is
about; what it does not name may be anything. What is wrong in a file raises
:class:`policies.faults.ConfigFaults` with its line, a message that is not there among it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from policies.chain import Policy
from policies.document import Document, read_documents
from policies.facts import Answered, Surroundings
from policies.faults import ConfigFaults, Fault, Loc, faults_of, suggestion
from policies.rates import PolicyState
from policies.trial import Handing, facts_of
from policies.verdict import Verdict
from tracker.model import NULL_PATH, Address, AddressError, Door

FOLDER = "examples"
EXPECT = ".expect.yaml"
MAX_EXAMPLES = 5_000
MAX_LETTER = 50_000_000  # octets


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _address(text: str) -> str:
    try:
        Address.parse(text)
    except AddressError as e:
        raise ValueError(str(e)) from None
    return text


def _moment(text: object) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError("must be a time, such as 2026-11-22 10:00") from None


def _sender(text: str) -> str:
    return text if text in ("", "<>") else _address(text)


Texts = Annotated[list[str], BeforeValidator(_listed)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Expected(_Entry):
    """What must become of a recipient; what is left out may be anything."""

    action: Literal["accept", "hold", "reject", "pass"] | None = None
    kind: Literal["letter", "shadow", "pass", "report"] | None = None
    rule: str | None = None  # that decides
    hits: Texts | None = None  # these apply, among others
    misses: Texts | None = None  # these do not
    shadow: Texts | None = None  # these would apply: they are in shadow mode
    reply: str | None = None  # how it begins, such as "550 5.7.1"
    hop: str | None = None
    mailbox: str | None = None
    classification: str | None = None
    urgency: str | None = None
    due: str | None = None  # a day, or a time, in the gateway's zone; none
    approvers: Texts | None = None
    persons: int | None = None
    then: Literal["release", "refuse"] | None = None
    tag: bool | None = None
    subject_tag: bool | None = None
    sign: bool | None = None
    require_tls: bool | None = None
    requiretls: bool | None = None
    receipts: Texts | None = None
    receipts_to: Texts | None = None
    digest: bool | None = None
    answers: str | None = None
    ask_read: str | None = None
    copies: Texts | None = None
    notify: Texts | None = None


class AnswersEntry(_Entry):
    """The letter that the message answers."""

    agency: str = ""
    number: str = ""
    classification: str = ""
    urgency: str = ""
    due: Moment | None = None


class ExampleEntry(_Entry):
    name: str = ""
    letter: str | None = None
    """An .eml file beside this one; else ``header`` and ``text`` are the message."""
    header: dict[str, str] = Field(default_factory=dict)
    text: str = ""
    sender: Annotated[str, AfterValidator(_sender), Field(alias="from")]
    to: Annotated[
        list[Annotated[str, AfterValidator(_address)]], BeforeValidator(_listed), Field(min_length=1)
    ]
    door: Literal["relay", "submission"] = "relay"
    agency: str | None = None
    account: str | None = None
    peer: str = "127.0.0.1"
    at: Moment | None = None
    answers: AnswersEntry | None = None
    results: dict[str, str] = Field(default_factory=dict)
    expect: Expected | dict[str, Expected]

    @model_validator(mode="after")
    def _whole(self) -> ExampleEntry:
        if self.letter is not None and (self.header or self.text):
            raise ValueError("letter, or header and text: one of them is the message")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One example, read whole."""

    name: str
    file: str
    line: int
    octets: bytes
    handing: Handing
    expected: Mapping[str, Expected]  # by recipient


@dataclass(frozen=True, slots=True)
class Misfit:
    """Where a policy does not do what an example expects."""

    recipient: str
    key: str
    expected: str
    found: str
    rule: str  # that decided

    def __str__(self) -> str:
        return f"{self.recipient}: {self.key} is {self.found}, expected {self.expected} (rule {self.rule})"


def examples(folder: Path, zone: ZoneInfo, at_us: int) -> list[Example]:
    """Every example in ``folder/examples``; those without a time come at ``at_us``. Raises ConfigFaults."""
    root = folder / FOLDER
    found: list[Example] = []
    faults: list[Fault] = []
    if not root.is_dir():
        return found
    for path in sorted(root.rglob("*")):
        if path.suffix not in (".yaml", ".yml") or path.name.startswith((".", "_")):
            continue
        name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
        try:
            documents, _ = read_documents(path, name)
        except ConfigFaults as e:
            faults += e.faults
            continue
        for document in documents:
            for data, loc in _entries(document, path, faults):
                one = _example(data, loc, document, path, zone, at_us, faults)
                if one is not None:
                    found.append(one)
    if len(found) > MAX_EXAMPLES:
        faults.append(Fault(file=root.as_posix(), message=f"holds more than {MAX_EXAMPLES} examples"))
    if faults:
        raise ConfigFaults(faults)
    return found


def _entries(document: Document, path: Path, faults: list[Fault]) -> Iterator[tuple[dict[str, Any], Loc]]:
    data = document.data
    if data is None:
        return
    if path.name.endswith(EXPECT) and isinstance(data, dict):
        yield {"letter": path.name.removesuffix(EXPECT) + ".eml"} | data, ()
        return
    if not isinstance(data, dict) or not isinstance(data.get("examples"), list):
        faults.append(document.fault((), "must hold examples:, a list"))
        return
    for key in data:
        if key != "examples":
            faults.append(document.fault((key,), "unknown key", suggestion(key, ("examples",))))
    for i, entry in enumerate(data["examples"]):
        if isinstance(entry, dict):
            yield entry, ("examples", i)
        else:
            faults.append(document.fault(("examples", i), "must be an example: from, to, expect"))


def _example(
    data: dict[str, Any],
    loc: Loc,
    document: Document,
    path: Path,
    zone: ZoneInfo,
    at_us: int,
    faults: list[Fault],
) -> Example | None:
    expect = data.get("expect")
    several = isinstance(expect, dict) and bool(expect) and all("@" in str(key) for key in expect)
    if expect is not None and not several:
        data = data | {"expect": {"": expect}}  # one for all recipients
    try:
        entry = ExampleEntry.model_validate(data)
    except ValidationError as e:
        found = faults_of(e, ExampleEntry, document.file, document.place, loc)
        faults += [_plain(fault) for fault in found]
        return None
    assert isinstance(entry.expect, dict)
    octets = _octets(entry, path, document, loc, faults)
    if octets is None:
        return None
    for address in entry.expect:
        if address and address not in entry.to:
            hint = suggestion(address, entry.to)
            faults.append(document.fault((*loc, "expect", address), "is no recipient of this example", hint))
    where = loc if loc else ("expect",)
    return Example(
        name=entry.name or path.name.removesuffix(EXPECT),
        file=document.file,
        line=document.place((*where, "name") if entry.name else where)[0],
        octets=octets,
        handing=Handing(
            sender=NULL_PATH if entry.sender in ("", "<>") else Address.parse(entry.sender),
            recipients=tuple(Address.parse(to) for to in entry.to),
            door=Door(entry.door),
            agency=entry.agency,
            account=entry.account,
            peer=entry.peer,
            at_us=at_us if entry.at is None else _us(entry.at, zone),
            answered=_answered(entry.answers, zone),
            results=tuple(entry.results.items()),
        ),
        expected=entry.expect,
    )


def _plain(fault: Fault) -> Fault:
    """The place of a fault as it stands in the file, without what the model made of it."""
    words = [part for part in fault.key.split(".") if part not in ("Expected", "dict[str,Expected]", "")]
    return Fault(
        file=fault.file,
        line=fault.line,
        column=fault.column,
        key=".".join(words),
        message=fault.message,
        hint=fault.hint,
    )


def _octets(
    entry: ExampleEntry, path: Path, document: Document, loc: Loc, faults: list[Fault]
) -> bytes | None:
    if entry.letter is None:
        fields = {"From": entry.sender, "To": ", ".join(entry.to), "Message-ID": "<example@wasl.invalid>"}
        names = {name.lower() for name in entry.header}
        lines = [f"{name}: {value}" for name, value in fields.items() if name.lower() not in names and value]
        lines += [f"{name}: {' '.join(value.split())}" for name, value in entry.header.items()]
        text = "\n".join([*lines, "", entry.text or "text"])
        return text.replace("\r\n", "\n").replace("\n", "\r\n").encode() + b"\r\n"
    file = path.parent / entry.letter
    try:
        inside = file.resolve().is_relative_to(path.parent.resolve())
        if not inside or file.stat().st_size > MAX_LETTER:
            raise OSError(0, "must lie beside the example" if not inside else "is too large")
        octets = file.read_bytes()
    except OSError as e:
        faults.append(document.fault((*loc, "letter"), f"{entry.letter}: {e.strerror or e}"))
        return None
    # The wire has CRLF; editors on most systems write LF alone.
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _answered(entry: AnswersEntry | None, zone: ZoneInfo) -> Answered | None:
    if entry is None:
        return None
    return Answered(
        letter_id=1,
        number=entry.number,
        agency=entry.agency,
        classification=entry.classification,
        urgency=entry.urgency,
        due_us=None if entry.due is None else _us(entry.due, zone),
    )


def _us(when: datetime, zone: ZoneInfo) -> int:
    return int((when if when.tzinfo is not None else when.replace(tzinfo=zone)).timestamp() * 1_000_000)


def try_example(policy: Policy, example: Example, around: Surroundings, zone: ZoneInfo) -> list[Misfit]:
    """Where the policy does otherwise than the example expects; empty when it does as it should."""
    facts = facts_of(example.octets, example.handing, around, policy.needs_fields)
    out: list[Misfit] = []
    for verdict in policy.decide(facts, PolicyState()).verdicts:
        address = str(verdict.recipient.address)
        expected = example.expected.get(address) or example.expected.get("")
        if expected is not None:
            out += _misfits(address, expected, verdict, zone)
    return out


def _misfits(address: str, expected: Expected, verdict: Verdict, zone: ZoneInfo) -> Iterator[Misfit]:
    found = _found(verdict)
    for key in Expected.model_fields:
        wanted = getattr(expected, key)
        if wanted is None:
            continue
        if key in ("hits", "misses", "shadow"):
            applied = verdict.would if key == "shadow" else verdict.hits
            wrong = [rule for rule in wanted if (rule in applied) is (key == "misses")]
            if wrong:
                yield _misfit(address, key, ", ".join(wrong), ", ".join(applied) or "none", verdict)
        elif key == "reply":
            if not str(found[key]).startswith(wanted):
                yield _misfit(address, key, wanted, found[key] or "none", verdict)
        elif key == "due":
            if not _same_time(wanted, verdict.due_us, zone):
                yield _misfit(address, key, wanted, _shown(verdict.due_us, zone), verdict)
        elif isinstance(wanted, list):
            if sorted(wanted) != sorted(found[key] or ()):
                yield _misfit(address, key, ", ".join(wanted) or "none", found[key], verdict)
        elif wanted != found[key]:
            yield _misfit(address, key, wanted, found[key], verdict)


def _found(v: Verdict) -> dict[str, Any]:
    return {
        "action": v.action.value,
        "kind": v.kind.value,
        "rule": v.rule,
        "reply": str(v.reply) if v.reply is not None else "",
        "hop": v.hop,
        "mailbox": str(v.mailbox) if v.mailbox is not None else "",
        "classification": v.classification,
        "urgency": v.urgency,
        "approvers": list(v.hold.approvers) if v.hold is not None else [],
        "persons": v.hold.persons if v.hold is not None else 0,
        "then": v.hold.then.value if v.hold is not None else "",
        "tag": v.tag,
        "subject_tag": v.subject_tag,
        "sign": v.sign,
        "require_tls": v.require_tls,
        "requiretls": v.requiretls,
        "receipts": v.receipts,
        "receipts_to": v.receipts_to,
        "digest": v.digest,
        "answers": v.answers,
        "ask_read": v.ask_read,
        "copies": [str(address) for address in v.copies],
        "notify": [str(address) for address in v.notify],
    }


def _misfit(address: str, key: str, expected: object, found: object, verdict: Verdict) -> Misfit:
    return Misfit(address, key, _words(expected), _words(found), verdict.rule)


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)


def _same_time(wanted: str, due_us: int | None, zone: ZoneInfo) -> bool:
    if wanted.strip().lower() in ("none", ""):
        return due_us is None
    if due_us is None:
        return False
    due = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=due_us)
    try:
        if len(wanted.strip()) == 10:
            return due.astimezone(zone).date() == date.fromisoformat(wanted.strip())
        when = datetime.fromisoformat(wanted.strip())
    except ValueError:
        return False
    return abs(_us(when, zone) - due_us) < 60_000_000  # to the minute


def _shown(due_us: int | None, zone: ZoneInfo) -> str:
    if due_us is None:
        return "none"
    due = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=due_us)).astimezone(zone)
    return due.strftime("%Y-%m-%d") if due.time() == time() else due.strftime("%Y-%m-%d %H:%M")
