"""The sample gateway, made and started with the commands that an administrator uses.

``wasl init``, ``wasl agency import``, ``wasl keys make``, ``wasl user add``, ``wasl check``, ``wasl serve``:
what the demonstration does here is what docs/ tells an administrator to do, so it tries those commands too.
DKIM records go to a name server of the demonstration's own, as they would go to the agencies' zones.

How it fails: :class:`tests.servers.place.ServerFailed` with the words of the command.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dns.rdtypes.ANY.TXT
import dns.zone

from deploy.demo.agencies import PASSWORD, SAMPLES, Agency
from tests.servers.dns import NameServer
from tests.servers.dovecot import Tls
from tests.servers.place import answers, free_port
from tests.servers.wasl import House, new_house

HOSTNAME = "wasl.gov.example"
DIRECTORY = Path(__file__).parents[2] / "policies" / "agencies.csv"
POLICY = Path(__file__).with_name("policy")
# Ports that are easy to remember, where they are free.
_WISHES = {
    "relay": 2525,
    "submission": 2587,
    "submissions": 2465,
    "imap": 2143,
    "imaps": 2993,
    "dashboard": 8025,
    "metrics": 9125,
}


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the gateway will listen on 127.0.0.1."""

    relay: int
    submission: int
    submissions: int
    imap: int
    imaps: int
    dashboard: int
    metrics: int

    @classmethod
    def choose(cls) -> Ports:
        """The usual ones, another one for each that is taken."""
        return cls(**{n: free_port() if answers(wish) else wish for n, wish in _WISHES.items()})


@dataclass(frozen=True, kw_only=True)
class Account:
    """A sample account of the dashboard."""

    name: str
    role: str
    agency: str = ""


ACCOUNTS = (
    Account(name="admin", role="admin"),
    Account(name="compliance", role="compliance"),
    *(Account(name=f"diwan.{s.code.lower()}", role="registry", agency=s.code) for s in SAMPLES),
)


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The gateway's folder, and the public keys that its signatures are checked with."""

    house: House
    ports: Ports
    ledger_key: str
    dkim: dict[str, str]  # name to value of the TXT records
    agencies: int


def settle(root: Path, ports: Ports, tls: Tls, resolver: NameServer) -> Gateway:
    """Make the gateway with its settings and the whole directory, nobody connected yet."""
    house, said = new_house(root, hostname=HOSTNAME, relay=f"127.0.0.1:{ports.relay}")
    house.set("tls", certificate=str(tls.certificate), key=str(tls.key))
    for door in ("submission", "submissions", "imap", "imaps"):
        house.listen(door, f"127.0.0.1:{getattr(ports, door)}")
    address = f"127.0.0.1:{ports.dashboard}"
    house.set("dashboard", listen=address, base_url=f"http://{address}")
    house.set("metrics", listen=f"127.0.0.1:{ports.metrics}")
    house.set("archive", keep_free=100_000_000, warn_free=200_000_000)
    house.set("dns", resolvers=[f"{resolver.host}:{resolver.port}"])
    shutil.copytree(POLICY, root / "policy", dirs_exist_ok=True)
    house.run("agency", "import", DIRECTORY)
    return Gateway(
        house=house,
        ports=ports,
        ledger_key=said["ledger_key"],
        dkim={},
        agencies=len(house.rows("agency", "list")),
    )


def connect(gateway: Gateway, agencies: list[Agency], resolver: NameServer) -> None:
    """Connect the sample agencies: next hop, password check and keys; publish the keys."""
    house = gateway.house
    for agency in agencies:
        house.agency(agency.sample.code, agency.directory_lines())
    together(*(partial(house.keys, agency.sample.code) for agency in agencies))
    # What `wasl keys show` prints is a piece of a zone file, for whoever runs the agencies' DNS.
    zone = dns.zone.from_text(house.run("keys", "show"), ".", relativize=False, check_origin=False)
    for name, _, record in zone.iterate_rdatas("TXT"):
        assert isinstance(record, dns.rdtypes.ANY.TXT.TXT)
        gateway.dkim[name.to_text(omit_final_dot=True)] = b"".join(record.strings).decode()
    for published, value in gateway.dkim.items():
        resolver.add(published, "TXT", value)


def open_accounts(gateway: Gateway) -> None:
    """Make the sample accounts of the dashboard, while the gateway runs."""
    made = [("user", "reset", "admin")]
    for account in ACCOUNTS[1:]:
        more = ("--agency", account.agency) if account.agency else ()
        made.append(("user", "add", account.name, "--role", account.role, *more))
    words = f"{PASSWORD}\n"
    run = gateway.house.run
    together(*(partial(run, *command, "--password-stdin", words=words) for command in made))


def together(*calls: Callable[[], object]) -> list[object]:
    """Call them side by side; what they returned, or raises what the first of them raised."""
    with ThreadPoolExecutor(3) as pool:
        return [one.result() for one in [pool.submit(call) for call in calls]]
