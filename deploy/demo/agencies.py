"""The three sample agencies and the mail servers that they have had before there was a gateway.

Finance and Planning run Postfix in front of Dovecot, as most bodies do: Wasl hands letters to Postfix, and
Postfix reports with a DSN (RFC 3461) once they are in the mailbox. Health lets Wasl deliver straight into
Dovecot by LMTP (RFC 2033), whose answer is already the mailbox. All of it is private configuration on
loopback addresses and free ports; no service of this machine is touched.

How it fails: :class:`tests.servers.place.ServerFailed` says which server did not start, and its log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.servers.dovecot import Dovecot, Tls, dovecot
from tests.servers.place import Child, Place
from tests.servers.postfix import Postfix, postfix

PASSWORD = "wasl-demo-letters"  # of every sample account, mail and dashboard


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody with a mailbox."""

    address: str
    name: str  # as in their own From field


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample agency before its servers run. ``bind`` is the loopback address that its server sends from."""

    code: str
    domain: str
    bind: str
    people: tuple[Person, ...]
    has_postfix: bool

    def person(self, local: str) -> Person:
        """The person with that mailbox; StopIteration when there is none."""
        return next(p for p in self.people if p.address.startswith(f"{local}@"))


FINANCE = Sample(
    code="MOF",
    domain="mof.gov.example",
    bind="127.0.0.11",
    has_postfix=True,
    people=(
        Person(address="diwan@mof.gov.example", name="ديوان وزارة المالية"),
        Person(address="sami@mof.gov.example", name="سامي الحداد"),
        Person(address="lina@mof.gov.example", name="لينا العمري"),
    ),
)
HEALTH = Sample(
    code="MOH",
    domain="moh.gov.example",
    bind="127.0.0.12",
    has_postfix=False,
    people=(
        Person(address="diwan@moh.gov.example", name="ديوان وزارة الصحة"),
        Person(address="rana@moh.gov.example", name="رنا الخطيب"),
    ),
)
PLANNING = Sample(
    code="MOPIC",
    domain="mop.gov.example",
    bind="127.0.0.13",
    has_postfix=True,
    people=(
        Person(address="diwan@mop.gov.example", name="ديوان وزارة التخطيط"),
        Person(address="omar@mop.gov.example", name="Omar Nasser"),
        Person(address="plans@mop.gov.example", name="مديرية الخطط"),
        Person(address="audit@mop.gov.example", name="الرقابة الداخلية"),
    ),
)
SAMPLES = (FINANCE, HEALTH, PLANNING)
REGISTRY = "diwan@moh.gov.example"  # the mailbox that Wasl watches
# Its folders, and what a letter's being there means.
FOLDERS = {
    "INBOX": "arrival",
    "مسجل": "registered",
    "قيد الإجراء": "in-progress",
    "منجز": "processed",
    "معاد": "returned",
}


@dataclass(frozen=True, kw_only=True)
class Agency:
    """A sample agency with its servers running."""

    sample: Sample
    dovecot: Dovecot
    postfix: Postfix | None
    tls: Tls

    @property
    def places(self) -> tuple[Place, ...]:
        """The folders of its servers."""
        return (self.dovecot.place, *((self.postfix.place,) if self.postfix else ()))

    @property
    def children(self) -> tuple[Child, ...]:
        """Its servers' processes."""
        return (self.dovecot.child, *((self.postfix.child,) if self.postfix else ()))

    def directory_lines(self) -> str:
        """What its administrator adds to the agency's file in Wasl's directory."""
        ca, registry = self.tls.authority, f"diwan@{self.sample.domain}"
        port = self.dovecot.imaps_port
        lines = [f"registry: {registry}"]
        lines += ["incoming: assigned"] if self.sample is PLANNING else []  # Wasl gives its incoming numbers
        lines += ["imap:", "  host: 127.0.0.1", f"  port: {port}", f"  ca: {ca}"]
        if registry == REGISTRY:
            lines += ["watch:", f"  - mailbox: {registry}", "    host: 127.0.0.1", f"    port: {port}"]
            lines += [f"    ca: {ca}", f"    password: {PASSWORD}", "    folders:"]
            lines += [f"      {name}: {meaning}" for name, meaning in FOLDERS.items()]
        lines += ["next_hop:", "  host: 127.0.0.1"]
        if self.postfix is None:
            lines += [f"  port: {self.dovecot.lmtp_port}", "  protocol: lmtp", "  tls: none"]
            lines += ["sign_in:", "  kind: imap", "  host: 127.0.0.1", f"  port: {self.dovecot.imaps_port}"]
            lines += ["  tls: implicit", f"  ca: {ca}"]
            return "\n".join(lines)
        lines += [f"  port: {self.postfix.port}", "  tls: required", f"  ca: {ca}"]
        lines += ["sign_in:", "  kind: smtp", "  host: 127.0.0.1", f"  port: {self.postfix.submission_port}"]
        lines += ["  tls: required", f"  ca: {ca}", f"networks: [{self.sample.bind}]"]
        return "\n".join(lines)


@contextmanager
def running(gateway: tuple[str, int], tls: Tls) -> Iterator[list[Agency]]:
    """Start the servers of all sample agencies; what is not theirs they send to ``gateway``."""
    with ExitStack() as stack:
        started: list[Agency] = []
        for sample in SAMPLES:
            mailboxes = {person.address: PASSWORD for person in sample.people}
            boxes = stack.enter_context(dovecot(mailboxes=mailboxes, tls=tls))
            front = None
            if sample.has_postfix:
                front = stack.enter_context(
                    postfix(
                        hostname=f"mail.{sample.domain}",
                        domains=[sample.domain],
                        deliver_to=boxes,
                        relayhost=gateway,
                        tls=tls,
                        bind=sample.bind,
                        # Dovecot's LMTP knows no DSN: its 250 is the mailbox, and Postfix may say so.
                        settings={"lmtp_assume_final": "yes"},
                    )
                )
            started.append(Agency(sample=sample, dovecot=boxes, postfix=front, tls=tls))
        yield started
