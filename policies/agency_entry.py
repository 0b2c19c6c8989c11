"""The shape in which a file describes an agency.

These models are what stands in ``agencies/*.yaml``: every key is documented at its field, unknown
keys are refused, values are checked one by one, and :meth:`AgencyEntry.build` makes the
:class:`policies.agency.Agency` of it. Errors leave here as pydantic's; ``policies/directory.py``
gives them file and line.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from policies.agency import (
    Agency,
    Credential,
    DkimKey,
    Forwards,
    ImapServer,
    Mode,
    Network,
    NextHop,
    SignIn,
    TlsMode,
    hash_costs,
)
from policies.watch import Meaning, Watch
from tracker.model import Address, AddressError

_CODE = re.compile(r"[A-Z][A-Z0-9-]{0,15}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SELECTOR = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_KEYWORD = re.compile(r"[!#$&'+,\-./0-9:;<=>?@A-Z^_`a-z|~]{1,60}")  # RFC 9051 §9, flag-keyword
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Text for people: no control or direction characters, none of it blank."""
    if _CONTROL.search(text):
        raise ValueError("holds a control or direction character")
    if not text.strip():
        raise ValueError("must not be empty")
    return text.strip()


def domain_name(text: str) -> str:
    """A domain in lower case, in its ASCII form (RFC 5890 A-labels)."""
    name = text.strip().rstrip(".").lower()
    try:
        ascii_name = name if name.isascii() else name.encode("idna").decode().lower()
    except UnicodeError:
        raise ValueError(f"{text!r} is no domain name") from None
    labels = ascii_name.split(".")
    if len(ascii_name) > 253 or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text!r} is no domain name")
    if labels[-1].isdecimal():
        raise ValueError(f"{text!r} is an IP address, not a domain name")
    return ascii_name


def host_name(text: str) -> str:
    """A host name, a single label such as ``localhost``, or an IP address without brackets."""
    text = text.strip()
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    name = text.rstrip(".").lower()
    try:
        name = name if name.isascii() else name.encode("idna").decode().lower()
    except UnicodeError:
        raise ValueError(f"{text!r} is no host name") from None
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(x) for x in labels) or labels[-1].isdecimal():
        hint = "; the port is a key of its own" if ":" in text else ""
        raise ValueError(f"{text!r} is no host name{hint}")
    return name


def network(text: object) -> Network:
    """A network in CIDR form, or one address."""
    try:
        return ipaddress.ip_network(str(text).strip(), strict=True)
    except ValueError as e:
        if "host bits" in str(e):
            whole = ipaddress.ip_network(str(text).strip(), strict=False)
            raise ValueError(f"{text} has host bits set; the network is {whole}") from None
        raise ValueError(f"{text!r} is no network such as 10.1.0.0/16") from None


def mailbox(text: object) -> Address:
    if not isinstance(text, str):
        raise ValueError("must be an e-mail address")
    try:
        return Address.parse(text.strip())
    except AddressError as e:
        raise ValueError(f"{text!r} is no e-mail address: {e}") from None


def _code(text: str) -> str:
    if not _CODE.fullmatch(text):
        raise ValueError("must be capital letters and digits, such as MOF (at most 16)")
    return text


def _selector(text: str) -> str:
    if not _SELECTOR.fullmatch(text):
        raise ValueError("is no DKIM selector")
    return text.lower()


def _hash(text: str) -> str:
    costs = hash_costs(text)
    if costs is None:
        raise ValueError("is no password hash; make one with `wasl agency password`")
    n, r, p = costs
    if n < 2 or n & (n - 1) or n > 1 << 17 or not 1 <= r <= 16 or not 1 <= p <= 4:
        raise ValueError("is a password hash with costs out of range; make one with `wasl agency password`")
    return text


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


Text = Annotated[str, AfterValidator(plain)]
Domain = Annotated[str, AfterValidator(domain_name)]
Host = Annotated[str, AfterValidator(host_name)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Mailbox = Annotated[Address, BeforeValidator(mailbox)]
# A bare string where a list may stand is a list of one.
Domains = Annotated[list[Domain], BeforeValidator(_one_or_more)]
Networks = Annotated[list[Annotated[Network, BeforeValidator(network)]], BeforeValidator(_one_or_more)]
RECEIPT_EVENTS = (
    "accepted",
    "relayed",
    "delivered",
    "late",
    "failed",
    "read",
    "registered",
    "referred",
    "processed",
)


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True, arbitrary_types_allowed=True)


