"""What an audit of the store finds: rows that do not fit, each named with what was expected of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One row that does not fit: its table (or ``archive``), its key there, and what was expected."""

    table: str
    row: str
    expected: str

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.expected}"


@dataclass(slots=True, kw_only=True)
class StoreAudit:
    """What an audit saw."""

    misfits: list[Misfit] = field(default_factory=list)
    entries: int = 0
    checkpoints: int = 0
    objects: int = 0
    disposed: int = 0  # entries whose salt was destroyed: in the tree, and closed for good
    waiting: int = 0  # entries that have no place yet (several nodes)
    blamed: set[int] = field(default_factory=set)  # evidence that is named, or whose entry is
    bereft: set[int] = field(default_factory=set)  # letters that evidence is gone of

    def misfit(self, table: str, row: object, expected: str) -> None:
        """Name a row."""
        self.misfits.append(Misfit(table=table, row=str(row), expected=expected))
