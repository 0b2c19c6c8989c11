"""The settings: one TOML file, read whole into types, every fault at once with its line.

``read_settings`` of :mod:`gateway.settings_file` is the only way in. Each key is documented at its field,
which is also where ``wasl init`` and the README's table take their words from. ``WASL__SECTION__KEY`` in the
environment overrides a key, ``…_file`` keys read a secret from a file, paths are relative to the
settings file. Raises :class:`policies.faults.ConfigFaults` and nothing else.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.setting_values import (
    DomainName,
    Duration,
    Endpoint,
    HostName,
    IncomingShape,
    Listening,
    Located,
    NameServer,
    NumberShape,
    Octets,
    WebUrl,
    Zone,
    secret,
)
from gateway.settings_authentication import Authentication
from gateway.settings_imap import Imap
from gateway.settings_section import Section
from gateway.settings_watch import WatchSection
from policies.agency_entry import Mailbox, plain
from policies.faults import ConfigFaults

__all__ = ["ConfigFaults", "Endpoint", "Listen", "Settings", "WireDoor"]

Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Text = Annotated[str, AfterValidator(plain)]


class Gateway(Section):
    """Who this gateway is."""

    hostname: HostName
    """Name of this machine, as it greets and stands in Received."""
    domain: DomainName
    """Domain of the gateway's own addresses; the agencies' servers route it to Wasl."""
    title_ar: Text = "وصل"
    """Name of the exchange on receipts and pages, Arabic."""
    title_en: Text = "Wasl"
    """The same in English."""
    data_dir: Located = Path("data")
    """Everything that Wasl keeps: database, archive, spool, sockets."""
    zone: Zone = "Asia/Amman"
    """Time zone of the register year and of the times that people see."""
    node: Annotated[int, Field(ge=0, le=1023, strict=True)] = 0
    """Number of this node, each its own when several share one database."""
    postmaster: Mailbox | None = None
    """Where mail to the postmaster of the gateway's domain goes on to; without it such mail is refused."""


class Database(Section):
    """Where the record lies."""

    url: str | None = None
    """`postgresql+psycopg://user@host/name`; SQLite in data_dir when not given."""
    url_file: Located | None = None
    """File that holds the URL, for one with a password."""
    pool: Annotated[int, Field(ge=4, le=200, strict=True)] = 10
    """Connections to PostgreSQL at most."""

    @model_validator(mode="after")
    def _known(self) -> Database:
        url = secret(self, "url")
        if url is not None and not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("url must begin with sqlite:/// or postgresql+psycopg://")
        object.__setattr__(self, "url", url)
        object.__setattr__(self, "url_file", None)
        return self


class ArchiveSection(Section):
    """Where the letters' octets lie."""

    kind: Literal["local", "s3"] = "local"
    """`local`: a folder; `s3`: an S3-compatible store."""
    path: Located | None = None
    """Folder of the local store; data_dir/archive when not given."""
    memory_limit: Octets = 262_144
    """A letter up to this size is kept in memory until it is stored."""
    keep_free: Octets = 1_000_000_000
    """New letters get 4xx when less than this is free on the disk."""
    warn_free: Octets = 5_000_000_000
    """Below this the log and `wasl check` warn."""
    bucket: str | None = None
    """s3: the bucket."""
    prefix: str = ""
    """s3: put before every key."""
    endpoint: WebUrl | None = None
    """s3: URL of the store when it is not Amazon's."""
    region: str | None = None
    """s3: region."""
    access_key: str | None = None
    """s3: access key id."""
    secret_key: str | None = None
    """s3: secret key; better in a file."""
    secret_key_file: Located | None = None
    """s3: file that holds the secret key."""

    @model_validator(mode="after")
    def _whole(self) -> ArchiveSection:
        object.__setattr__(self, "secret_key", secret(self, "secret_key"))
        object.__setattr__(self, "secret_key_file", None)
        if self.kind == "s3" and not self.bucket:
            raise ValueError('kind = "s3" needs a bucket')
        if self.kind == "local" and (self.bucket or self.endpoint or self.access_key or self.secret_key):
            raise ValueError('bucket, endpoint and keys belong to kind = "s3"')
        if self.warn_free < self.keep_free:
            raise ValueError("warn_free must not be less than keep_free")
        return self


