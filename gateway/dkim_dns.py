"""Whether name servers answer, and whether the DNS publishes the keys that we sign with (RFC 6376 §3.6).

Blocking, under the settings' deadline for each name; every failure is an answer in words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import dns.exception
import dns.message
import dns.query
import dns.resolver

from gateway.keys import record_name, record_value
from gateway.setting_values import Endpoint
from gateway.sign import SigningKey

_TAG = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9_]*)\s*=\s*([^;]*)")


def resolver(servers: Sequence[Endpoint], timeout_s: float) -> dns.resolver.Resolver:
    """A resolver on the given servers, or the system's; raises NoResolverConfiguration."""
    made = dns.resolver.Resolver(configure=not servers)
    if servers:
        made.nameservers = [server.host for server in servers]
        made.nameserver_ports = {server.host: server.port for server in servers}
    made.lifetime = timeout_s
    made.timeout = timeout_s
    return made


def silent(names: dns.resolver.Resolver, domain: str) -> list[tuple[str, str]]:
    """The name servers that do not answer, each with the reason in words. Any answer counts as one."""
    out = []
    for server in names.nameservers:
        host = str(server)
        port = names.nameserver_ports.get(host, names.port)
        question = dns.message.make_query(domain, "SOA")
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            dns.query.udp(question, host, timeout=names.lifetime, port=port, ignore_unexpected=True)
        except dns.exception.Timeout:
            out.append((place, f"no answer within {names.lifetime:g} s"))
        except (OSError, ValueError) as e:
            out.append((place, str(getattr(e, "strerror", None) or e)))
        except dns.exception.DNSException:
            continue  # an answer, if an odd one
    return out


def published(key: SigningKey, names: dns.resolver.Resolver) -> str:
    """Empty when the record of a key is published as it should be; else what is wrong, in words."""
    name = record_name(key)
    try:
        answer = names.resolve(name, "TXT", search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return f"{name} is not published"
    except dns.exception.Timeout:
        return f"{name}: no name server answers"
    except dns.exception.DNSException as e:
        return f"{name}: {e}"
    texts = [b"".join(record.strings).decode("latin-1") for record in answer]
    records = [text for text in texts if "p=" in text]
    if len(records) != 1:
        return f"{name} holds {len(records)} key records, there must be one"
    found, wanted = _tags(records[0]), _tags(record_value(key))
    if not found.get("p"):
        return f"{name} is revoked (an empty p=)"
    if found.get("p") != wanted["p"]:
        return f"{name} publishes another key"
    if found.get("k", "rsa") != wanted["k"]:
        return f"{name} says k={found.get('k', 'rsa')}, the key is {wanted['k']}"
    if "y" in found.get("t", "").split(":"):
        return f"{name} is marked as a test (t=y): receivers may ignore it"
    return ""


def _tags(text: str) -> dict[str, str]:
    return {m[1]: re.sub(r"\s+", "", m[2]) for m in (_TAG.match(part) for part in text.split(";")) if m}
