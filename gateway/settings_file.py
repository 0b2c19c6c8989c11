"""Reading ``wasl.toml``: TOML, the environment's overrides, and faults that name their line.

:func:`find_settings` looks where the command line looks; :func:`read_settings` reads and
checks what is there. Raises :class:`policies.faults.ConfigFaults` only.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gateway.setting_values import Endpoint
from gateway.settings import Settings, WireDoor
from gateway.toml_places import Loc, Place, places
from policies.faults import ConfigFaults, Fault, faults_of

SYSTEM_FILE = Path("/etc/wasl/wasl.toml")
MAX_OCTETS = 1_000_000
ENVIRONMENT = "environment"
_PREFIX = "WASL__"
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def find_settings(given: Path | None) -> Path:
    """``given``, else ``./wasl.toml``, else the system's; raises ConfigFaults when there is none."""
    if given is not None:
        return given
    for path in (Path("wasl.toml"), SYSTEM_FILE):
        if path.exists():
            return path
    hint = "make one with `wasl init DIR`, or name it with --config FILE"
    raise ConfigFaults([Fault(file="wasl.toml", message=f"not found here nor as {SYSTEM_FILE}", hint=hint)])


def read_settings(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in a file; raises ConfigFaults with every fault and its line.

    ``environ``: where their overrides stand, by default the process's environment.
    """
    name = str(path)
    text = _text(path, name)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigFaults([_syntax(str(e), text, name)]) from None
    except (RecursionError, ValueError):
        raise ConfigFaults(
            [Fault(file=name, message="is nested too deeply or holds an absurd number")]
        ) from None
    found = places(text)
    changed, faults = _override(data, os.environ if environ is None else environ)
    # Sections that are not there are read too, so that their default paths get their base.
    for section, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            data.setdefault(section, {})

    def place(loc: Loc) -> Place:
        while loc and loc not in found:
            loc = loc[:-1]
        return found.get(loc, (1, 1))

    settings = None
    try:
        settings = Settings.model_validate(data, context={"base": path.absolute().parent})
    except ValidationError as e:
        for fault in faults_of(e, Settings, name, place):
            if fault.key in changed:
                variable = changed[fault.key]
                fault = Fault(file=ENVIRONMENT, key=variable, message=fault.message, hint=fault.hint)
            faults.append(fault)
    if settings is not None:
        for loc, message, hint in _together(settings):
            line, column = place(loc)
            key = ".".join(map(str, loc))
            faults.append(Fault(file=name, line=line, column=column, key=key, message=message, hint=hint))
    if faults or settings is None:
        raise ConfigFaults(faults)
    return settings


def _text(path: Path, name: str) -> str:
    try:
        octets = path.read_bytes()
    except (OSError, ValueError) as e:
        hint = "make one with `wasl init DIR`" if isinstance(e, FileNotFoundError) else ""
        what = getattr(e, "strerror", None) or str(e)
        raise ConfigFaults([Fault(file=name, message=f"cannot be read: {what}", hint=hint)]) from None
    if len(octets) > MAX_OCTETS:
        raise ConfigFaults([Fault(file=name, message=f"is larger than {MAX_OCTETS} octets")])
    try:
        return octets.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as e:
        line = octets.count(b"\n", 0, e.start) + 1
        raise ConfigFaults([Fault(file=name, line=line, message="is not UTF-8")]) from None


def _syntax(message: str, text: str, name: str) -> Fault:
    match = _AT.search(message)
    what = _AT.sub("", message)
    if match is None:
        return Fault(file=name, message=f"is not TOML: {what}")
    line, column = (int(match[1]), int(match[2])) if match[1] else (text.count("\n") + 1, 1)
    hint = ""
    stand = text.split("\n")[line - 1].strip() if line <= text.count("\n") + 1 else ""
    if what == "Invalid value" and re.fullmatch(r"[\w.-]+\s*=\s*[^\s\"'\[{].*", stand):
        hint = 'put text in quotes: key = "text"'
    return Fault(file=name, line=line, column=column, message=f"is not TOML: {what}", hint=hint)


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, str], list[Fault]]:
    """Put ``WASL__SECTION__KEY`` into ``data``; returns which key came from which variable."""
    changed: dict[str, str] = {}
    faults: list[Fault] = []
    for variable in sorted(v for v in environ if v.startswith(_PREFIX)):
        parts = variable.removeprefix(_PREFIX).lower().split("__")
        at: Any = data
        for part, after in pairwise(parts):
            if isinstance(at, list) and part.isdigit() and int(part) < len(at):
                at = at[int(part)]
            elif isinstance(at, dict) and (part in at or not after.isdigit()):
                at = at.setdefault(part, {})
            else:
                at = None
        if not isinstance(at, dict) or not all(parts):
            fault = Fault(
                file=ENVIRONMENT, key=variable, message="names no setting", hint="WASL__SECTION__KEY"
            )
            faults.append(fault)
            continue
        at[parts[-1]] = _literal(environ[variable])
        changed[".".join(parts)] = variable
    return changed, faults


def _literal(text: str) -> Any:
    """A value of the environment: TOML where it is TOML (numbers, true, lists), else text."""
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):
        return text


def _together(s: Settings) -> list[tuple[Loc, str, str]]:
    """What only shows when sections are seen together."""
    out: list[tuple[Loc, str, str]] = []
    taken: dict[tuple[str, int], str] = {}
    sockets: list[tuple[str, Loc, Endpoint]] = []
    sockets += [("dashboard", ("dashboard", "listen"), s.dashboard.listen)] if s.dashboard.enabled else []
    sockets += [("metrics", ("metrics", "listen"), s.metrics.listen)] if s.metrics.enabled else []
    sockets += [(f"listen.{i}", ("listen", i, "address"), x.address) for i, x in enumerate(s.listen)]
    for owner, loc, address in sockets:
        if address.port:
            other = taken.setdefault((address.host, address.port), owner)
            if other != owner:
                out.append((loc, f"{address} is already that of {other}", ""))
    for i, listen in enumerate(s.listen):
        if listen.door is not WireDoor.RELAY and listen.certificate is None and s.tls.certificate is None:
            what = f"the door {listen.door} needs a certificate: passwords are not taken in clear"
            out.append((("listen", i, "door"), what, "set tls.certificate and tls.key"))
    if s.database.url is not None and s.database.url.startswith("sqlite") and s.gateway.node:
        out.append((("gateway", "node"), "several nodes need PostgreSQL", "set database.url"))
    return out
