"""The directory: which agencies there are, what is theirs, and where their letters go.

A folder of YAML files (``agencies/mof.yaml``), one agency a document or several under
``agencies:``. :func:`load_directory` reads it whole and raises :class:`ConfigFaults` with every
fault, its file and its line; :class:`DirectoryFile` keeps the last good directory in force when
the files are broken (promise 7). All look-ups are dictionary look-ups.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from policies.agency import Agency, Credential, DkimKey, Mode, Network, NextHop, SignIn, TlsMode
from policies.agency_entry import AgencyEntry, Files
from policies.document import Document, parse_documents, read_documents
from policies.faults import ConfigFaults, Fault, Loc, faults_of, suggestion
from policies.folder import Stamp, stamp

__all__ = [
    "Agency",
    "ConfigFaults",
    "Credential",
    "Directory",
    "DirectoryFile",
    "DkimKey",
    "Fault",
    "Mode",
    "NextHop",
    "SignIn",
    "TlsMode",
    "load_directory",
]

_PEERS = 8192  # remembered answers of by_network


class Directory:
    """All agencies, immutable. ``version`` is a digest of the files it was read from."""

    def __init__(self, agencies: Iterable[Agency], version: str = "", warnings: Iterable[Fault] = ()) -> None:
        self.agencies: tuple[Agency, ...] = tuple(sorted(agencies, key=lambda a: a.code))
        self.version = version
        self.warnings: tuple[Fault, ...] = tuple(warnings)
        self._codes = {a.code: a for a in self.agencies}
        self._domains: dict[str, Agency] = {}
        self._certificates: dict[str, list[Agency]] = {}
        self._credentials: dict[str, tuple[Agency, Credential]] = {}
        self._hops: dict[str, NextHop] = {}
        # (IP version, prefix length) -> network as a number -> agencies; longest prefix first.
        self._networks: dict[tuple[int, int], dict[int, list[Agency]]] = {}
        self._peers: dict[str, tuple[Agency, ...]] = {}
        for a in self.agencies:
            for domain in a.domains:
                self._domains[domain] = a
                self._domains.setdefault(_unicode_name(domain), a)
            for name in a.certificates:
                self._certificates.setdefault(name, []).append(a)
            for credential in a.credentials:
                self._credentials[credential.username] = (a, credential)
            for hop in (a.next_hop, a.outbound):
                if hop is not None:
                    self._hops[hop.name] = hop
            for net in a.networks:
                table = self._networks.setdefault((net.version, net.prefixlen), {})
                table.setdefault(int(net.network_address), []).append(a)
        self._networks = dict(sorted(self._networks.items(), key=lambda item: -item[0][1]))

    def __iter__(self) -> Iterator[Agency]:
        return iter(self.agencies)

    def __len__(self) -> int:
        return len(self.agencies)

    @property
    def domains(self) -> tuple[str, ...]:
        """Every domain of every agency, in ASCII form, sorted."""
        return tuple(sorted(d for a in self.agencies for d in a.domains))

    @property
    def hops(self) -> tuple[NextHop, ...]:
        return tuple(self._hops.values())

    def agency(self, code: str) -> Agency | None:
        return self._codes.get(code)

    def by_domain(self, host: str) -> Agency | None:
        """The agency that owns exactly this domain; ``host`` in any case, ASCII or Unicode form."""
        found = self._domains.get(host)
        return found if found is not None else self._domains.get(host.lower())

    def by_network(self, ip: str) -> tuple[Agency, ...]:
        """The agencies from whose networks an address comes, those of the narrowest network first."""
        known = self._peers.get(ip)
        if known is not None:
            return known
        try:
            address = ipaddress.ip_address(ip.partition("%")[0])
        except ValueError:
            return ()
        # ::ffff:10.1.2.3 is what a dual-stack socket calls 10.1.2.3 (RFC 4291 §2.5.5.2).
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        number, bits = int(address), address.max_prefixlen
        found: dict[str, Agency] = {}
        for (version, length), table in self._networks.items():
            if version == address.version:
                for a in table.get(number >> (bits - length) << (bits - length), ()):
                    found.setdefault(a.code, a)
        if len(self._peers) >= _PEERS:
            self._peers.clear()
        self._peers[ip] = answer = tuple(found.values())
        return answer

    def by_certificate(self, names: Iterable[str]) -> tuple[Agency, ...]:
        """The agencies whose servers bear one of these certificate names."""
        found = {a.code: a for name in names for a in self._certificates.get(name.lower().rstrip("."), ())}
        return tuple(found.values())

    def by_credential(self, username: str) -> tuple[Agency, Credential] | None:
        """The agency and the credential of a user name on the relay port."""
        return self._credentials.get(username)

    def hop(self, name: str) -> NextHop | None:
        """``MOH`` is the agency's own server, ``MOF:outbound`` its way to the outside."""
        return self._hops.get(name)