class HopEntry(Entry):
    """``next_hop:`` and ``outbound:``."""

    host: Host
    port: Port = 25
    protocol: Literal["smtp", "lmtp"] = "smtp"
    tls: TlsMode = TlsMode.OPPORTUNISTIC
    verify: bool | None = None
    """Check the certificate. Default: yes for ``required`` and ``implicit``, no for ``opportunistic``."""
    ca: Path | None = None
    """Authorities to check it against (PEM); the system's when not given."""
    username: Text | None = None
    password: str | None = None
    password_file: Path | None = None
    final: bool = False
    """Its 250 means that the letter is in the mailbox."""
    max_connections: Annotated[int, Field(ge=1, le=500, strict=True)] = 20

    @model_validator(mode="after")
    def _together(self) -> HopEntry:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other")
        has_password = self.password is not None or self.password_file is not None
        if has_password != (self.username is not None):
            raise ValueError("username and password (or password_file) belong together")
        if self.username is not None and self.tls is TlsMode.NONE and not _loopback(self.host):
            raise ValueError("a password is not sent in clear: set tls to required or implicit")
        if self.username is not None and self.tls is TlsMode.OPPORTUNISTIC and not _loopback(self.host):
            raise ValueError("a password needs tls: required or implicit")
        return self

    def build(self, name: str, files: Files) -> NextHop:
        password = self.password
        if self.password_file is not None:
            password = files.secret(self.password_file, "password_file")
        verify = self.verify if self.verify is not None else self.tls in (TlsMode.REQUIRED, TlsMode.IMPLICIT)
        return NextHop(
            name=name,
            host=self.host,
            port=self.port,
            protocol=self.protocol,
            tls=self.tls.value,
            verify=verify,
            ca=files.existing(self.ca, "ca"),
            username=self.username,
            password=password,
            final=self.final,
            max_connections=self.max_connections,
            line=files.line,
        )


class CredentialEntry(Entry):
    """One of ``credentials:``."""

    username: Text
    password_hash: Annotated[str, AfterValidator(_hash)]
    """Made by ``wasl agency password``."""


class SignInEntry(Entry):
    """``sign_in:``, the server that knows the passwords of the agency's people."""

    kind: Literal["smtp", "imap"]
    host: Host
    port: Port
    tls: TlsMode = TlsMode.REQUIRED
    verify: bool = True
    ca: Path | None = None
    user_form: Literal["address", "local"] = "address"
    """What that server takes as user name: the whole address or its local part."""

    @model_validator(mode="after")
    def _safe(self) -> SignInEntry:
        if self.tls in (TlsMode.NONE, TlsMode.OPPORTUNISTIC) and not _loopback(self.host):
            raise ValueError("passwords are not sent in clear: set tls to required or implicit")
        return self

    def build(self, files: Files) -> SignIn:
        return SignIn(
            kind=self.kind,
            host=self.host,
            port=self.port,
            tls=self.tls.value,
            verify=self.verify,
            ca=files.existing(self.ca, "ca"),
            user_form=self.user_form,
            line=files.line,
        )


class ImapEntry(Entry):
    """``imap:``, the server that the agency's people reach their mailboxes on, through Wasl."""

    host: Host
    port: Port = 993
    tls: Literal[TlsMode.NONE, TlsMode.REQUIRED, TlsMode.IMPLICIT] = TlsMode.IMPLICIT
    verify: bool = True
    ca: Path | None = None
    """Authorities to check its certificate against (PEM); the system's when not given."""
    user_form: Literal["address", "local"] = "address"
    """What that server takes as user name: the whole address or its local part."""
    domains: Annotated[Domains, Field(max_length=200)] = Field(default_factory=list)
    """The domains whose mailboxes it holds, when the agency has several servers; all when not given."""
    client_address: Literal["auto", "id", "xclient", "none"] = "auto"
    """How it learns the address of the client: by XCLIENT or ID, whichever it offers."""

    @model_validator(mode="after")
    def _safe(self) -> ImapEntry:
        if self.tls is TlsMode.NONE and not _loopback(self.host):
            raise ValueError("passwords are not sent in clear: set tls to required or implicit")
        return self

    def build(self, files: Files) -> ImapServer:
        return ImapServer(
            host=self.host,
            port=self.port,
            tls=self.tls.value,
            verify=self.verify,
            ca=files.existing(self.ca, "ca"),
            user_form=self.user_form,
            domains=tuple(self.domains),
            client_address=self.client_address,
            line=files.line,
        )


