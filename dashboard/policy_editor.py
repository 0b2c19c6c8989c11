"""The editor of the policy files: validation as one types, saving with conflict detection, approval.

Files are the truth. What is saved is checked whole with all other files of the folder, written there in one
step and read again, as if somebody had edited it on the gateway. A file that changed since it was opened is
never overwritten unseen: the editor shows what the other wrote. Nothing is read of a body before its sender
is known for an administrator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from dashboard.policy_desk import FolderChange, FolderChanged, NotWritten, PolicyDesk, text_digest
from dashboard.policy_pages import policy_of
from dashboard.rule_book import read_book
from dashboard.text_change import changed_lines
from dashboard.visit import SignedIn, Visit
from policies.faults import ConfigFaults, Fault
from policies.trial_room import RoomClosed, TrialRoom
from policies.versions import Draft, good_name
from tracker import audit, policy_store

router = APIRouter()

MAX_TEXT = 1 << 20  # characters of one file in the editor
MAX_NOTE = 400
SHOWN_FAULTS = 200

BEGINNING = """\
# What these rules are for.

rules:
  - id: first-rule
    priority: 500
    description:
      ar: ماذا تفعل القاعدة
      en: What the rule does
    mode: shadow
    match: {recipient: agency}
    require_tls: true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """What the editor sent."""

    name: str
    text: str
    opened: str
    note: str
    act: str

    @classmethod
    def of(cls, name: str, form: FormData) -> Edited:
        def field(key: str, limit: int) -> str:
            value = form.get(key)
            return value.replace("\x00", "")[:limit] if isinstance(value, str) else ""

        return cls(
            name=name,
            text=unix_lines(field("text", MAX_TEXT + 1)),
            opened=field("opened", 64),
            note=field("note", MAX_NOTE).strip(),
            act=field("act", 20),
        )


def unix_lines(text: str) -> str:
    """A form sends CRLF; a file ends in one line end."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain if not plain or plain.endswith("\n") else plain + "\n"


async def form_of(visit: Visit) -> FormData:
    """The fields of a large form; only after the visitor is known for one who may send it."""
    await run_in_threadpool(policy_of, visit, edit=True)
    try:
        return await visit.request.form(max_files=0, max_fields=60, max_part_size=4 * MAX_TEXT)
    except (ValueError, UnicodeDecodeError):
        raise HTTPException(400) from None


def version_of(request: Request, draft: Draft) -> str:
    """The version that a draft would be, compiled beside the mail; raises ConfigFaults."""
    room = cast(TrialRoom, request.app.state.trial_room)
    try:
        return room.check(draft)
    except OSError:  # no process to be had: slower for the mail, yet right
        return draft.compile().version
    except RoomClosed as e:
        raise ConfigFaults([Fault(file="", message=f"could not be examined: {e}")]) from None


def checked(visit: Visit, desk: PolicyDesk, files: Mapping[str, str]) -> tuple[Fault, ...]:
    """The faults of a whole folder; empty when it may come into force."""
    try:
        version_of(visit.request, desk.draft(files))
    except ConfigFaults as e:
        return e.faults
    return ()


def _on_disk(desk: PolicyDesk) -> dict[str, str]:
    try:
        return desk.on_disk()
    except OSError:
        return {}


@router.get("/policy/files")
def files(visit: SignedIn) -> Response:
    desk = policy_of(visit, edit=True)
    found = _on_disk(desk)
    by_file: dict[str, list[Fault]] = {}
    for fault in desk.faults():
        by_file.setdefault(fault.file, []).append(fault)
    book = read_book(found)
    built_in = read_book({n: t for n, t in desk.in_force().files.items() if n.startswith("default/")})
    visit.record(audit.Action.VIEW_POLICY, "files")
    return visit.page(
        "policy_files.html",
        files=[(name, len(book.of_file(name)), by_file.get(name, [])) for name in sorted(found)],
        built_in=sorted({rule.file for rule in built_in.rules}),
        counts={file: len(built_in.of_file(file)) for file in {rule.file for rule in built_in.rules}},
        editable=desk.editable,
        waiting=_waiting(visit),
        search_line="",
    )


def _waiting(visit: Visit) -> policy_store.Activation | None:
    """The proposal that waits for a second person."""
    with visit.desk.engine.connect() as conn:
        return next(iter(policy_store.proposed(conn)), None)


@router.get("/policy/new")
def new_file(visit: SignedIn, name: str = "") -> Response:
    """From the form's field to the address of the editor; nothing is made before it is saved."""
    policy_of(visit, edit=True)
    plain = name.strip()[:100]
    if plain and not plain.endswith((".yaml", ".yml")):
        plain += ".yaml"
    if not good_name(plain) or not plain.isascii() or any(char in plain for char in " \"'<>?#%&"):
        return RedirectResponse("/policy/files?bad-name=1", 303)
    return RedirectResponse(f"/policy/files/{plain}", 303)