class WireDoor(StrEnum):
    RELAY = "relay"  # port 25, agencies' servers
    SUBMISSION = "submission"  # port 587, STARTTLS before AUTH
    SUBMISSIONS = "submissions"  # port 465, TLS from the first octet
    IMAP = "imap"  # port 143, STARTTLS before a login
    IMAPS = "imaps"  # port 993, TLS from the first octet

    @property
    def mailboxes(self) -> bool:
        """True for the doors that lead to mailboxes, not to the record."""
        return self in (WireDoor.IMAP, WireDoor.IMAPS)


class Tls(Section):
    """Certificate that the gateway shows."""

    certificate: Located | None = None
    """PEM file with the certificate and its chain."""
    key: Located | None = None
    """PEM file with the private key."""
    client_ca: Located | None = None
    """Authorities whose client certificates prove an agency's server on the relay port."""

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs a certificate of our own")
        return self


class Listen(Section):
    """One listening socket (`[[listen]]`, as often as wanted)."""

    door: WireDoor
    """`relay`, `submission` or `imap` (STARTTLS), `submissions` or `imaps` (implicit TLS)."""
    address: Listening
    """`"0.0.0.0:25"`, `"[::]:587"`."""
    certificate: Located | None = None
    """Another certificate than that of [tls]."""
    key: Located | None = None
    """Its key."""

    @model_validator(mode="after")
    def _pair(self) -> Listen:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class Limits(Section):
    """What one peer may ask of the gateway."""

    message_size: Octets = 50_000_000
    """Largest letter."""
    recipients: Annotated[int, Field(ge=100, le=10_000, strict=True)] = 1000
    """Recipients of one transaction (RFC 5321 §4.5.3.1.8: at least 100)."""
    connections: Count = 1000
    """Connections in all."""
    connections_per_address: Count = 100
    """Connections from one address."""
    letters_per_connection: Count = 1000
    """Letters in one connection; then 421."""
    errors_per_connection: Count = 20
    """Refused commands in one connection; then 421."""
    in_flight: Octets = 400_000_000
    """Octets of letters being read at one time in all."""
    command_timeout: Duration = timedelta(minutes=5)
    """Silence between two commands (RFC 5321 §4.5.3.2)."""
    data_timeout: Duration = timedelta(minutes=3)
    """Silence inside DATA."""
    letter_timeout: Duration = timedelta(minutes=30)
    """Time for one letter from DATA to the final dot."""
    hops: Annotated[int, Field(ge=10, le=100, strict=True)] = 50
    """Received fields of a letter; more is a loop."""
    stop_grace: Duration = timedelta(seconds=20)
    """Time that letters being read have when the gateway stops."""


class Submission(Section):
    """Clients that sign in."""

    password_cache: Duration = timedelta(minutes=5)
    """How long a salted hash of a password that was right is remembered; "0s" not at all."""
    failures: Count = 10
    """Wrong passwords of one account or address within failure_window before it has to wait."""
    failure_window: Duration = timedelta(minutes=10)
    """The window, and the wait."""
    timeout: Duration = timedelta(seconds=20)
    """How long the agency's own server may take to answer."""