class WatchEntry(Entry):
    """One of ``watch:``, a mailbox that Wasl looks into with a service account and changes nothing in."""

    mailbox: Mailbox
    """Address of the mailbox."""
    also: Annotated[list[Mailbox], BeforeValidator(_one_or_more), Field(max_length=100)] = Field(
        default_factory=list
    )
    """Other addresses whose mail comes into it."""
    registry: bool | None = None
    """What is done in it is the registry's act. Default: yes for the agency's `registry` address."""
    host: Host
    port: Port = 993
    tls: TlsMode = TlsMode.IMPLICIT
    verify: bool = True
    ca: Path | None = None
    """Authorities to check its certificate against (PEM); the system's when not given."""
    username: Text | None = None
    """User name of the service account; the mailbox's address when not given."""
    password: str | None = None
    password_file: Path | None = None
    folders: Annotated[dict[str, Meaning], Field(min_length=1, max_length=50)] = Field(
        default_factory=lambda: {"INBOX": Meaning.ARRIVAL}
    )
    """Folder → `arrival`, `registered`, `in-progress`, `processed` or `returned`; `/` between levels."""
    keywords: Annotated[dict[str, Meaning], Field(max_length=50)] = Field(default_factory=dict)
    """IMAP keyword → the same words without `arrival`."""

    @model_validator(mode="after")
    def _together(self) -> WatchEntry:
        if (self.password is None) == (self.password_file is None):
            raise ValueError("needs a password or a password_file, one of them")
        if self.password is not None and (not self.password or _CONTROL.search(self.password)):
            raise ValueError("the password is empty or holds a control character")
        if self.tls in (TlsMode.NONE, TlsMode.OPPORTUNISTIC) and not _loopback(self.host):
            raise ValueError("a password is not sent in clear: set tls to required or implicit")
        for name in self.folders:
            if _CONTROL.search(name) or not name.strip("/ ") or len(name) > 200:
                raise ValueError(f"{name!r} is no name of a folder")
        for word, meaning in self.keywords.items():
            if not _KEYWORD.fullmatch(word):
                raise ValueError(f"{word!r} is no IMAP keyword")
            if meaning is Meaning.ARRIVAL:
                raise ValueError(f"keyword {word}: arrival is said of folders only")
        if len({_folder_key(name) for name in self.folders}) != len(self.folders):
            raise ValueError("a folder stands twice in folders")
        if len({word.lower() for word in self.keywords}) != len(self.keywords):
            raise ValueError("a keyword stands twice in keywords")
        return self

    def build(self, registry: Address | None, files: Files) -> Watch:
        password = self.password
        if self.password_file is not None:
            password = files.secret(self.password_file, "password_file")
        own = registry is not None and registry.key == self.mailbox.key
        return Watch(
            mailbox=self.mailbox,
            also=tuple(self.also),
            registry=own if self.registry is None else self.registry,
            host=self.host,
            port=self.port,
            tls=self.tls.value,
            verify=self.verify,
            ca=files.existing(self.ca, "ca"),
            username=self.username or str(self.mailbox),
            password=password or "",
            folders=tuple(self.folders.items()),
            keywords=tuple(self.keywords.items()),
            line=files.line,
        )


class DkimEntry(Entry):
    """One of ``dkim:``."""

    selector: Annotated[str, AfterValidator(_selector)]
    key_file: Path
    """Private key (PEM), relative to this file."""
    domain: Domain | None = None
    """Default: the agency's first domain."""


