"""``wasl check``: everything that can be wrong with a gateway, all of it at once.

Settings, directory and policy with file and line; keys, certificates and folders; the database; and
unless ``--offline`` the DNS records of the DKIM keys and a short dialogue with every next hop and every
server of passwords or mailboxes. Exit status 1 when there is a fault; warnings alone are no fault.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.console import Config, Json, progress, put_json, say, warn
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.sign import SigningKey
    from policies.agency import Agency, NextHop, SignIn
    from policies.directory import Directory
    from policies.faults import Fault
    from tracker.model import Address
    from tracker.store import Connection


ALIKE = 3  # warnings of one kind that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the answer. ``level`` is fault, warning or ok."""

    level: str
    about: str
    text: str
    fault: Fault | None = None
    kind: str = ""  # warnings that many agencies share bear the same

    def to_json(self) -> dict[str, object]:
        out: dict[str, object] = {"level": self.level, "about": self.about, "text": self.text}
        return out | (self.fault.to_json() if self.fault is not None else {})


def check(
    offline: Annotated[bool, typer.Option("--offline", help="Ask no name server and no next hop.")] = False,
    agency: Annotated[
        list[str] | None,
        typer.Option(help="Talk to the servers of this agency only; several times for several."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every warning, not three of each kind.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check settings, directory, policy, keys, database, DNS and next hops; all faults at once."""
    findings = list(_findings(config, offline, frozenset(code.upper() for code in agency or ())))
    kinds: dict[str, list[str]] = {}
    for one in findings:
        if as_json:
            put_json(one.to_json())
        elif one.level == "ok":
            say(f"ok: {one.text}")
        elif one.level == "fault":
            warn(one.text)
        else:
            alike = kinds.setdefault(one.kind, [])
            alike.append(one.text)
            if every or not one.kind or len(alike) <= ALIKE:
                warn(f"warning: {one.text}")
    for kind, alike in () if as_json or every else kinds.items():
        if kind and len(alike) > ALIKE:
            warn(f"warning: and {len(alike) - ALIKE} more like {alike[0]!r} (--all)")
    faults = sum(one.level == "fault" for one in findings)
    warnings = sum(one.level == "warning" for one in findings)
    if not as_json:
        said = f"{_count(faults, 'fault')}, {_count(warnings, 'warning')}"
        say(said) if not faults else warn(said)
    raise typer.Exit(1 if faults else 0)


def _count(number: int, noun: str, nouns: str = "") -> str:
    return f"{number or 'no'} {noun if number == 1 else nouns or noun + 's'}"


def _findings(config: Path | None, offline: bool, only: frozenset[str]) -> Iterator[Finding]:
    from gateway.opening import open_directory, policy_limits
    from gateway.settings_file import find_settings, read_settings
    from policies.faults import ConfigFaults
    from policies.load import load_policy

    yield from _interpreter()
    settings_file = None
    try:
        file = settings_file = find_settings(config)
        settings = read_settings(file)
    except ConfigFaults as e:
        yield from (_fault("settings", fault) for fault in e.faults)
        if settings_file is not None:
            yield from _beside_broken(settings_file)
        return
    yield Finding(level="ok", about="settings", text=f"settings {file}")
    directory: Directory | None = None
    try:
        directory = open_directory(settings).current
        for fault in directory.warnings:
            yield Finding(level="warning", about="directory", text=str(fault), fault=fault, kind=_kind(fault))
        text = f"directory: {_count(len(directory), 'agency', 'agencies')}, version {directory.version}"
        yield Finding(level="ok", about="directory", text=text)
    except ConfigFaults as e:
        yield from (_fault("directory", fault) for fault in e.faults)
    try:
        policy = load_policy(settings.policy.path, policy_limits(settings), directory)
        yield Finding(
            level="ok", about="policy", text=f"policy: {len(policy.rules)} rules, version {policy.version}"
        )
        yield from _policy_in_force(settings, policy.version)
    except ConfigFaults as e:
        yield from (_fault("policy", fault) for fault in e.faults)
    yield from _listening(settings, directory)
    yield from _secrets(settings)
    yield from _certificates(settings)
    yield from _data(settings)
    keys = list(_keys(settings, directory))
    yield from (key for key in keys if isinstance(key, Finding))
    for code in sorted(only):
        if directory is not None and directory.agency(code) is None:
            yield Finding(level="fault", about="directory", text=f"--agency {code}: there is no such agency")
    if not offline:
        yield from _dns(settings, [key for key in keys if not isinstance(key, Finding)])
        if directory is not None:
            yield from _servers(settings, directory, only)


def _beside_broken(file: Path) -> Iterator[Finding]:
    """Faults of directory, policy and keys when the settings have some: where these seem to say they are."""
    import tomllib

    from policies.directory import load_directory
    from policies.faults import ConfigFaults
    from policies.load import Limits, load_policy

    try:
        data = tomllib.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        data = {}

    def named(section: str, key: str, usual: str) -> Path | None:
        values = data.get(section)
        path = values.get(key, usual) if isinstance(values, dict) else usual
        return Path(file.absolute().parent, path) if isinstance(path, str) and "\0" not in path else None

    def folder(section: str, usual: str) -> Path | None:
        found = named(section, "path", usual)
        return found if found is not None and found.is_dir() else None

    for about, section, key, usual in (
        ("ledger key", "ledger", "key", "secrets/ledger.pem"),
        ("mac secret", "secrets", "mac", "secrets/mac.key"),
    ):
        secret = named(section, key, usual)
        if secret is not None and not secret.exists():
            text = f"{secret}: there is no such file: `wasl init` makes it; never replace a lost one"
            yield Finding(level="fault", about=about, text=text)

    directory, agencies, rules = None, folder("directory", "agencies"), folder("policy", "policy")
    try:
        directory = load_directory(agencies) if agencies is not None else None
    except ConfigFaults as e:
        yield from (_fault("directory", fault) for fault in e.faults)
    try:
        if rules is not None:
            load_policy(rules, Limits(), directory)
    except ConfigFaults as e:
        yield from (_fault("policy", fault) for fault in e.faults)


def _policy_in_force(settings: Settings, version: str) -> Iterator[Finding]:
    """Whether what lies in the folder is what decides."""
    from gateway.opening import open_store
    from tracker import policy_store
    from tracker.store_errors import DatabaseError, StoreError

    try:
        store = open_store(settings)
        try:
            with store.reader.connect() as conn:
                now, waiting = policy_store.active(conn), policy_store.proposed(conn)
        finally:
            store.close()
    except (Trouble, StoreError, DatabaseError):
        return  # said below, of the database
    if now is None or now.digest == version:
        return
    text = f"policy: version {now.digest} is in force, the folder holds {version}"
    if any(one.digest == version for one in waiting):
        text += f", which waits for a second person: `wasl policy approve {version}`"
    else:
        text += ": `wasl policy reload`"
    yield Finding(level="warning", about="policy", text=text)


def _fault(about: str, fault: Fault) -> Finding:
    return Finding(level="fault", about=about, text=str(fault), fault=fault)


def _kind(fault: Fault) -> str:
    """What a warning says without the names in it."""
    return re.sub(r"\S*[A-Z0-9]\S*", "", fault.message)


def _interpreter() -> Iterator[Finding]:
    """CPython before 3.11.10 and its like writes an encoded newline as a header line (CVE-2024-6923)."""
    import platform
    from email import message_from_bytes, policy

    made = message_from_bytes(b"Subject: =?utf-8?q?a=0ABcc=3A_b=40c?=\n\n", policy=policy.default)
    try:
        whole = b"\nBcc" not in made.as_bytes()
    except ValueError:  # a mended interpreter refuses
        whole = True
    if not whole:
        text = (
            f"Python {platform.python_version()} writes encoded newlines into headers (CVE-2024-6923); "
            "Wasl's own writer does not, but upgrade it for whatever else runs on it"
        )
        yield Finding(level="warning", about="interpreter", text=text)


def _listening(settings: Settings, directory: Directory | None) -> Iterator[Finding]:
    if not settings.listen:
        yield Finding(
            level="warning", about="listen", text="no [[listen]] entry: the gateway takes no letters"
        )
    if any(entry.door.mailboxes for entry in settings.listen):
        if directory is not None and not any(a.imap for a in directory):
            text = "a [[listen]] entry for imap or imaps, but no agency has `imap:`: nobody can sign in there"
            yield Finding(level="warning", about="listen", text=text)
        return
    for a in directory or ():
        for server in a.imap[:1]:
            text = f"{a.file}:{server.line or a.line}: {a.code} imap: no [[listen]] entry for imap or imaps"
            yield Finding(level="warning", about="listen", text=text, kind="no imap door")


def _secrets(settings: Settings) -> Iterator[Finding]:
    from gateway.keys import too_open
    from gateway.opening import ledger_key, mac_secrets

    for about, path, load in (
        ("ledger key", settings.ledger.key, lambda: ledger_key(settings)),
        ("mac secret", settings.secrets.mac, lambda: mac_secrets(settings.secrets.mac)),
    ):
        try:
            load()
        except Trouble as e:
            yield Finding(level="fault", about=about, text=str(e))
            continue
        if too_open(path):
            yield _open_to_others(about, path)
        yield Finding(level="ok", about=about, text=f"{about} {path}")


def _open_to_others(about: str, path: Path) -> Finding:
    text = f"{path} can be read by others: chmod 600 {path}"
    return Finding(level="warning", about=about, text=text)


def _certificates(settings: Settings) -> Iterator[Finding]:
    pairs = [("tls", settings.tls.certificate, settings.tls.key)]
    pairs += [(f"listen.{i}", x.certificate, x.key) for i, x in enumerate(settings.listen)]
    pairs.append(("dashboard", settings.dashboard.certificate, settings.dashboard.key))
    for about, certificate, key in pairs:
        if certificate is not None and key is not None:
            yield from _certificate(about, certificate, key, settings.gateway.hostname)
    if settings.tls.client_ca is not None:
        try:
            ssl.create_default_context(cafile=str(settings.tls.client_ca))
        except (OSError, ssl.SSLError) as e:
            text = f"tls.client_ca: {settings.tls.client_ca}: {getattr(e, 'strerror', None) or e}"
            yield Finding(level="fault", about="tls", text=text)


def _certificate(about: str, certificate: Path, key: Path, hostname: str) -> Iterator[Finding]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ssl.SSLError, ValueError) as e:
        text = f"{about}: {certificate} with {key}: {getattr(e, 'strerror', None) or e}"
        yield Finding(level="fault", about="tls", text=text)
        return
    now, end = datetime.now(UTC), leaf.not_valid_after_utc
    if end <= now:
        yield Finding(level="fault", about="tls", text=f"{about}: {certificate} expired on {end:%Y-%m-%d}")
    elif end - now < timedelta(days=21):
        text = f"{about}: {certificate} expires on {end:%Y-%m-%d}"
        yield Finding(level="warning", about="tls", text=text)
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = [str(n).lower() for n in names.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        known = []
    parent = hostname.partition(".")[2]
    if hostname not in known and f"*.{parent}" not in known:
        text = f"{about}: {certificate} is not for {hostname} ({', '.join(known) or 'no names'})"
        yield Finding(level="warning", about="tls", text=text)


def _data(settings: Settings) -> Iterator[Finding]:
    import shutil

    from gateway.opening import open_store
    from tracker.store_errors import DatabaseError, StoreError

    folder = settings.gateway.data_dir
    if not folder.is_dir():
        yield Finding(
            level="fault", about="data", text=f"{folder}: there is no such folder: `wasl init` makes it"
        )
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(level="fault", about="data", text=f"{folder}: cannot be written by this user")
    home = settings.archive_path if settings.archive_path.is_dir() else folder
    free = shutil.disk_usage(home).free
    if settings.archive.kind == "local" and free < settings.archive.warn_free:
        level = "fault" if free < settings.archive.keep_free else "warning"
        text = f"{home}: only {free / 1e9:.1f} GB are free (archive.keep_free, archive.warn_free)"
        yield Finding(level=level, about="data", text=text)
    try:
        store = open_store(settings)
        try:
            with store.reader.connect() as conn:
                conn.exec_driver_sql("SELECT count(*) FROM meta").scalar()
                yield from _published(settings, conn)
        finally:
            store.close()
        yield Finding(level="ok", about="database", text=f"database: {store.dialect}")
    except (Trouble, StoreError) as e:
        yield Finding(level="fault", about="database", text=str(e))
    except DatabaseError as e:
        what = str(getattr(e, "orig", None) or e).splitlines()[0]
        yield Finding(level="fault", about="database", text=f"the database: {what}")


def _published(settings: Settings, conn: Connection) -> Iterator[Finding]:
    """Whether the database is as new as what this gateway has told others: else no gateway starts on it."""
    from gateway import high_water
    from gateway.opening import ledger_key
    from tracker.ledger import Ledger
    from tracker.registers import Registers

    try:
        registers = Registers(settings.gateway.zone)
        high_water.check(settings.gateway.data_dir, conn, Ledger(ledger_key(settings)), registers)
    except Trouble:
        return  # said above, of the key
    except (high_water.Behind, OSError) as e:
        yield Finding(level="fault", about="database", text=str(e))


def _keys(settings: Settings, directory: Directory | None) -> Iterator[SigningKey | Finding]:
    """Every DKIM key, and what is to be said about them."""
    from gateway.keys import too_open
    from gateway.sign import SigningKey, SigningKeyError

    wanted = [
        (f"dkim.{i}", key.key_file, settings.gateway.domain, key.selector)
        for i, key in enumerate(settings.dkim)
    ]
    for a in directory or ():
        wanted += [(f"{a.file}:{a.line}: dkim", key.key_file, key.domain, key.selector) for key in a.dkim]
    for place, path, domain, selector in wanted:
        try:
            yield SigningKey.load(path, domain=domain, selector=selector)
            if too_open(path):
                yield _open_to_others("dkim", path)
        except (OSError, SigningKeyError) as e:
            text = f"{place}: {path}: {getattr(e, 'strerror', None) or e}"
            yield Finding(level="fault", about="dkim", text=text)
    signs = {a.code for a in directory or () if a.dkim}
    for a in directory or ():
        if a.next_hop is not None and a.active and a.code not in signs:
            what = f"{a.code} has no DKIM key: its letters go unsigned"
            text = f"{a.file}:{a.line}: {what} (`wasl keys make {a.code} --write`)"
            yield Finding(level="warning", about="dkim", text=text, kind="no dkim key")
    if (
        settings.authentication.seal
        and settings.dkim
        and not any(_is_rsa(key.key_file) for key in settings.dkim)
    ):
        text = "no RSA key under [[dkim]]: no letter is ARC-sealed (`wasl keys make -`)"
        yield Finding(level="warning", about="dkim", text=text)
    if not settings.dkim:
        text = "no [[dkim]] entry: the gateway's receipts go unsigned (`wasl keys make -`)"
        yield Finding(level="warning", about="dkim", text=text)


def _is_rsa(path: Path) -> bool:
    from gateway.sign import SigningKey, SigningKeyError

    try:
        return SigningKey.load(path, domain="x", selector="x").algorithm == "rsa-sha256"
    except (OSError, SigningKeyError):
        return True  # what is wrong with it has been said


def _dns(settings: Settings, wanted: list[SigningKey]) -> Iterator[Finding]:
    from concurrent.futures import ThreadPoolExecutor

    import dns.resolver

    from gateway.dkim_dns import published, resolver, silent

    checks = settings.authentication
    asks = checks.spf or checks.dkim or checks.dmarc or checks.arc
    if not wanted and not asks:
        return
    try:
        names = resolver(settings.dns.resolvers, settings.dns.timeout.total_seconds())
    except dns.resolver.NoResolverConfiguration:
        yield Finding(level="warning", about="dns", text="no name server is known: set dns.resolvers")
        return
    out = silent(names, settings.gateway.domain)
    for place, why in out:
        text = f"the name server {place} does not answer: {why}"
        level = "fault" if settings.dns.resolvers else "warning"
        yield Finding(level=level, about="dns", text=text)
    if len(out) == len(names.nameservers):
        if asks:
            text = "SPF, DKIM, DMARC and ARC of what comes in will be temperror: no name server answers"
            yield Finding(level="warning", about="dns", text=text)
    else:
        answering = len(names.nameservers) - len(out)
        text = f"DNS: {_count(answering, 'name server')} of {len(names.nameservers)} answer"
        yield Finding(level="ok", about="dns", text=text)
    if not wanted:
        return
    with ThreadPoolExecutor(max_workers=16) as pool, progress("DNS") as show:
        said = []
        for i, text in enumerate(pool.map(lambda key: published(key, names), wanted), 1):
            said.append(text)
            show(i, len(wanted))
    for text in said:
        if text:
            yield Finding(level="fault", about="dns", text=f"DKIM: {text} (`wasl keys show` prints it)")
    good = said.count("")
    if good:
        yield Finding(level="ok", about="dns", text=f"DNS: {good} of {len(wanted)} DKIM keys are published")


def _servers(settings: Settings, directory: Directory, only: frozenset[str]) -> Iterator[Finding]:
    from concurrent.futures import ThreadPoolExecutor

    from gateway.hop_probe import Probe, probe_hop, probe_sign_in
    from gateway.opening import mac_secrets
    from gateway.reverse_path import ReversePath
    from policies.agency import ImapServer, Mode, NextHop
    from policies.watch import Watch

    back: Address | None
    try:
        back = ReversePath(mac_secrets(settings.secrets.mac), settings.gateway.domain).address_for(1)
    except Trouble:
        back = None  # said above
    hostname = settings.gateway.hostname
    asked: list[tuple[str, NextHop | SignIn | Watch | ImapServer, Address | Watch | None]] = []
    for a in directory:
        if only and a.code not in only:
            continue

        def place(server: NextHop | SignIn | Watch | ImapServer, what: str, a: Agency = a) -> str:
            return f"{a.file}:{server.line or a.line}: {a.code} {what} {server.host}:{server.port}"

        if a.next_hop is not None:
            asked.append((place(a.next_hop, "next_hop"), a.next_hop, back))
        if a.outbound is not None:
            asked.append((place(a.outbound, "outbound"), a.outbound, None))
        if a.sign_in is not None:
            asked.append((place(a.sign_in, "sign_in"), a.sign_in, None))
        for server in a.imap:
            account = next((w for w in a.watches if w.host == server.host and w.password), None)
            asked.append((place(server, "imap"), server, account))
        for w in a.watches if a.mode is not Mode.OFF else ():
            asked.append((place(w, f"watch {w.mailbox} at"), w, None))

    def ask(
        item: tuple[str, NextHop | SignIn | Watch | ImapServer, Address | Watch | None],
    ) -> tuple[str, Probe]:
        name, server, more = item
        if isinstance(server, Watch):
            from gateway.watch_probe import probe_watch

            return name, probe_watch(server)
        if isinstance(server, ImapServer):
            from gateway.mailbox_probe import probe_mailboxes

            return name, probe_mailboxes(server, more if isinstance(more, Watch) else None)
        if isinstance(server, NextHop):
            return name, probe_hop(server, hostname, None if isinstance(more, Watch) else more)
        return name, probe_sign_in(server, hostname)

    if not asked:
        return
    good = 0
    with ThreadPoolExecutor(max_workers=16) as pool, progress("servers") as show:
        answers = []
        for i, answer in enumerate(pool.map(ask, asked), 1):
            answers.append(answer)
            show(i, len(asked))
    for name, probe in answers:
        if probe.error:
            yield Finding(level="fault", about="server", text=f"{name}: {probe.error}")
        else:
            good += 1
        for note in probe.notes:
            yield Finding(level="warning", about="server", text=f"{name}: {note}")
    yield Finding(level="ok", about="server", text=f"servers: {good} of {len(asked)} answer as they should")
