"""Writing agencies into the directory: the text of a file, CSV in, all of them or none.

The YAML files are the truth; this only adds files. A row that would make the directory bad is
refused with its line in the CSV file, and nothing is left behind. Codes are looked at before anything is
written: the files are named after them, and the directory leaves some names alone.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from gateway.trouble import Trouble
from policies.agency_entry import AgencyEntry
from policies.directory import load_directory
from policies.faults import ConfigFaults, Fault, faults_of, suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencyRow:
    """One agency that is about to be written; ``where`` is where it came from."""

    code: str
    name_ar: str
    name_en: str
    domains: list[str]
    networks: list[str] = field(default_factory=list)
    registry: str | None = None
    mode: str | None = None
    where: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """File and line as faults tell them; a row of no file goes by its code."""
        file, _, line = self.where.rpartition(":")
        return (file, int(line)) if file else (self.code or "''", 0)

    def yaml(self, next_hop: str | None) -> str:
        """The text of the agency's file. JSON strings are YAML strings."""
        lines = [
            f"code: {_quoted(self.code)}",
            f"name_ar: {_quoted(self.name_ar)}",
            f"name_en: {_quoted(self.name_en)}",
            f"domains: [{', '.join(map(_quoted, self.domains))}]",
        ]
        if self.registry:
            lines.append(f"registry: {_quoted(self.registry)}")
        if self.mode:
            lines.append(f"mode: {_quoted(self.mode)}")
        if self.networks:
            lines.append(f"networks: [{', '.join(map(_quoted, self.networks))}]")
        if next_hop is not None:
            lines += _hop_lines(next_hop, self.code, self.domains[0] if self.domains else "")
        return "\n".join(lines) + "\n"


# Words that one version of YAML or another reads as something else than text.
_NO_TEXT = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _quoted(text: str) -> str:
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9.@-]*", text) and text.lower() not in _NO_TEXT:
        return text
    return json.dumps(text, ensure_ascii=False)


_URL = re.compile(r"(smtp|smtps|lmtp)://(\[[0-9A-Fa-f:.]+\]|[^/:\s]+)(?::(\d{1,5}))?/?")
_PORTS = {"smtp": 25, "smtps": 465, "lmtp": 24}


def _hop_lines(template: str, code: str, domain: str) -> list[str]:
    """The lines of ``next_hop:`` from a URL; raises Trouble."""
    url = template.replace("{code}", code).replace("{code_lower}", code.lower()).replace("{domain}", domain)
    match = _URL.fullmatch(url)
    if match is None:
        raise Trouble(f"{url!r} is no next hop such as smtp://mail.{{domain}}:25 or lmtp://127.0.0.1:24")
    scheme, host, port = match[1], match[2].strip("[]"), int(match[3] or _PORTS[match[1]])
    lines = ["next_hop:", f"  host: {_quoted(host)}", f"  port: {port}"]
    if scheme == "lmtp":
        lines += ["  protocol: lmtp", "  tls: none"]
    elif scheme == "smtps":
        lines.append("  tls: implicit")
    return lines


def read_csv(file: Path, mode: str | None) -> list[AgencyRow]:
    """The rows of a CSV file; raises ConfigFaults with lines."""
    known = ("code", "name_ar", "name_en", "domain", "domains", "registry", "network", "networks", "mode")
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigFaults(
            [Fault(file=str(file), message="is not UTF-8", hint="save it as CSV UTF-8")]
        ) from None
    try:
        dialect = csv.Sniffer().sniff(text.split("\n")[0], ",;\t")
    except csv.Error:
        dialect = csv.excel
    reader = csv.DictReader(io.StringIO(text, newline=""), dialect=dialect)
    faults = []
    for name in reader.fieldnames or ():
        if name is None or name.strip() not in known:
            hint = suggestion(str(name), known)
            faults.append(Fault(file=str(file), line=1, key=str(name), message="unknown column", hint=hint))
    named = [str(name).strip() for name in reader.fieldnames or ()]
    for name in ("code", "name_ar", "name_en"):
        if name not in named:
            faults.append(Fault(file=str(file), line=1, key=name, message="the column is missing"))
    for name in known:
        if named.count(name) > 1:
            faults.append(Fault(file=str(file), line=1, key=name, message="the column stands twice"))
    if faults:
        raise ConfigFaults(faults)
    rows = []
    try:
        for entry in reader:
            if reader.restkey in entry:  # a comma in a name that is not quoted moves all that follows
                hint = "put a value with the separator in it in quotation marks"
                fault = Fault(
                    file=str(file), line=reader.line_num, message="more values than columns", hint=hint
                )
                faults.append(fault)
                continue
            get = {str(k).strip(): (v or "").strip() for k, v in entry.items() if isinstance(v, str)}
            if any(get.values()):
                rows.append(
                    AgencyRow(
                        code=get.get("code", "").upper(),
                        name_ar=get.get("name_ar", ""),
                        name_en=get.get("name_en", ""),
                        domains=f"{get.get('domain', '')} {get.get('domains', '')}".split(),
                        networks=f"{get.get('network', '')} {get.get('networks', '')}".split(),
                        registry=get.get("registry") or None,
                        mode=mode or get.get("mode") or None,
                        where=f"{file}:{reader.line_num}",
                    )
                )
    except csv.Error as e:
        raise ConfigFaults([Fault(file=str(file), line=reader.line_num, message=f"is no CSV: {e}")]) from None
    if faults:
        raise ConfigFaults(faults)
    return rows