class ReceiptsEntry(Entry):
    """``receipts:``, where the agency wants it otherwise than the settings say."""

    accepted: bool | None = None
    relayed: bool | None = None
    delivered: bool | None = None
    late: bool | None = None
    failed: bool | None = None
    read: bool | None = None
    registered: bool | None = None
    referred: bool | None = None
    processed: bool | None = None


class AgencyEntry(Entry):
    """One agency in ``agencies/*.yaml``."""

    code: Annotated[str, AfterValidator(_code)]
    """Stands in the letter number: MOF/2026/000123."""
    name_ar: Text
    name_en: Text
    domains: Annotated[Domains, Field(min_length=1, max_length=200)]
    """Mail domains, exactly; subdomains are named one by one."""
    registry: Mailbox | None = None
    """Mailbox of the registry office (الديوان)."""
    registrars: Annotated[list[Mailbox], BeforeValidator(_one_or_more), Field(max_length=200)] = Field(
        default_factory=list
    )
    """Mailboxes that may register, refer, return and close letters by mail, beside the registry's."""
    incoming: Literal["assigned", "own"] = "own"
    """Incoming numbers (رقم الوارد): `assigned` by the gateway without gap, or the registry's `own`."""
    answers: Literal["closes", "advances", "nothing"] = "closes"
    """What a letter of this agency does to the one that it answers."""
    registry_routing: Annotated[bool, Field(strict=True)] = False
    """Letters from other agencies go to the registry, whomever they are addressed to."""
    mode: Mode = Mode.ACTIVE
    next_hop: HopEntry | None = None
    """The agency's own mail server. Without it nothing can be delivered to the agency."""
    outbound: HopEntry | None = None
    """Where its mail to the outside goes. Without it such mail is refused."""
    networks: Annotated[Networks, Field(max_length=1000)] = Field(default_factory=list)
    """Addresses of its servers that may use the relay port."""
    certificates: Annotated[list[Host], BeforeValidator(_one_or_more)] = Field(default_factory=list)
    """Names in the TLS client certificates of its servers."""
    credentials: Annotated[list[CredentialEntry], Field(max_length=50)] = Field(default_factory=list)
    """User names with which its servers sign in on the relay port."""
    sign_in: SignInEntry | None = None
    imap: Annotated[list[ImapEntry], BeforeValidator(_one_or_more), Field(max_length=20)] = Field(
        default_factory=list
    )
    """The server of its people's mailboxes, which they reach through Wasl; a list when there are several."""
    dkim: Annotated[list[DkimEntry], Field(max_length=100)] = Field(default_factory=list)
    receipts: ReceiptsEntry = ReceiptsEntry()
    ask_read: Literal["always", "author", "never"] | None = None
    """Letters to its people ask for a read receipt; `author`: if the author does. Default: the settings."""
    authserv_ids: Annotated[list[Host], BeforeValidator(_one_or_more)] = Field(default_factory=list)
    """Authentication-Results under these names, from its own server, are believed (RFC 8601)."""
    forwards: Forwards = Forwards.AUTHENTICATED
    """Letters from other senders that its server may forward: `authenticated`, `all` or `none`."""
    watch: Annotated[list[WatchEntry], Field(max_length=200)] = Field(default_factory=list)
    """Mailboxes that Wasl looks into, read-only: when a letter arrived and what the registry does with it."""

    @model_validator(mode="after")
    def _own(self) -> AgencyEntry:
        if self.registry_routing and self.registry is None:
            raise ValueError("registry_routing needs a registry")
        for address in self.registrars:
            if address.host not in self.domains:
                raise ValueError(f"registrars: {address} is of none of the agency's domains")
        if len(set(self.domains)) != len(self.domains):
            raise ValueError("a domain stands twice in domains")
        if len({w.mailbox.key for w in self.watch}) != len(self.watch):
            raise ValueError("a mailbox stands twice in watch")
        served = [domain for server in self.imap for domain in server.domains or ("",)]
        if len(set(served)) != len(served):
            raise ValueError("several entries of imap hold the same domain: name the domains of each")
        for domain in served:
            if domain and domain not in self.domains:
                raise ValueError(f"imap names {domain}, which is none of the agency's domains")
        for key in self.dkim:
            if key.domain is not None and key.domain not in self.domains:
                raise ValueError(f"dkim signs for {key.domain}, which is none of the agency's domains")
        return self

    def build(self, files: Files, place: tuple[str, int]) -> Agency:
        """The agency; faults of the files it names go to ``files``."""
        outbound = None
        if self.outbound is not None:
            outbound = self.outbound.build(f"{self.code}:outbound", files.under("outbound"))
        receipts = tuple((e, v) for e in RECEIPT_EVENTS if (v := getattr(self.receipts, e)) is not None)
        return Agency(
            code=self.code,
            name_ar=self.name_ar,
            name_en=self.name_en,
            domains=tuple(self.domains),
            registry=self.registry,
            registry_routing=self.registry_routing,
            mode=self.mode,
            next_hop=self.next_hop.build(self.code, files.under("next_hop")) if self.next_hop else None,
            outbound=outbound,
            networks=tuple(self.networks),
            certificates=tuple(self.certificates),
            credentials=tuple(
                Credential(username=c.username, password_hash=c.password_hash) for c in self.credentials
            ),
            sign_in=self.sign_in.build(files.under("sign_in")) if self.sign_in else None,
            imap=tuple(server.build(files.under("imap", i)) for i, server in enumerate(self.imap)),
            dkim=tuple(
                DkimKey(
                    selector=key.selector,
                    domain=key.domain or self.domains[0],
                    key_file=files.under("dkim", i).existing(key.key_file, "key_file") or key.key_file,
                )
                for i, key in enumerate(self.dkim)
            ),
            receipts=receipts,
            ask_read=self.ask_read,
            incoming=self.incoming,
            registrars=tuple(self.registrars),
            answers=self.answers,
            authserv_ids=tuple(self.authserv_ids),
            forwards=self.forwards,
            watches=tuple(w.build(self.registry, files.under("watch", i)) for i, w in enumerate(self.watch)),
            file=place[0],
            line=place[1],
            files=tuple(files.named),  # the last one: by now all have been asked for
        )