class Relay(Section):
    """Handing letters to the agencies' servers."""

    retry: Annotated[list[Duration], Field(min_length=1, max_length=40)] = Field(
        default_factory=lambda: [timedelta(minutes=m) for m in (1, 3, 5, 10, 15, 30, 60, 120, 240)]
    )
    """Waits between attempts; the last one repeats."""
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Each wait is made longer or shorter by up to this share."""
    warn_after: Duration = timedelta(hours=4)
    """When the author is told that a letter is late."""
    give_up_after: Duration = timedelta(days=5)
    """When it is returned as failed."""
    connections_per_hop: Annotated[int, Field(ge=1, le=500, strict=True)] = 20
    """Connections to one next hop at most; its max_connections may say less."""
    letters_per_connection: Count = 200
    """Letters over one connection before it is renewed."""
    idle: Duration = timedelta(seconds=20)
    """How long an unused connection is kept."""
    connect_timeout: Duration = timedelta(seconds=30)
    """Time to connect and to shake hands."""
    reply_timeout: Duration = timedelta(minutes=5)
    """Time for an answer to a command."""
    data_timeout: Duration = timedelta(minutes=10)
    """Time for the answer to the final dot (RFC 5321 §4.5.3.2.6)."""
    lease: Duration = timedelta(minutes=15)
    """How long a claimed delivery stays claimed when its node dies."""

    @model_validator(mode="after")
    def _order(self) -> Relay:
        if not timedelta() < self.warn_after < self.give_up_after:
            raise ValueError("warn_after must be more than 0 and less than give_up_after")
        if any(wait < timedelta(seconds=1) for wait in self.retry):
            raise ValueError("a wait in retry must be at least 1s")
        if self.lease <= self.data_timeout:
            raise ValueError("lease must be longer than data_timeout")
        return self


class Numbers(Section):
    """Letter numbers (رقم الصادر)."""

    shape: NumberShape = "{agency}/{year}/{seq:06d}"
    """How a number looks."""
    incoming: IncomingShape = "{seq}/{year}"
    """How an incoming number (رقم الوارد) looks that the gateway assigns."""


class Tags(Section):
    """What is put on copies to other agencies."""

    subject: bool = True
    """`[MOF/2026/000123]` in the subject."""


class Receipts(Section):
    """Which events send the author a receipt by mail, unless agency, policy or NOTIFY say otherwise."""

    accepted: bool = True
    """The letter was accepted, with its number."""
    relayed: bool = False
    """The agency's server took it, no more is known."""
    delivered: bool = True
    """It is in the mailbox."""
    late: bool = True
    """It could not be delivered yet."""
    failed: bool = True
    """It was not delivered, or was cancelled."""
    read: bool = True
    """The recipient's mail program reported it as displayed."""
    registered: bool = True
    """The agency's registry took it in, with its incoming number."""
    referred: bool = False
    """The agency referred it to somebody."""
    processed: bool = True
    """The agency closed, answered or returned it."""
    ask_read: Literal["always", "author", "never"] = "always"
    """Letters ask for a read receipt; `author`: if their author does. Agency and policy go first."""
    digest_above: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 5
    """Above this number of recipients receipts are gathered into a digest."""
    digest_after: Duration = timedelta(minutes=15)
    """How long a digest gathers."""


class Dashboard(Section):
    """The pages."""

    enabled: bool = True
    """Serve the pages."""
    listen: Listening = Endpoint("127.0.0.1", 8025)
    """Behind a TLS proxy, or with a certificate of its own."""
    base_url: WebUrl | None = None
    """How people reach it: stands in receipts and refusals. Default: https://<gateway.hostname>."""
    verify: bool = True
    """Serve /verify, where anybody checks a letter; named in letters and receipts when base_url is set."""
    language: Literal["ar", "en"] = "ar"
    """First language of pages and receipts."""
    certificate: Located | None = None
    """PEM file, for pages without a TLS proxy in front."""
    key: Located | None = None
    """Its key."""
    session: Duration = timedelta(hours=8)
    """An idle session ends after this."""

    @model_validator(mode="after")
    def _pair(self) -> Dashboard:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class Metrics(Section):
    """Prometheus metrics and /healthz."""

    enabled: bool = True
    """Serve metrics and health."""
    listen: Listening = Endpoint("127.0.0.1", 9125)
    """Keep it on loopback or on the monitoring network."""