def write_agencies(
    folder: Path, rows: list[AgencyRow], next_hop: str | None, reserved: tuple[str, ...]
) -> list[Path]:
    """Write a file for each row, all of them or none; returns the files.

    The whole directory is read with them; when it is not good they are taken back, and ConfigFaults
    names the faults by the rows that they came from, as it does when a file is there already.
    """
    if faults := _code_faults(rows):
        raise ConfigFaults(faults)
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    lines: dict[str, str] = {}
    try:
        for row in rows:
            path = folder / f"{row.code.lower()}.yaml"
            try:
                octets = row.yaml(next_hop).encode()
            except UnicodeEncodeError:  # octets of a command line that were no text
                file, line = row.place
                raise ConfigFaults([Fault(file=file, line=line, message="is not UTF-8")]) from None
            try:
                out = path.open("xb")
            except FileExistsError:
                what = f"{path} is there already: nothing was written"
                hint = "--skip-existing leaves out those that are there" if row.where else ""
                raise ConfigFaults([Fault(file=row.where or row.code, message=what, hint=hint)]) from None
            made.append(path)
            with out:
                out.write(octets)
            lines[f"{folder.name}/{path.name}"] = row.where
        load_directory(folder, reserved)
    except BaseException as error:
        for path in made:
            path.unlink(missing_ok=True)
        if isinstance(error, ConfigFaults):
            raise ConfigFaults(_at_row(fault, lines) for fault in error.faults) from None
        raise
    return made


def _code_faults(rows: list[AgencyRow]) -> list[Fault]:
    """Codes that are none, in the words that a file with such a code gets, and those that come twice."""
    faults: list[Fault] = []
    first: dict[str, AgencyRow] = {}
    for row in rows:
        file, line = row.place
        bad = _code_fault(row.code, file, line)
        if not bad and (earlier := first.setdefault(row.code, row)) is not row:
            what = f"the code {row.code} is already that of {earlier.where}"
            bad = [Fault(file=file, line=line, key="code", message=what)]
        faults += bad
    return faults


def _code_fault(code: str, file: str, line: int) -> list[Fault]:
    try:
        AgencyEntry.model_validate({"code": code})
    except ValidationError as e:  # it lacks the other keys too: those are looked at in its file
        found = faults_of(e, AgencyEntry, file, lambda loc: (line, 0))
        return [fault for fault in found if fault.key == "code"]
    return []


def _at_row(fault: Fault, rows: dict[str, str]) -> Fault:
    """A fault of a file that we have just written, by the row that it came from."""
    where = rows.get(fault.file, "")
    message = fault.message
    if not where:
        # What stands twice is told of the file that comes later by name; here the new one is at fault.
        mine = next((row for name, row in rows.items() if row and f" {name}:" in message), "")
        what, already, _ = message.partition(" is already that of ")
        if not mine or not already:
            return fault
        where, message = mine, f"{what}{already}{fault.file}:{fault.line}"
    other = re.search(r" at (.+):\d+$", message)
    if other is not None and rows.get(other[1]):  # its file will not be there: both are rows
        message = message[: other.start(1)] + rows[other[1]]
    file, _, line = where.rpartition(":")
    return replace(fault, file=file, line=int(line), column=0, message=message)