@dataclass(frozen=True, slots=True)
class Files:
    """Finds the files that an entry names, relative to the entry's own; reports what is missing."""

    folder: Path
    report: Callable[[tuple[int | str, ...], str, str], None]
    line_of: Callable[[tuple[int | str, ...]], int]
    loc: tuple[int | str, ...] = ()
    named: list[tuple[str, Path]] = field(default_factory=list)  # key and file, of the whole entry

    def under(self, *loc: int | str) -> Files:
        return replace(self, loc=(*self.loc, *loc))

    @property
    def line(self) -> int:
        """Of the entry in the agency's file."""
        return self.line_of(self.loc)

    def existing(self, path: Path | None, key: str) -> Path | None:
        """The path made absolute; a fault when it is no file that can be read."""
        if path is None:
            return None
        whole = self._whole(path, key)
        try:
            with whole.open("rb"):
                pass
        except (OSError, ValueError) as e:
            what = (e.strerror if isinstance(e, OSError) else None) or "is no file name"
            self.report((*self.loc, key), f"{path} cannot be read", what)
        return whole

    def secret(self, path: Path, key: str) -> str | None:
        """The first line of a secret file; a fault when it cannot be read or is empty."""
        whole = self._whole(path, key)
        try:
            text = whole.read_text("utf-8").split("\n")[0].strip()
        except (OSError, ValueError) as e:
            what = (e.strerror if isinstance(e, OSError) else None) or "is no text file"
            self.report((*self.loc, key), f"{path} cannot be read", what)
            return None
        if not text:
            self.report((*self.loc, key), f"{path} is empty", "")
        return text

    def _whole(self, path: Path, key: str) -> Path:
        whole = (self.folder / path).absolute()
        self.named.append((".".join(map(str, (*self.loc, key))), whole))
        return whole


def _folder_key(name: str) -> str:
    """INBOX is the same in any case, other names are not (RFC 9051 §5.1)."""
    first, slash, rest = name.strip("/").partition("/")
    return f"{first.upper() if first.upper() == 'INBOX' else first}{slash}{rest}"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
