"""A whole gateway in front of servers: ``wasl serve`` as its own process, and what the tests do to it.

Every agency of :data:`AGENCIES` has a loopback address that its server comes from, so that one machine is
many networks. Most have a scripted sink behind them, because the octets on the wire are what is looked at;
real servers come in where a test needs their behaviour. The record is read from the database, as an auditor
would, never through the gateway's own memory.
"""

from __future__ import annotations

import signal
import smtplib
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dkim
import sqlalchemy
from sqlalchemy import Engine, select

from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.place import PATIENCE, wait_until
from tests.servers.sink import Received, Sink, smtp_sink
from tests.servers.wasl import House, Wasl, copied_house, serving
from tests.wire.wire_letters import header, stuffed
from tracker import schema

DOMAIN = "wasl.gov.example"
STRANGER = "127.0.0.99"  # the network of nobody
RELAY_PASSWORD = "a long relay password"  # of MOF's server, where it has a credential


@dataclass(frozen=True, kw_only=True)
class Agency:
    """One agency of the tests; ``bind`` is where its server comes from, ``more`` more lines of its file."""

    code: str
    domain: str
    bind: str = ""
    more: str = ""

    def lines(self, hop: str) -> str:
        """Its file; ``hop`` are the lines of its next hop."""
        networks = f"networks: [{self.bind}]\n" if self.bind else ""
        return (
            f"code: {self.code}\nname_ar: جهة {self.code}\nname_en: Agency {self.code}\n"
            f"domains: [{self.domain}]\n{networks}{hop}{self.more}"
        )


MOF = Agency(code="MOF", domain="mof.gov.example", bind="127.0.0.21")
MOH = Agency(code="MOH", domain="moh.gov.example", bind="127.0.0.22")
MOJ = Agency(code="MOJ", domain="moj.gov.example", bind="127.0.0.23")
SHADOW = Agency(code="SHD", domain="shadow.gov.example", bind="127.0.0.24", more="mode: shadow\n")
IDN = Agency(code="IDN", domain="وزارة.example")
FORWARDS = Agency(code="FWD", domain="fwd.gov.example", bind="127.0.0.25", more="forwards: all\n")
OLD = Agency(
    code="OLD", domain="old.gov.example"
)  # a server of old: what it does not offer is not sent to it
BOX = Agency(code="BOX", domain="box.gov.example")  # taken by LMTP
MAILBOXES = Agency(code="MBX", domain="mailboxes.gov.example")  # Dovecot takes them by LMTP
OUTBOUND = Agency(code="OUT", domain="out.gov.example", bind="127.0.0.27")  # has a way to the outside
TERSE = Agency(
    code="TRS",
    domain="terse.gov.example",
    bind="127.0.0.26",
    more="receipts: {accepted: false, delivered: false, relayed: true}\n",
)
UNCONNECTED = Agency(code="MOI", domain="moi.gov.example")
AGENCIES = (MOF, MOH, MOJ, SHADOW, IDN, FORWARDS, OLD, BOX, TERSE)


def hop(port: int, protocol: str = "smtp", more: str = "") -> str:
    """The lines of a next hop on the loopback."""
    return f"next_hop: {{host: 127.0.0.1, port: {port}, protocol: {protocol}, tls: none{more}}}\n"