def load_directory(path: Path | str, reserved: Iterable[str] = ()) -> Directory:
    """Read a folder of agency files, or one file; raises :class:`ConfigFaults` with every fault.

    ``reserved`` are domains of the gateway itself, which no agency may have. Files whose name
    begins with a dot or an underscore are left alone.
    """
    return _load(Path(path), reserved)[0]


def _load(
    root: Path, reserved: Iterable[str], kept: Mapping[str, str] | None = None
) -> tuple[Directory, dict[str, str]]:
    """The directory and the texts of its files by their names; ``kept`` are read in place of the files."""
    faults: list[Fault] = []
    digest = hashlib.sha256()
    read: list[tuple[Agency, Document, Loc]] = []
    texts: dict[str, str] = {}
    for file, name in agency_files(root) if kept is None else [(_at(root, name), name) for name in kept]:
        try:
            if kept is None:
                documents, octets = read_documents(file, name)
            else:
                octets = kept[name].encode()
                documents = parse_documents(octets, name)
        except ConfigFaults as e:
            faults += e.faults
            continue
        texts[name] = octets.decode()
        digest.update(f"{name}\0{len(octets)}\0".encode() + octets)
        for document in documents:
            for data, loc in _entries(document, faults):
                agency = _agency(data, loc, document, file.parent, faults)
                if agency is not None:
                    read.append((agency, document, loc))
    faults += _doubles(read, frozenset(d.lower() for d in reserved))
    if faults:
        raise ConfigFaults(faults)
    return Directory((a for a, _, _ in read), digest.hexdigest()[:16], _warnings(read)), texts


def _at(root: Path, name: str) -> Path:
    """The file that faults call by this name: what it refers to is found from there."""
    return root.parent / name


def agency_files(root: Path) -> list[tuple[Path, str]]:
    """The files of a directory folder with the names that faults call them by, sorted."""
    try:
        if root.is_file():
            return [(root, root.name)]
        if not root.is_dir():
            hint = "make it with `wasl init`, or set directory.path"
            raise ConfigFaults([Fault(file=str(root), message="there is no such folder", hint=hint)])
        found = sorted(p for p in root.rglob("*") if p.suffix in (".yaml", ".yml"))
        kept = [p for p in found if not p.name.startswith((".", "_"))]
        return [(p, f"{root.name}/{p.relative_to(root).as_posix()}") for p in kept if p.is_file()]
    except OSError as e:
        raise ConfigFaults([Fault(file=str(root), message=f"cannot be read: {e.strerror or e}")]) from None


class DirectoryFile:
    """The directory in force. :meth:`reload` replaces it only by one without faults.

    ``kept`` names a file in which the last good one is kept, for a start at which the files are broken: a
    slip in one of them must not keep mail down after a crash (promise 7).
    """

    def __init__(self, path: Path | str, reserved: Iterable[str] = (), kept: Path | None = None) -> None:
        """Reads the directory; raises :class:`ConfigFaults` when there is no good one to begin with."""
        self.path = Path(path)
        self._reserved = tuple(reserved)
        self._kept = kept
        self._stamp = self._look()
        self.faults: tuple[Fault, ...] = ()
        try:
            self.current = self._read()
        except ConfigFaults as e:
            last = self._last_good()
            if last is None:
                raise
            self.current, self.faults = last, e.faults

    def reload(self) -> tuple[Fault, ...]:
        """Read again. Empty: the new directory is in force. Else the faults; the old one stays."""
        self._stamp = self._look()
        try:
            self.current = self._read()
            self.faults = ()
        except ConfigFaults as e:
            self.faults = e.faults
        return self.faults

    def _read(self) -> Directory:
        directory, texts = _load(self.path, self._reserved)
        if self._kept is not None:
            part = self._kept.with_name(f".{self._kept.name}.part")
            held = json.dumps({"path": str(self.path.absolute()), "files": texts}, ensure_ascii=False)
            with contextlib.suppress(OSError):  # a full disk: what was kept before is better than none
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                    out.write(held.encode())
                    out.flush()
                    os.fsync(out.fileno())
                part.replace(self._kept)
        return directory

    def _last_good(self) -> Directory | None:
        if self._kept is None:
            return None
        try:
            held = json.loads(self._kept.read_bytes())
            if held["path"] != str(self.path.absolute()):
                return None
            return _load(self.path, self._reserved, held["files"])[0]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigFaults):
            return None  # what a start needs is gone too: the faults of the files tell

    def changed(self) -> bool:
        """True when a file came, went or was written since the last reading."""
        return self._look() != self._stamp

    def _look(self) -> Stamp:
        return stamp(self.path)


