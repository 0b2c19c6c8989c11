"""Wasl itself among the servers: made by ``wasl init``, run by ``wasl serve``, asked by its own commands.

What an administrator does by hand is done here in the same way, through the command line and the files it
writes, so that whoever uses this tries the command line as well. The gateway is a process of its own and
listens where its settings say; nothing of it is imported.

How it fails: :class:`ServerFailed` carries what the command or the gateway wrote.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.servers import ready
from tests.servers.place import PATIENCE, Child, ServerFailed, read_log, wait_until

Value = str | int | bool | Sequence[str]


def _toml(value: Value) -> str:
    """A text, number, flag or list of texts: TOML writes them as JSON does."""
    return json.dumps(value if isinstance(value, str | int) else list(value), ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class House:
    """A gateway's folder. What stands in it can be read and changed while no gateway runs there."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "wasl.toml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def run(
        self, *arguments: str | Path, words: str | None = None, may_fail: bool = False, person: str = ""
    ) -> str:
        """Run a ``wasl`` command on this gateway; its standard output. ``words`` is its standard input.

        ``person`` is who sits at the terminal and has called sudo.
        """
        command = [*map(str, arguments), "--config", str(self.settings)]
        return wasl(*command, words=words, may_fail=may_fail, person=person)

    def rows(self, *arguments: str | Path, person: str = "") -> list[dict[str, Any]]:
        """The JSON lines of a command that knows ``--json``."""
        return [json.loads(line) for line in self.run(*arguments, "--json", person=person).splitlines()]

    def set(self, section: str, **values: Value) -> None:
        """Give keys of a section of the settings a value, in the place where they stand as comments."""
        text = self.settings.read_text("utf-8")
        start = re.search(rf"^\[{re.escape(section)}\]$", text, re.MULTILINE)
        if start is None:
            raise ServerFailed(f"{self.settings} has no section [{section}]")
        end = re.search(r"^\[", text[start.end() :], re.MULTILINE)
        stop = start.end() + end.start() if end else len(text)
        body = text[start.end() : stop]
        for key, value in values.items():
            line = re.search(rf"^(# )?{re.escape(key)} =.*$", body, re.MULTILINE)
            if line is None:
                raise ServerFailed(f"{self.settings} has no {section}.{key}")
            body = f"{body[: line.start()]}{key} = {_toml(value)}{body[line.end() :]}"
        self.settings.write_text(text[: start.end()] + body + text[stop:], "utf-8")

    def listen(self, door: str, address: str) -> None:
        """Add a listener."""
        with self.settings.open("a", encoding="utf-8") as out:
            out.write(f"\n[[listen]]\ndoor = {_toml(door)}\naddress = {_toml(address)}\n")

    def agency(self, code: str, lines: str) -> Path:
        """Add lines to an agency's file; a key that stood there already gives way."""
        path = self.root / "agencies" / f"{code.lower()}.yaml"
        given = {match[1] for match in re.finditer(r"^(\w+):", lines, re.MULTILINE)}
        kept: list[str] = []
        keep = True
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            key = re.match(r"(\w+):", line)
            keep = key[1] not in given if key else keep
            kept += [line] if keep else []
        part = path.with_suffix(".part")
        part.write_text("\n".join([*kept, lines.strip("\n"), ""]), "utf-8")
        part.rename(path)
        return path

    def keys(self, code: str) -> dict[str, str]:
        """Make DKIM keys for an agency and put them into its file; name to value of the DNS records."""
        made = self.rows("keys", "make", code)
        lines = "".join(
            f"  - {{selector: {key['selector']}, domain: {key['domain']}, key_file: {_toml(key['file'])}}}\n"
            for key in made
        )
        self.agency(code, f"dkim:\n{lines}")
        return {key["name"].rstrip("."): key["value"] for key in made}


def wasl(*arguments: str, words: str | None = None, may_fail: bool = False, person: str = "") -> str:
    """Run the command ``wasl``; raises :class:`ServerFailed` with its words when it does not exit with 0."""
    env = {**os.environ, "SUDO_USER": person} if person else None
    done = ready.run(arguments, words=words or "", env=env)
    if done.returncode and not may_fail:
        raise ServerFailed(f"wasl {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


def new_house(
    root: Path,
    *,
    hostname: str = "wasl.gov.example",
    relay: str = "127.0.0.1:0",
    agencies: Path | None = None,
) -> tuple[House, dict[str, Any]]:
    """Make a gateway with ``wasl init``; the house and what the command answered."""
    more = ["--agencies", str(agencies)] if agencies else []
    said = wasl("init", str(root), "--hostname", hostname, "--relay", relay, "--json", *more)
    house = House(root=root)
    for section in ("dashboard", "metrics"):  # the usual ports are those of one gateway on a machine
        house.set(section, listen="127.0.0.1:0")
    return house, json.loads(said)


@cache
def _model(hostname: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="wasl-house-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    house, _ = new_house(folder / "gateway", hostname=hostname)
    return house.root


def copied_house(root: Path, *, hostname: str = "wasl.gov.example") -> House:
    """A gateway as ``wasl init`` makes it, made so once a process: the others are copies of it."""
    shutil.copytree(_model(hostname), root)
    return House(root=root)


@dataclass(frozen=True, kw_only=True)
class Wasl:
    """A running gateway: the port of each door and listener by its name in the settings."""

    house: House
    child: Child
    ports: Mapping[str, int]

    @property
    def relay(self) -> int:
        return self.ports["relay"]

    @property
    def submission(self) -> int:
        return self.ports["submission"]

    def log(self) -> str:
        """All that it logged."""
        return read_log(self.child.log, last=10_000_000)

    def wait_log(self, words: str, *, timeout: float = PATIENCE) -> None:
        """Wait until the log holds ``words``."""
        wait_until(lambda: words in self.log(), f"{words!r} in the log", timeout=timeout, hint=self.log)


@contextmanager
def serving(
    house: House,
    log: Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    roles: Sequence[str] = (),
) -> Iterator[Wasl]:
    """Run ``wasl serve`` on a house until the end of the block.

    ``env`` is more environment for it, ``roles`` are the roles it runs (all when none is named).
    """
    listening = house.data / "listening"
    listening.unlink(missing_ok=True)
    command: list[str | Path] = [Path(sys.executable).with_name("wasl"), "serve", "--config", house.settings]
    for role in roles:
        command += ["--role", role]
    with Child(command, log=log or house.root / "serve.log", env=env, grace=30) as child:
        child.ready(listening.exists, "wasl serve")
        ports: dict[str, int] = {}
        for line in listening.read_text().splitlines():
            door, _, port = line.split()
            ports[door] = int(port)
        yield Wasl(house=house, child=child, ports=ports)