@dataclass(frozen=True, kw_only=True)
class Front:
    """A running gateway and the servers behind it."""

    wasl: Wasl
    engine: Engine
    sinks: Mapping[str, Sink]  # by the agency's code
    authority: Authority
    house: House
    dkim: Mapping[str, str]  # the records of MOF's keys: name to value

    # Handing letters in.

    @contextmanager
    def session(self, agency: Agency | str = MOF, helo: str = "mail.example") -> Iterator[smtplib.SMTP]:
        """A session on the relay port from an agency's network, after EHLO."""
        source = agency if isinstance(agency, str) else agency.bind
        with smtplib.SMTP("127.0.0.1", self.wasl.relay, helo, PATIENCE, (source, 0)) as smtp:
            smtp.command_encoding = "utf-8"
            smtp.ehlo()
            yield smtp

    @contextmanager
    def signed_in(self, user: str, password: str) -> Iterator[smtplib.SMTP]:
        """A session on the submission port, after STARTTLS and AUTH."""
        with smtplib.SMTP("127.0.0.1", self.wasl.submission, "desk.example", PATIENCE) as smtp:
            smtp.command_encoding = "utf-8"
            smtp.starttls(context=self.authority.client())
            smtp.ehlo()
            smtp.login(user, password)
            yield smtp

    def send(
        self,
        octets: bytes,
        *recipients: str,
        sender: str = "author@mof.gov.example",
        agency: Agency | str = MOF,
        params: str = "",
        rcpt_params: str = "",
    ) -> tuple[int, str]:
        """One transaction on the relay port; code and text of the answer to the octets (or to a refusal)."""
        with self.session(agency) as smtp:
            return transaction(
                smtp, octets, *recipients, sender=sender, params=params, rcpt_params=rcpt_params
            )

    def accept(self, octets: bytes, *recipients: str, **more: Any) -> str:
        """As :meth:`send`, for what must be accepted; the letter's number, empty when it took none."""
        code, text = self.send(octets, *recipients, **more)
        assert code == 250, text
        words = text.split()
        return words[-1] if "/" in words[-1] else ""

    # What came out.

    def sink(self, agency: Agency) -> Sink:
        return self.sinks[agency.code]

    def arrived(self, agency: Agency | str, message_id: str, count: int = 1) -> list[Received]:
        """Wait for ``count`` transactions with that Message-ID at an agency's sink; no more may be there."""
        sink = self.sinks[agency if isinstance(agency, str) else agency.code]

        def found() -> list[Received]:
            return [r for r in list(sink.received) if r.message_id == message_id.encode()]

        wait_until(lambda: len(found()) >= count, f"{message_id} at {agency}", hint=self._hint)
        assert len(found()) == count, found()
        return found()

    def receipts(self, message_id: str, *kinds: str, at: Agency = MOF) -> list[Received]:
        """Wait until exactly these kinds of receipts about a letter have come to its author's agency."""
        sink = self.sink(at)
        wanted = sorted(kinds)

        def came() -> list[Received]:
            about = [r for r in list(sink.received) if header(r.octets, "In-Reply-To") == message_id]
            return [r for r in about if header(r.octets, "Wasl-Receipt")]

        def all_of(found: list[Received]) -> list[str]:
            return sorted(header(r.octets, "Wasl-Receipt") for r in found)

        wait_until(
            lambda: len(came()) >= len(wanted),
            f"receipts {', '.join(wanted)} about {message_id}",
            hint=lambda: f"there are {all_of(came())}\n{self._hint()}",
        )
        found = came()
        assert all_of(found) == wanted
        return sorted(found, key=lambda r: header(r.octets, "Wasl-Receipt"))

    def quiet(self) -> None:
        """Wait until nothing is queued, being sent or due: what has not come by now does not come."""

        def waiting() -> int:
            with self.engine.connect() as conn:
                d, r = schema.delivery.c, schema.receipt.c
                queued = select(sqlalchemy.func.count()).where(d.state.in_(("queued", "sending")))
                due = select(sqlalchemy.func.count()).where(r.state == "due")
                return int(conn.scalar(queued) or 0) + int(conn.scalar(due) or 0)

        wait_until(lambda: not waiting(), "an empty queue", hint=self._hint)

    # What the record says.

    def letters(self, message_id: str) -> list[Any]:
        """The letters with that Message-ID, refused ones too."""
        c = schema.letter.c
        with self.engine.connect() as conn:
            return list(conn.execute(select(schema.letter).where(c.message_id == message_id).order_by(c.id)))

    def letter(self, message_id: str) -> Any:
        (row,) = self.letters(message_id)
        return row

    def deliveries(self, message_id: str) -> dict[str, Any]:
        """The deliveries of the one letter with that Message-ID, by recipient; refusals are left out."""
        with self.engine.connect() as conn:
            rows = conn.execute(
                select(schema.delivery)
                .join(schema.letter, schema.letter.c.id == schema.delivery.c.letter_id)
                .where(schema.letter.c.message_id == message_id, schema.letter.c.kind != "refused")
            )
            return {row.recipient: row for row in rows}

    def standing(self, message_id: str) -> dict[str, tuple[str, int, str]]:
        """State, grade and outcome by recipient."""
        return {to: (d.state, d.grade, d.outcome) for to, d in self.deliveries(message_id).items()}

    def wait_standing(self, message_id: str, recipient: str, *wanted: str | int) -> None:
        """Wait until state, grade and outcome of a recipient are ``wanted``."""
        wait_until(
            lambda: self.standing(message_id).get(recipient) == wanted,
            f"{recipient} to be {wanted}",
            hint=lambda: f"it is {self.standing(message_id)}\n{self._hint()}",
        )

    def evidence(self, message_id: str) -> list[Any]:
        """All evidence about the letter with that Message-ID, in order."""
        with self.engine.connect() as conn:
            return list(
                conn.execute(
                    select(schema.evidence)
                    .join(schema.letter, schema.letter.c.id == schema.evidence.c.letter_id)
                    .where(schema.letter.c.message_id == message_id)
                    .order_by(schema.evidence.c.id)
                )
            )

    def worklist(self, letter_id: int) -> list[Any]:
        """What a person has to look at, of one letter."""
        with self.engine.connect() as conn:
            return list(conn.execute(select(schema.worklist).where(schema.worklist.c.letter_id == letter_id)))

    def submissions(self, letter_id: int) -> list[Any]:
        with self.engine.connect() as conn:
            c = schema.submission.c
            return list(conn.execute(select(schema.submission).where(c.letter_id == letter_id)))

    def original(self, letter_id: int) -> bytes:
        """The archived octets of a letter's first transaction."""
        (first, *_) = self.submissions(letter_id)
        path: Path = self.house.data / "archive" / first.archive_key
        return path.read_bytes()

    def reload(self) -> None:
        """Read the directory again at once, as ``systemctl reload`` does."""
        self.wasl.child.process.send_signal(signal.SIGHUP)

    def verify(self) -> None:
        """The ledger is whole; raises ServerFailed with the rows that do not fit."""
        self.house.run("ledger", "verify")

    def signatures(self, octets: bytes) -> list[str]:
        """The algorithms of those signatures of MOF that verify (RFC 6376, RFC 8463), by dkimpy."""
        message: Any = dkim.DKIM(octets)  # type: ignore[no-untyped-call]
        good = []
        for index in range(octets.count(b"DKIM-Signature:")):
            if message.verify(idx=index, dnsfunc=lambda name, timeout=5: self._key(name)):
                good.append(bytes(message.signature_fields[b"a"]).decode())
        return sorted(good)

    def _key(self, name: bytes) -> bytes:
        return self.dkim.get(name.decode().rstrip("."), "").encode()

    def _hint(self) -> str:
        return self.wasl.log()[-4000:]


