"""``make demo``: start everything, send the sample letters, print the table, check it, keep running.

Exit status: 0 when all is as it should be (with ``--once``), 1 with every difference printed, 2 when it
could not be started. Everything it started ends with it, by pid, also on failure, Ctrl-C and SIGTERM; should
it be killed outright, the kernel ends its servers (PR_SET_PDEATHSIG). Its data are in ``.demo``.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console

from deploy.demo import ending, outcome, table
from deploy.demo.agencies import SAMPLES, Agency, running
from deploy.demo.clients import ClientFailed, Doors
from deploy.demo.house import (
    HOSTNAME,
    Gateway,
    Ports,
    connect,
    open_accounts,
    settle,
)
from deploy.demo.letters import first
from deploy.demo.mailboxes import lay_out
from deploy.demo.stations import Exchange
from tests.servers.certificates import Authority
from tests.servers.dns import name_server
from tests.servers.place import Child, Place, ServerFailed, read_log
from tests.servers.wasl import serving

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".demo"
PATIENCE = 45.0  # seconds for all letters and receipts to arrive; a machine at rest needs about four

# A pipe has no width of its own.
console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140)


def main() -> int:
    """Run the demonstration; the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description="Wasl between sample agencies.")
    parser.add_argument("--once", action="store_true", help="end after the table")
    options = parser.parse_args()
    as_root()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell without job control has it ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        return run(once=options.once)
    except (ServerFailed, ClientFailed, OSError) as fault:
        console.print(f"\nThe demonstration stopped: {fault}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("\nstopped")
        return 130
    finally:
        give_back()


def as_root() -> None:
    """Mail servers change user, so whoever starts them must be root: ask sudo, or say so."""
    if os.geteuid() == 0:
        return
    sudo = shutil.which("sudo")
    quiet = sudo and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode == 0
    if sudo and (quiet or sys.stdin.isatty()):
        os.execv(sudo, [sudo, "-E", sys.executable, "-m", "deploy.demo", *sys.argv[1:]])
    console.print(
        "The demonstration starts Postfix and Dovecot, which only root can do.\n"
        "Run it as root, or as a user whom sudo lets without a password: sudo make demo"
    )
    sys.exit(2)


def give_back() -> None:
    """What lies in ``.demo`` belongs to the user who called sudo, not to root."""
    owner = os.environ.get("SUDO_UID")
    if owner is not None and HOME.exists():
        for path in (HOME, *HOME.rglob("*")):
            os.lchown(path, int(owner), int(os.environ["SUDO_GID"]))


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    console.print(f"  {what} … ", end="", soft_wrap=True)
    began = time.monotonic()
    yield
    console.print(f"{time.monotonic() - began:.1f} s", style="dim")


def run(*, once: bool) -> int:
    """Everything, in order."""
    began = time.monotonic()
    lock = clear()
    ports = Ports.choose()
    console.print("Starting the sample agencies and Wasl between them", style="bold")
    with lock, ExitStack() as stack:
        tls = Authority(HOME / "tls").issue("127.0.0.1", "localhost", HOSTNAME)
        with step("name server, Postfix and Dovecot of three agencies"):
            resolver = stack.enter_context(name_server())
            agencies = stack.enter_context(running(("127.0.0.1", ports.relay), tls))
            remember(*(place for agency in agencies for place in agency.places))
            lay_out(agencies)
        with step("wasl init, and the whole directory with wasl agency import"):
            gateway = settle(HOME / "gateway", ports, tls, resolver)
        with step("three agencies connected: next hops, password checks, DKIM keys"):
            connect(gateway, agencies, resolver)
        with step("wasl check, wasl policy test, wasl serve"), ThreadPoolExecutor(1) as pool:
            checked = pool.submit(check, gateway)
            wasl = stack.enter_context(serving(gateway.house, HOME / "wasl.log"))
            checked.result()
        letters = exchange(gateway, agencies)
        found = letters.found
        console.print()
        table.show(console, found)
        faults = [*letters.faults, *(fault for one in found for fault in one.differences())]
        with step("signatures of all copies, receipts offline, wasl ledger verify"):
            faults += outcome.proofs(gateway, found, HOME / "receipts")
        status = ending.verdict(console, found, faults, time.monotonic() - began)
        if not once:
            ending.invite(console, gateway, agencies, found)
            watch([wasl.child, *(child for agency in agencies for child in agency.children)])
        return status


def check(gateway: Gateway) -> None:
    """What an administrator asks before letting letters through; ServerFailed when there is a fault."""
    codes = [word for sample in SAMPLES for word in ("--agency", sample.code)]
    gateway.house.run("check", *codes)
    gateway.house.run("policy", "test")


def clear() -> IO[str]:
    """Remove what an earlier run left, and hold the folder; raises ServerFailed while another one runs.

    Should that run have been killed, the folders of its mail servers are removed as well.
    """
    HOME.mkdir(mode=0o700, exist_ok=True)
    lock = (HOME / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ServerFailed("another demonstration runs in this folder; end it first") from None
    left = HOME / "places"
    for line in left.read_text().splitlines() if left.exists() else ():
        if line.startswith("/tmp/wasl-"):
            shutil.rmtree(line, ignore_errors=True)
    for path in HOME.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
    for name in ("tls", "letters", "receipts"):
        (HOME / name).mkdir()
    return lock


def remember(*places: Place) -> None:
    """Mail servers run as other users, whom a home directory may be closed to: their folders are in /tmp."""
    (HOME / "places").write_text("".join(f"{place.path}\n" for place in places))


def watch(children: list[Child]) -> None:
    """Until Ctrl-C, or until something that should run does not: ServerFailed says what."""
    try:
        while True:
            for child in children:
                if not child.alive:
                    raise ServerFailed(f"a server ended by itself:\n{read_log(child.log)}")
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("\nending everything")


def doors(gateway: Gateway, agencies: list[Agency]) -> Doors:
    return Doors(
        submission=gateway.ports.submission,
        submissions=gateway.ports.submissions,
        imaps=gateway.ports.imaps,
        postfix={a.sample.domain: a.postfix.submission_port for a in agencies if a.postfix},
        authority=agencies[0].tls.authority,
    )


def exchange(gateway: Gateway, agencies: list[Agency]) -> Exchange:
    """Send the letters, have people do what they do with them, wait until all is as it should be."""
    letters = Exchange(gateway, agencies, doors(gateway, agencies), HOME / "letters")
    with (
        step("letters from swaks, msmtp, curl and an agency's own Postfix; accounts of the dashboard"),
        ThreadPoolExecutor(1) as pool,
    ):
        accounts = pool.submit(open_accounts, gateway)
        for letter in first():
            letters.hand_in(letter)
        accounts.result()
    with step("deliveries and reports; people answer, approve, fetch, confirm, register, file"):
        letters.settle(PATIENCE)
    return letters


if __name__ == "__main__":
    sys.exit(main())
