"""OpenDKIM: the milter that signs and verifies beside Postfix, over a UNIX socket.

Another implementation than ours, so that what we sign is read by somebody else. Public keys come from a
file (``TestPublicKeys``), no DNS is asked. How it fails: its words are in its output file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.place import Child, Place, own_place, program

_SETTINGS = """
Syslog no
LogWhy yes
UMask 000
Socket local:{at}/socket
Mode {mode}
Canonicalization relaxed/simple
InternalHosts {at}/internal
ExternalIgnoreList {at}/internal
RemoveOldSignatures no
AuthservID {hostname}
AlwaysAddARHeader yes
On-BadSignature accept
MinimumKeyBits 1024
RequireSafeKeys no
"""


@dataclass(frozen=True, kw_only=True)
class OpenDkim:
    """A running OpenDKIM; give ``socket`` to ``postfix(milter=…)``."""

    child: Child
    socket: Path
    hostname: str


@contextmanager
def opendkim_signer(
    place: Place | None = None, *, domain: str, selector: str, key: Path, settings: str = ""
) -> Iterator[OpenDkim]:
    """Sign everything of ``domain`` that comes from the loopback with the RSA key in the file ``key``."""
    with own_place("dk", place) as at:
        own = at.write("key", key.read_text(), mode=0o600)
        extra = f"Domain {domain}\nSelector {selector}\nKeyFile {own}\n{settings}"
        with _started(at, "s", "signer.example", "127.0.0.0/8\n", extra) as server:
            yield server


@contextmanager
def opendkim_verifier(
    place: Place | None = None, *, keys: Mapping[str, str], hostname: str = "verifier.example"
) -> Iterator[OpenDkim]:
    """Verify, and write ``Authentication-Results``. ``keys``: ``selector._domainkey.domain`` to TXT value."""
    with own_place("dk", place) as at:
        lines = "".join(f"{name} {value}\n" for name, value in keys.items())
        known = at.write("public", lines)
        with _started(at, "v", hostname, "192.0.2.1\n", f"TestPublicKeys {known}\n") as server:
            yield server


@contextmanager
def _started(at: Place, mode: str, hostname: str, internal: str, extra: str) -> Iterator[OpenDkim]:
    at.write("internal", internal)
    conf = at.write("opendkim.conf", _SETTINGS.format(at=at.path, mode=mode, hostname=hostname) + extra)
    with Child([program("opendkim"), "-f", "-x", conf], log=at / "opendkim.out", grace=0.2) as child:
        server = OpenDkim(child=child, socket=at / "socket", hostname=hostname)
        child.ready(server.socket.exists, "OpenDKIM")
        yield server