def transaction(
    smtp: smtplib.SMTP,
    octets: bytes,
    *recipients: str,
    sender: str = "author@mof.gov.example",
    params: str = "",
    rcpt_params: str = "",
) -> tuple[int, str]:
    """MAIL, RCPT, DATA with exactly these octets; the last answer, or the one that refuses."""
    answer = smtp.docmd("MAIL", f"FROM:<{sender}> {params}".rstrip())
    for recipient in recipients:
        if answer[0] == 250:
            answer = smtp.docmd("RCPT", f"TO:<{recipient}> {rcpt_params}".rstrip())
    if answer[0] == 250:
        answer = smtp.docmd("DATA")
    if answer[0] == 354:
        assert smtp.sock is not None
        smtp.sock.sendall(stuffed(octets))
        answer = smtp.getreply()
    else:
        smtp.rset()
    return answer[0], answer[1].decode("utf-8", "replace")


def _house(root: Path, hostname: str, relay: int) -> House:
    house = copied_house(root, hostname=hostname)
    text = house.settings.read_text("utf-8")
    house.settings.write_text(text.replace('"127.0.0.1:0"', f'"127.0.0.1:{relay}"', 1), "utf-8")
    return house


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """What ``wasl keys make`` left: the files it wrote, the lines of the agency's file, the DNS records."""

    root: Path
    files: Mapping[Path, bytes]
    lines: str
    records: Mapping[str, str]


