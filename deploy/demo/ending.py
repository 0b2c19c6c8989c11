"""What the demonstration says when the letters are where they are: whether all is well, and where to look.

The dashboard is asked which of its pages are there, so that nothing is named that cannot be opened.
"""

from __future__ import annotations

import http.client
import os

from rich.console import Console

from deploy.demo.agencies import PASSWORD, REGISTRY, Agency
from deploy.demo.house import ACCOUNTS, Gateway
from deploy.demo.outcome import Found

_PAGES = (
    ("/letters", "all letters, and one page for each"),
    ("/holds", "a letter waits here for two: sign in as diwan.mof, then as compliance"),
    ("/register", "incoming registers: sign in as diwan.mopic"),
    ("/follow-up", "what is late, due or waits"),
    ("/policy", "the rules, and how often each applied: admin edits, compliance reads"),
    ("/worklist", "reports that fit no letter: admin's"),
)


def verdict(console: Console, found: list[Found], faults: list[str], seconds: float) -> int:
    """Say whether all is as it should be; the exit status: 0 if so, 1 with every difference printed."""
    if faults:
        console.print(f"\n{len(faults)} differences from what should be:", style="bold red")
        for fault in faults:
            console.print(f"  {fault}", markup=False)
        return 1
    receipts = sum(len(one.receipts) for one in found)
    console.print(
        f"\nAll {len(found)} sample letters are where they should be, {receipts} receipts came back, every "
        f"signature verifies, the ledger is whole. {seconds:.0f} s.",
        style="green",
    )
    return 0


def invite(console: Console, gateway: Gateway, agencies: list[Agency], found: list[Found]) -> None:
    """Tell how to look around."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False)

    ports = gateway.ports
    site = f"http://127.0.0.1:{ports.dashboard}"
    console.print("\nOpen the dashboard", style="bold")
    for path, words in _PAGES:
        if _is_there(ports.dashboard, path):
            say(f"  {site + path:<31}  {words}")
    say(f"  accounts: {', '.join(account.name for account in ACCOUNTS)}")
    say(f"  password: {PASSWORD}   (it asks for a new one at the first sign-in)")
    console.print("\nConnect a mail client (through Wasl; user name: the address)", style="bold")
    say(f"  IMAP 127.0.0.1:{ports.imaps} (TLS) or :{ports.imap} (STARTTLS)")
    say(f"  SMTP 127.0.0.1:{ports.submissions} (TLS) or :{ports.submission} (STARTTLS)")
    for agency in agencies:
        names = ", ".join(person.address for person in agency.sample.people)
        say(f"  {names}   (their own server: IMAP :{agency.dovecot.imaps_port})")
    say(f"  password: {PASSWORD}")
    say(f"  the certificate is self-made; its authority: {agencies[0].tls.authority}")
    say(f"  {REGISTRY} is watched: move a letter to its folder منجز and look at the letter's page")
    console.print("\nTry the commands", style="bold")
    if os.environ.get("SUDO_UID"):
        say("  sudo -s   (the files are root's while it runs)")
    say(f"  export WASL_CONFIG={gateway.house.settings}")
    held = next((one.number for one in found if one.letter.key == "waiting" and one.number), "")
    first = found[0].number
    for command in (
        "letter list",
        f"letter trace {first}",
        f"policy explain {held}",
        "followup list answer",
        "hold list",
    ):
        say(f"  .venv/bin/wasl {command}")
    console.print("\nCtrl-C ends everything.")


def _is_there(port: int, path: str) -> bool:
    """True when the dashboard has this page; whoever is not signed in is led to the sign-in."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asked.request("GET", path)
        return asked.getresponse().status != 404
    finally:
        asked.close()