@router.get("/policy/files/{name:path}")
def editor(visit: SignedIn, name: str, line: int = 0, saved: str = "") -> Response:
    desk = policy_of(visit, edit=True)
    found = _on_disk(desk)
    text = found.get(name)
    if text is None:
        shipped = desk.in_force().files.get(name) if name.startswith("default/") else None
        if shipped is not None:
            return _built_in(visit, name, shipped, line)
        if not good_name(name) or not desk.editable:
            raise visit.not_found(f"policy file {name[:100]}")
    visit.record(audit.Action.VIEW_POLICY, f"file {name}")
    faults = checked(visit, desk, found) if text is not None else ()
    return _editor(
        visit,
        desk,
        name,
        text if text is not None else BEGINNING,
        opened=text_digest(text),
        faults=faults,
        line=line,
        saved=saved if saved and text is not None else "",
    )


def _built_in(visit: Visit, name: str, text: str, line: int) -> Response:
    visit.record(audit.Action.VIEW_POLICY, f"file {name}")
    return visit.page("policy_shipped.html", name=name, text=text, line=line, search_line="")


def _editor(
    visit: Visit,
    desk: PolicyDesk,
    name: str,
    text: str,
    *,
    opened: str,
    faults: Sequence[Fault] = (),
    status: int = 200,
    note: str = "",
    line: int = 0,
    saved: str = "",
    conflict: Sequence[Any] | None = None,
    trouble: str = "",
) -> Response:
    waiting = _waiting(visit)
    return visit.page(
        "policy_editor.html",
        status,
        name=name,
        text=text,
        opened=opened,
        note=note,
        faults=list(faults)[:SHOWN_FAULTS],
        line=line,
        saved=saved,
        in_force=desk.in_force().policy.version,
        waiting=waiting,
        conflict=conflict,
        trouble=trouble,
        two_persons=desk.two_persons,
        editable=desk.editable,
        fresh=not opened,
        search_line="",
    )


@router.post("/policy/check")
async def check(visit: SignedIn, request: Request) -> Response:
    """The faults of the folder with one file as it stands in the editor."""
    await run_in_threadpool(policy_of, visit, edit=True)
    try:
        sent = json.loads(await request.body())
        name, text = str(sent["name"]), unix_lines(str(sent["text"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HTTPException(400) from None
    return await run_in_threadpool(_check, visit, name, text)


def _check(visit: Visit, name: str, text: str) -> Response:
    desk = policy_of(visit, edit=True)
    if not good_name(name) or len(text) > MAX_TEXT:
        raise HTTPException(400)
    faults = checked(visit, desk, _on_disk(desk) | {name: text})
    own = [fault for fault in faults if fault.file == name]
    rules = len(read_book({name: text}).rules) if not faults else 0  # only said when nothing is wrong
    told = visit.html("policy_faults.html", faults=list(faults)[:SHOWN_FAULTS], name=name, rules=rules)
    return JSONResponse(
        {
            "good": not faults,
            "html": told,
            "lines": sorted({fault.line for fault in own if fault.line}),
        }
    )


@router.post("/policy/files/{name:path}")
async def save(visit: SignedIn, name: str) -> Response:
    form = await form_of(visit)
    return await run_in_threadpool(_save, visit, Edited.of(name, form))


def _save(visit: Visit, edited: Edited) -> Response:
    desk = policy_of(visit, edit=True)
    if not desk.editable or not good_name(edited.name) or len(edited.text) > MAX_TEXT:
        raise HTTPException(400)
    say, name, remove = visit.tongue.say, edited.name, edited.act == "remove"
    change = FolderChange(files={name: None if remove else edited.text}, opened={name: edited.opened})
    again: dict[str, Any] = {"opened": edited.opened, "note": edited.note}
    try:
        saved = desk.save(change, by=visit.account.name, note=edited.note)
    except FolderChanged:
        theirs = _on_disk(desk).get(name)
        lines = changed_lines(theirs or "", edited.text)
        return _editor(
            visit, desk, name, edited.text, status=409, conflict=lines,
            opened=text_digest(theirs), note=edited.note,
        )  # fmt: skip
    except ConfigFaults as e:
        return _editor(visit, desk, name, edited.text, status=422, faults=e.faults, **again)
    except NotWritten as e:
        told = say("It could not be written: %(why)s", why=str(e))
        return _editor(visit, desk, name, edited.text, status=500, trouble=told, **again)
    except ValueError as e:
        return _editor(visit, desk, name, edited.text, status=422, trouble=str(e), **again)
    visit.record(
        audit.Action.POLICY_SAVED, name, version=saved.version, proposed=saved.proposed, note=edited.note
    )
    where = "/policy/files" if remove else f"/policy/files/{name}"
    return RedirectResponse(f"{where}?saved={saved.version}", 303)
