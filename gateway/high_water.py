"""High-water marks outside the database: how the gateway notices that it was given an older backup.

``high-water.json`` in the data directory holds the latest signed checkpoint and the highest register
numbers. :func:`check` compares the record with it before the gateway serves (DESIGN §8) and raises
:class:`Behind`, whose message says what to do. A missing file is the state of a new gateway.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tracker.ledger import Ledger, LedgerBroken
from tracker.record import Record
from tracker.registers import Registers
from tracker.store import Connection
from tracker.verify import Unproven


class Behind(RuntimeError):
    """The record is older than what this gateway has already published."""


def path_of(data_dir: Path) -> Path:
    return data_dir / "high-water.json"


def write(data_dir: Path, record: Record) -> None:
    """Keep the present marks; replaced in one step and synced."""
    with record.read() as conn:
        latest = record.ledger_reader.latest(conn)
        marks: dict[str, Any] = {
            "checkpoint": latest.note if latest is not None else None,
            "numbers": record.registers.marks(conn),
        }
    target = path_of(data_dir)
    part = target.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(marks, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)


def check(data_dir: Path, conn: Connection, ledger: Ledger, registers: Registers) -> None:
    """Compare the record with the marks; raises :class:`Behind`."""
    try:
        marks = json.loads(path_of(data_dir).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError as error:
        raise Behind(
            f"{path_of(data_dir)} cannot be read ({error}); compare the record with your last backup, "
            "then remove the file"
        ) from error
    wrong: list[str] = []
    if marks.get("checkpoint"):
        try:
            ledger.must_contain(conn, marks["checkpoint"])
        except (LedgerBroken, Unproven) as error:
            wrong.append(str(error))
    present = registers.marks(conn)
    for key, value in (marks.get("numbers") or {}).items():
        if present.get(key, 0) < value:
            wrong.append(f"register {key} stands at {present.get(key, 0)}, but {value} was given out")
    if wrong:
        raise Behind(
            "the database is behind what this gateway has published: "
            + "; ".join(wrong)
            + ". Restore the newest backup. If the loss is final, write it down and remove "
            + str(path_of(data_dir))
        )
