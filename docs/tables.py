"""The README's tables that are made of the code: `python docs/tables.py` writes them anew in place.

Settings come from the fields of gateway/settings.py, commands from the typer application. Each table stands
between `<!-- table: NAME -->` and `<!-- end -->`. tests/unit/test_docs.py fails when a table is not what the
code says, and with LookupError when the markers are gone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
import typer

from gateway import settings_template
from gateway.commands import app

README = Path(__file__).parents[1] / "README.md"


def commands() -> str:
    """One row a command, with the first sentence of its help."""
    rows = ["| command | what it does |", "|---|---|"]
    rows += [f"| `wasl {name}` | {words} |" for name, words in every_command()]
    return "\n".join(rows)


def every_command() -> list[tuple[str, str]]:
    """Names as they are typed, such as ``queue list``, and what each does."""
    return _below(typer.main.get_command(app), "")


def _below(command: click.Command, name: str) -> list[tuple[str, str]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        sentence = re.split(r"(?<=\.)\s", " ".join((command.help or "").split()), maxsplit=1)[0]
        return [(name, sentence.replace("|", "\\|"))]
    return [row for key, one in inner.items() for row in _below(one, f"{name} {key}".strip())]


TABLES: dict[str, Callable[[], str]] = {"settings": settings_template.table, "commands": commands}


def standing(text: str, name: str) -> str:
    """The table of that name as it stands in ``text``; raises LookupError when it has no place there."""
    match = _place(name).search(text)
    if match is None:
        raise LookupError(f"no place for the table {name}")
    return match[2].strip("\n")


def _place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- table: {name}\b[^>]*-->\n)(.*?)(<!-- end -->)", re.DOTALL)


def put(text: str, name: str, table: str) -> str:
    """``text`` with that table in its place; raises LookupError when it has none."""
    standing(text, name)
    match = _place(name).search(text)
    assert match is not None
    return f"{text[: match.start(2)]}{table}\n{text[match.end(2) :]}"


def main() -> int:
    """Write all tables; exit status 0."""
    text = README.read_text("utf-8")
    for name, made in TABLES.items():
        text = put(text, name, made())
    README.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