_made: list[_Keys] = []


def _keys_of_mof(house: House) -> Mapping[str, str]:
    """Give MOF its DKIM keys, made by the command once a process; the records."""
    if _made:
        (keys,) = _made
        for path, octets in keys.files.items():
            (house.root / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (house.root / path).write_bytes(octets)
            (house.root / path).chmod(0o600)
        house.agency("MOF", keys.lines.replace(str(keys.root), str(house.root)))
        return keys.records
    before = set(house.root.rglob("*"))
    records = house.keys("MOF")
    new = [path for path in house.root.rglob("*") if path not in before and path.is_file()]
    text = (house.root / "agencies" / "mof.yaml").read_text("utf-8")
    _made.append(
        _Keys(
            root=house.root,
            files={path.relative_to(house.root): path.read_bytes() for path in new},
            lines=text[text.index("dkim:") :],
            records=records,
        )
    )
    return records


@contextmanager
def gateway_front(
    root: Path,
    authority: Authority,
    *,
    hostname: str = DOMAIN,
    relay: int = 0,
    people: Dovecot | None = None,
    database_url: str = "",
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    agencies: Sequence[Agency] = AGENCIES,
    sinks: Mapping[str, Sink] | None = None,
    hops: Mapping[str, str] | None = None,
    doors: Sequence[str] = (),
) -> Iterator[Front]:
    """Start a gateway and a sink behind it for each agency that is not given one, or the lines of a next hop.

    ``people`` is the Dovecot that knows the passwords of MOF's people, ``relay`` the port of the relay door,
    ``doors`` are more doors to open.
    """
    hops = hops or {}
    with ExitStack() as stack:
        house = _house(root / "gateway", hostname, relay)
        tls = authority.issue(hostname, "127.0.0.1", "localhost")
        house.set("tls", certificate=str(tls.certificate), key=str(tls.key))
        house.listen("submission", "127.0.0.1:0")
        house.listen("submissions", "127.0.0.1:0")
        for door in doors:
            house.listen(door, "127.0.0.1:0")
        house.set("dashboard", listen="127.0.0.1:0", base_url="http://127.0.0.1")
        house.set("metrics", listen="127.0.0.1:0")
        house.set("archive", keep_free=1_000_000, warn_free=1_000_000)
        house.set("relay", retry=["1s"])
        house.set("dns", resolvers=["127.0.0.1:9"])  # nobody there: what a test asks for it says so itself
        house.set("limits", errors_per_connection=1000)
        for section, values in (sections or {}).items():
            house.set(section, **values)
        url = database_url or f"sqlite:///{house.data / 'wasl.db'}"
        if database_url:
            house.set("database", url=database_url)
        behind = dict(sinks or {})
        for agency in agencies:
            lines = hops.get(agency.code)
            if lines is None:
                if agency.code not in behind:
                    behind[agency.code] = stack.enter_context(smtp_sink())
                sink = behind[agency.code]
                lines = hop(sink.port, "lmtp" if sink.lmtp else "smtp")
            house.agency(agency.code, agency.lines(lines))
        house.agency(UNCONNECTED.code, UNCONNECTED.lines(""))
        dkim_records = _keys_of_mof(house)
        if people is not None:
            sign_in = f"kind: imap, host: 127.0.0.1, port: {people.imap_port}, tls: none"
            house.agency("MOF", f"sign_in: {{{sign_in}}}\n")
        wasl = stack.enter_context(serving(house))
        engine = sqlalchemy.create_engine(url)
        stack.callback(engine.dispose)
        yield Front(
            wasl=wasl, engine=engine, sinks=behind, authority=authority, house=house, dkim=dkim_records
        )


def raw_session(port: int, context: ssl.SSLContext | None = None) -> socket.socket:
    """A bare connection, for what no client library would send."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return context.wrap_socket(sock, server_hostname="localhost") if context else sock
