"""Two gateways that point at each other, and at each end people who are away: it ends by itself.

Minutes are pressed into seconds: what waits is tried each second, and given up after nine. A responder
answers at once; RFC 3834 §2 lets it answer one sender once in some days, which only the crude ones do here.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.certificates import Authority
from tests.servers.place import free_port
from tests.servers.sink import Received
from tests.wire.gateway_front import Agency, Front, gateway_front, hop
from tests.wire.wire_letters import header, letter, new_id

pytestmark = pytest.mark.servers


class Away(threading.Thread):
    """Who answers all that comes: that he is away, and with a read receipt where one is asked for.

    ``crude``: it looks at no header field, answers whomever From names, receipts and null senders too, as an
    ordinary letter; but nobody twice, as even ``vacation`` of old did.
    """

    def __init__(self, front: Front, agency: Agency, person: str, *, crude: bool) -> None:
        super().__init__(name=f"away {person}", daemon=True)
        self.front, self.agency, self.person, self.crude = front, agency, person, crude
        self.answered: set[str] = set()
        self.answers: list[tuple[int, str]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        done = 0
        while not self.stop.wait(0.05):
            received = list(self.front.sink(self.agency).received)
            for one in received[done:]:
                if any(to.startswith(f"<{self.person}>".encode()) for to in one.recipients):
                    self.meet(one)
            done = len(received)

    def meet(self, one: Received) -> None:
        back = one.sender.partition(b">")[0][1:].decode()
        asked = header(one.octets, "Disposition-Notification-To")
        if asked:
            self.say(self.receipt(one, asked), asked, sender=self.person if self.crude else "")
        if self.crude:
            to = header(one.octets, "From").rpartition("<")[2].rstrip(">")
            if to not in self.answered:
                self.answered.add(to)
                self.say(self.away(one, to, ""), to, sender=self.person)
        elif (
            back and header(one.octets, "Auto-Submitted") in ("", "no") and not header(one.octets, "List-Id")
        ):
            self.say(self.away(one, back, "Auto-Submitted: auto-replied (vacation)\r\n"), back, sender="")

    def say(self, octets: bytes, to: str, *, sender: str) -> None:
        code, text = self.front.send(octets, to, sender=sender, agency=self.agency)
        self.answers.append((code, f"{to} {text}"))

    def away(self, one: Received, to: str, more: str) -> bytes:
        told = header(one.octets, "Message-ID")
        return (
            f"From: {self.person}\r\nTo: {to}\r\nSubject: Away until Sunday\r\nMessage-ID: {new_id()}\r\n"
            f"In-Reply-To: {told}\r\nReferences: {told}\r\n{more}\r\nI am away.\r\n"
        ).encode()

    def receipt(self, one: Received, to: str) -> bytes:
        return (
            f"From: {self.person}\r\nTo: {to}\r\nSubject: Read\r\nMessage-ID: {new_id()}\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: multipart/report; boundary=b; report-type=disposition-notification\r\n\r\n"
            "--b\r\n\r\nRead.\r\n--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
            f"Final-Recipient: rfc822; {self.person}\r\n"
            f"Original-Message-ID: {header(one.octets, 'Message-ID')}\r\n"
            "Disposition: automatic-action/MDN-sent-automatically; displayed\r\n\r\n--b--\r\n"
        ).encode()


@contextmanager
def two_gateways(root: Path, authority: Authority) -> Iterator[tuple[Front, Front, Agency, Agency]]:
    """MOF is behind the first, MOH behind the second; each reaches the other's agency through the other."""
    one, two = free_port(), free_port()
    for name in ("1", "2"):
        (root / name).mkdir()
    other = "forwards: all\n"  # the other gateway's return addresses are no addresses of the agency behind it
    mof = Agency(code="MOF", domain="mof.gov.example", bind="127.0.0.21")
    moh = Agency(code="MOH", domain="moh.gov.example", bind="127.0.0.22")
    far_moh = Agency(code="MOH", domain="moh.gov.example", bind="127.0.0.1", more=other)
    far_mof = Agency(code="MOF", domain="mof.gov.example", bind="127.0.0.1", more=other)
    gate_a = Agency(code="WSA", domain="a.wasl.example")
    gate_b = Agency(code="WSB", domain="b.wasl.example")
    quick = {"relay": {"retry": ["1s"], "warn_after": "4s", "give_up_after": "9s"}}
    with (
        gateway_front(
            root / "1",
            authority,
            hostname="a.wasl.example",
            relay=one,
            agencies=(mof, far_moh, gate_b),
            hops={"MOH": hop(two), "WSB": hop(two)},
            sections=quick,
        ) as a,
        gateway_front(
            root / "2",
            authority,
            hostname="b.wasl.example",
            relay=two,
            agencies=(moh, far_mof, gate_a),
            hops={"MOF": hop(one), "WSA": hop(one)},
            sections=quick,
        ) as b,
    ):
        yield a, b, mof, moh


def settled(*ends: tuple[Front, Agency]) -> int:
    """Wait until nothing has come to anybody for three seconds; how many messages that are in all."""

    def came() -> int:
        return sum(len(front.sink(agency).received) for front, agency in ends)

    last, since, until = -1, time.monotonic(), time.monotonic() + 240
    while time.monotonic() - since < 3:
        assert time.monotonic() < until, f"it does not end: {came()} messages"
        for front, _ in ends:
            front.quiet()
        if came() != last:
            last, since = came(), time.monotonic()
        time.sleep(0.1)
    return last


CRUDE = ((False, False), (False, True), (True, False), (True, True))


def test_people_who_are_away_at_both_ends(tmp_path: Path, authority: Authority) -> None:
    with two_gateways(tmp_path, authority) as (a, b, mof, moh):
        pairs = [
            (
                Away(a, mof, f"author{i}@mof.gov.example", crude=one),
                Away(b, moh, f"diwan{i}@moh.gov.example", crude=other),
            )
            for i, (one, other) in enumerate(CRUDE)
        ]
        everybody = [person for pair in pairs for person in pair]
        for person in everybody:
            person.start()
        sent: list[tuple[str, str]] = []
        try:
            for author, diwan in pairs * 2:
                octets, message_id = letter(diwan.person, author=author.person)
                a.accept(octets, diwan.person, sender=author.person)
                sent.append((message_id, diwan.person))
            total = settled((a, mof), (b, moh))
        finally:
            for person in everybody:
                person.stop.set()
                person.join(90)
        # A letter, its receipts, one answer each way: far below what a loop would bring in a second.
        assert total <= 8 * len(sent), sorted(Counter(person.person for person in everybody))
        assert {code for person in everybody for code, _ in person.answers} <= {250, 550}
        for message_id, reader in sent:
            a.wait_standing(message_id, reader, "sent", 5, "open")
            about = [r.octets for r in a.sink(mof).received if header(r.octets, "In-Reply-To") == message_id]
            kinds = Counter(kind for octets in about if (kind := header(octets, "Wasl-Receipt")))
            assert kinds == {"submitted": 1, "read": 1}, kinds
        for front in (a, b):
            front.verify()
            assert "Traceback" not in front.wasl.log()