class Log(Section):
    """Logs go to standard error, one Postfix-style line per recipient among them."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged; lines per recipient are `info`."""
    format: Literal["text", "json"] = "text"
    """`text`: lines as syslog has them; `json`: one object a line."""


class LedgerSection(Section):
    """The ledger that proves that nothing was rewritten."""

    origin: Text | None = None
    """Name of the log in its checkpoints. Default: <gateway.domain>/ledger."""
    key: Located = Path("secrets/ledger.pem")
    """Ed25519 private key (PEM) that signs checkpoints."""
    checkpoint_every: Duration = timedelta(seconds=10)
    """How often a grown log is signed."""


class Secrets(Section):
    """Keys of the gateway itself."""

    mac: Located = Path("secrets/mac.key")
    """Secrets of return addresses and Wasl-Instance, one a line, the newest first."""


class GatewayDkim(Section):
    """Signature of the gateway's own mail: receipts and notices."""

    selector: Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$")]
    """Name of the key in DNS."""
    key_file: Located
    """Private key (PEM), RSA or Ed25519."""


class DirectorySection(Section):
    """The agencies."""

    path: Located = Path("agencies")
    """Folder of YAML files."""


class Policy(Section):
    """The rules."""

    path: Located | None = None
    """Folder of YAML files; the built-in default when not given."""
    watch: bool = True
    """Read the folder again when a file in it changes; else on SIGHUP and `wasl policy reload` only."""
    second_person: bool = False
    """A changed folder is only proposed: another person puts it in force (`wasl policy approve`)."""


class Dns(Section):
    """Name look-ups."""

    resolvers: list[NameServer] = Field(default_factory=list)
    """Addresses of name servers; the system's when empty."""
    timeout: Duration = timedelta(seconds=2)
    """Time for one look-up in all."""


class Settings(Section):
    """Everything in ``wasl.toml``."""

    gateway: Gateway
    tls: Tls = Tls()
    listen: Annotated[list[Listen], Field(max_length=64)] = Field(default_factory=list)
    limits: Limits = Limits()
    submission: Submission = Submission()
    imap: Imap = Imap()
    watch: WatchSection = WatchSection()
    directory: DirectorySection = Field(default_factory=lambda: DirectorySection())
    policy: Policy = Policy()
    relay: Relay = Field(default_factory=lambda: Relay())
    numbers: Numbers = Numbers()
    tags: Tags = Tags()
    receipts: Receipts = Receipts()
    database: Database = Database()
    archive: ArchiveSection = ArchiveSection()
    ledger: LedgerSection = Field(default_factory=lambda: LedgerSection())
    secrets: Secrets = Field(default_factory=lambda: Secrets())
    dkim: Annotated[list[GatewayDkim], Field(max_length=8)] = Field(default_factory=list)
    dashboard: Dashboard = Dashboard()
    metrics: Metrics = Metrics()
    log: Log = Log()
    dns: Dns = Dns()
    authentication: Authentication = Field(default_factory=lambda: Authentication())

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.gateway.data_dir / 'wasl.db'}"

    @property
    def archive_path(self) -> Path:
        """Folder of the local archive."""
        return self.archive.path or self.gateway.data_dir / "archive"

    @property
    def base_url(self) -> str:
        """How people reach the dashboard, without a trailing slash."""
        return self.dashboard.base_url or f"https://{self.gateway.hostname}"

    @property
    def verify_base(self) -> str:
        """The verify page as letters and receipts name it; "" where they do not."""
        section = self.dashboard
        return f"{section.base_url}/verify" if section.enabled and section.verify and section.base_url else ""

    @property
    def ledger_origin(self) -> str:
        return self.ledger.origin or f"{self.gateway.domain}/ledger"