def _entries(document: Document, faults: list[Fault]) -> Iterator[tuple[dict[str, Any], Loc]]:
    """The agencies of one document: the document itself, or the list under ``agencies:``."""
    data = document.data
    if data is None:
        return
    if not isinstance(data, dict):
        faults.append(document.fault((), "must be an agency: code, name_ar, name_en, domains, next_hop"))
        return
    if "agencies" not in data:
        yield data, ()
        return
    for key in data:
        # Anything under ``templates:`` is only there for YAML anchors.
        if key not in ("agencies", "templates"):
            faults.append(document.fault((key,), "unknown key", suggestion(key, ("agencies", "templates"))))
    if not isinstance(data["agencies"], list):
        faults.append(document.fault(("agencies",), "must be a list of agencies"))
        return
    for i, entry in enumerate(data["agencies"]):
        if isinstance(entry, dict):
            yield entry, ("agencies", i)
        else:
            faults.append(document.fault(("agencies", i), "must be an agency: code, names, domains"))


def _agency(
    data: dict[str, Any], loc: Loc, document: Document, folder: Path, faults: list[Fault]
) -> Agency | None:
    try:
        entry = AgencyEntry.model_validate(data)
    except ValidationError as e:
        faults += faults_of(e, AgencyEntry, document.file, document.place, loc)
        return None

    def report(where: Loc, message: str, hint: str) -> None:
        faults.append(document.fault((*loc, *where), message, hint))

    files = Files(folder, report, lambda where: document.place((*loc, *where))[0])
    return entry.build(files, (document.file, document.place((*loc, "code"))[0]))


def _doubles(read: list[tuple[Agency, Document, Loc]], reserved: frozenset[str]) -> Iterator[Fault]:
    """What may stand only once in the whole directory: codes, domains, relay user names."""
    seen: dict[tuple[str, str], Agency] = {}
    for a, document, loc in read:
        claims: list[tuple[str, str, Loc]] = [("code", a.code, ("code",))]
        claims += [("domain", d, ("domains", i)) for i, d in enumerate(a.domains)]
        claims += [
            ("user name", c.username, ("credentials", i, "username")) for i, c in enumerate(a.credentials)
        ]
        claims += [("watched mailbox", w.key, ("watch", i, "mailbox")) for i, w in enumerate(a.watches)]
        for what, value, where in claims:
            other = seen.setdefault((what, value), a)
            if other is not a:
                who = "" if what == "code" else f"{other.code} at "
                yield document.fault(
                    (*loc, *where), f"the {what} {value} is already that of {who}{other.file}:{other.line}"
                )
        for i, domain in enumerate(a.domains):
            if domain in reserved:
                yield document.fault((*loc, "domains", i), f"{domain} is the gateway's own domain")


def _warnings(read: list[tuple[Agency, Document, Loc]]) -> Iterator[Fault]:
    """What works but deserves a look."""
    owners: dict[Network, list[Agency]] = {}
    for a, document, loc in read:
        if a.registry is not None and a.registry.host not in a.domains:
            yield document.fault((*loc, "registry"), f"{a.registry} is not in a domain of {a.code}")
        for i, w in enumerate(a.watches):
            for box in (w.mailbox, *w.also):
                if box.host not in a.domains:
                    yield document.fault((*loc, "watch", i), f"{box} is not in a domain of {a.code}")
        if a.next_hop is None and a.mode is not Mode.OFF:
            yield document.fault((*loc, "code"), f"{a.code} has no next_hop: letters to it are refused")
        if not (a.networks or a.certificates or a.credentials or a.sign_in):
            hint = "give networks, certificates, credentials or sign_in"
            yield document.fault((*loc, "code"), f"nobody can send as {a.code}", hint)
        for net in a.networks:
            owners.setdefault(net, []).append(a)
    for a, document, loc in read:
        for i, net in enumerate(a.networks):
            others = {b.code for wide in _around(net, owners) for b in owners[wide]} - {a.code}
            if others:
                names = ", ".join(sorted(others))
                hint = "letters from there are told apart by their senders"
                yield document.fault((*loc, "networks", i), f"{net} is shared with {names}", hint)


def _around(net: Network, owners: dict[Network, list[Agency]]) -> Iterator[Network]:
    for length in range(net.prefixlen + 1):
        wide = net.supernet(new_prefix=length)
        if wide in owners:
            yield wide


def _unicode_name(domain: str) -> str:
    try:
        return domain.encode().decode("idna")
    except UnicodeError:
        return domain
