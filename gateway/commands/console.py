"""What every command shares with the person at the terminal: tables, JSON, progress, errors.

On a terminal tables are drawn and coloured; in a pipe they are tab-separated lines without colour,
and ``--json`` gives one JSON object a line. Text that came with letters is shown with its control
and direction characters as escapes, so that it can neither move the cursor nor lie about itself.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

if TYPE_CHECKING:
    from gateway.settings import Settings

T = TypeVar("T")

# Exceptions whose text is for the person at the terminal, by module: none is imported for its name.
SAYS_WHAT_TO_DO = {
    "gateway.trouble": {"Trouble"},
    "gateway.control": {"NotRunning", "Refused"},
    "gateway.data_lock": {"Busy"},
    "tracker.store_errors": {"NodeTaken", "StoreError"},
    "tracker.accounts": {"AccountError"},
    "tracker.policy_store": {"PolicyStoreError"},
    "gateway.sign": {"SigningKeyError"},
    "gateway.serve": {"StartError"},
}

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="WASL_CONFIG",
        help="Settings file. Default: ./wasl.toml, then /etc/wasl/wasl.toml.",
    ),
]
UnusedConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Settings file. Nothing in it changes the answer; its faults are told when it is given.",
    ),
]
# What writes settings is told where on the command line only: WASL_CONFIG may name a gateway at work.
NewConfig = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings file to write. Default: DIR/wasl.toml."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def load_settings(config: Path | None) -> Settings:
    """The settings of this command; raises ConfigFaults."""
    from gateway.settings_file import find_settings, read_settings

    return read_settings(find_settings(config))


def check_settings(config: Path | None) -> None:
    """Settings that are named without need are right at least; raises ConfigFaults."""
    if config is not None:
        load_settings(config)


def new_place(directory: Path | None, config: Path | None) -> tuple[Path, Path]:
    """The folder of a gateway that is to be made, and its settings file; the present folder when neither is
    named."""
    import os

    def straight(path: Path) -> Path:  # without following links
        return Path(os.path.normpath(path.absolute()))

    if config is None:
        root = straight(directory or Path.cwd())
        return root, root / "wasl.toml"
    file = straight(config)
    return straight(directory or file.parent), file


def safe(value: object) -> str:
    """Text for a terminal: control and direction characters as escapes."""
    return _UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", str(value))


def say(text: str = "") -> None:
    """Lines to standard output."""
    for line in text.split("\n"):
        print(safe(line))


def warn(text: str) -> None:
    """Lines to standard error."""
    for line in text.split("\n"):
        print(safe(line), file=sys.stderr)


def put_json(value: object) -> None:
    """One object on one line."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Rows for people on a terminal, tab-separated lines in a pipe."""
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in rows:
            print("\t".join(safe("" if cell is None else cell) for cell in row))
        return
    if not rows:
        print("none")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(columns):
        drawn.add_column(name, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(safe("" if cell is None else cell)) for cell in row))
    Console().print(drawn)


class Progress(Protocol):
    """Called with how much of how much is done."""

    def __call__(self, done: int, total: int) -> None: ...


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A bar on standard error while something long runs; nothing off a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


def names_from(names: Sequence[str]) -> list[str]:
    """The names on the command line; ``-`` stands for those of the lines on standard input.

    What is no text in them is written as escapes, so that such a name means nothing and stops no other:
    neither a database nor a request in JSON takes it.
    """
    if "-" in names and isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="backslashreplace")
    return [safe(one) for name in names for one in (_piped(sys.stdin) if name == "-" else (name,))]


def _piped(lines: Iterable[str]) -> Iterator[str]:
    """The first word of each line, or the id in each JSON object; the heading of our own lists is none."""
    for number, line in enumerate(lines):
        first, *_ = line.split(None, 1) or ("",)
        if first.startswith("{"):
            try:
                told = json.loads(line)
            except ValueError:
                told = {}
            first = next((str(told[key]) for key in ("id", "delivery", "hold") if told.get(key)), first)
        elif number == 0 and line.startswith("id\t"):
            continue
        if first:
            yield first


def public_id(number: int) -> str:
    """An id as people and programs see it."""
    from tracker.model import id_text

    return id_text(number)


def parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    """An option's value by a parser that raises ValueError."""
    try:
        return parse(text)
    except ValueError as e:
        raise typer.BadParameter(str(e), param_hint=option) from None


def person() -> str:
    """Who sits at this terminal: written into the record beside every act."""
    import getpass
    import os

    real = os.environ.get("SUDO_USER")
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = f"uid {os.getuid()}"
    return f"{real} (as {name})" if real and real != name else name


def explain(error: Exception) -> list[str] | None:
    """The lines that tell a person what is wrong, or None for what nobody foresaw."""
    from policies.faults import ConfigFaults

    if isinstance(error, ConfigFaults):
        lines = [safe(fault) for fault in error.faults]
        return [*lines, f"{len(lines)} faults"] if len(lines) > 1 else lines
    kind = type(error)
    if kind.__name__ in SAYS_WHAT_TO_DO.get(kind.__module__, ()):
        return [safe(line) for line in f"wasl: {error}".split("\n")]
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return [f"wasl: {safe(where)}{error.strerror or error}"]
    if kind.__module__.startswith("sqlalchemy."):
        return [f"wasl: the database: {safe(getattr(error, 'orig', None) or error)}".split("\\u000a")[0]]
    return None


def json_of(value: Any) -> Any:
    """A dataclass of the record as plain values: bytes in hexadecimal, ids in their public form."""
    from dataclasses import fields, is_dataclass
    from enum import Enum

    from tracker.model import id_text

    if is_dataclass(value) and not isinstance(value, type):
        out = {}
        for item in fields(value):
            one = getattr(value, item.name)
            is_id = item.name == "id" or item.name.endswith("_id")
            out[item.name] = id_text(one) if is_id and isinstance(one, int) else json_of(one)
        return out
    if isinstance(value, Enum):
        return value.name.lower() if isinstance(value, int) else value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: json_of(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_of(one) for one in value]
    return value
