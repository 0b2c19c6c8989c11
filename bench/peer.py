"""The peer: Postfix and OpenDKIM, tuned as somebody would who wants to win.

Destination concurrency 50 (initial 20), no ``in_flow_delay``, a long active queue, connections to the sink
kept and reused, no anvil limits, no DNS, no chroot, OpenDKIM over a UNIX socket (over TCP it stalls).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.relay import RelayUnderTest
from tests.servers.opendkim import opendkim_signer
from tests.servers.place import Place
from tests.servers.postfix import postfix

TUNED = {
    "default_process_limit": "200",
    "default_destination_concurrency_limit": "50",
    "initial_destination_concurrency": "20",
    "smtp_destination_concurrency_limit": "50",
    "smtp_destination_concurrency_failed_cohort_limit": "100",
    "qmgr_message_active_limit": "100000",
    "qmgr_message_recipient_limit": "100000",
    "in_flow_delay": "0",
    "smtp_connection_cache_on_demand": "yes",
    "smtp_tls_security_level": "none",
    "smtpd_client_event_limit_exceptions": "static:all",
    "smtpd_client_message_rate_limit": "0",
    "smtpd_client_recipient_rate_limit": "0",
    "minimal_backoff_time": "300s",
    "queue_run_delay": "300s",
}


def signing_key(folder: Path) -> Path:
    """A new RSA-2048 key as a PEM file."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = folder / "rsa.pem"
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return path


@contextmanager
def running_peer(sink_port: int, *, preload: Mapping[str, str] | None = None) -> Iterator[RelayUnderTest]:
    """Start the peer. ``preload`` is an environment for all its daemons (the shim that slows fsync)."""
    with ExitStack() as stack:
        keys = stack.enter_context(Place("bk"))
        signer = stack.enter_context(
            opendkim_signer(domain="mof.gov.example", selector="bench", key=signing_key(keys.path))
        )
        settings = dict(TUNED, smtp_connection_cache_destinations=f"[127.0.0.1]:{sink_port}")
        if preload:
            settings["import_environment"] = "MAIL_CONFIG TZ " + " ".join(preload)
        server = stack.enter_context(
            postfix(
                hostname="peer.gov.example",
                relayhost=("127.0.0.1", sink_port),
                milter=signer.socket,
                settings=settings,
                env=preload,
            )
        )
        yield RelayUnderTest(name="Postfix + OpenDKIM", port=server.port, pid=server.child.pid)
