"""What the gateway counts, for Prometheus: served at ``/metrics`` of the metrics listener."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LETTERS_ACCEPTED = Counter("wasl_letters_accepted_total", "Mail transactions accepted, by kind", ["kind"])
REFUSED = Counter("wasl_refused_total", "Refusals at the door, by enhanced status", ["status"])
DELIVERIES = Counter("wasl_deliveries_total", "Ends of delivery attempts, by result", ["result"])
REPORTS = Counter(
    "wasl_reports_total", "Reports that came back, by kind and whether matched", ["kind", "matched"]
)
RECEIPTS = Counter("wasl_receipts_total", "Receipts sent to authors, by kind", ["kind"])
FOLLOWUPS = Counter("wasl_followups_total", "Steps of follow-up taken, by kind", ["kind"])
ACCEPT_SECONDS = Histogram(
    "wasl_accept_seconds",
    "From the last octet of a letter to its being on stable storage",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
)
DELIVERY_SECONDS = Histogram(
    "wasl_delivery_seconds",
    "From acceptance to the next hop's 250",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 60, 600, 3600, 14400, 86400),
)
HOLDS = Counter("wasl_holds_total", "Ends of holds, by outcome and by whom", ["outcome", "by"])
REGISTRY = Counter("wasl_registry_acts_total", "Acts of registries, by act and from where", ["act", "where"])
WOULD = Counter(
    "wasl_shadow_rules_total", "Recipients to whom a rule in shadow mode would have applied", ["rule"]
)
SESSIONS = Gauge("wasl_smtp_sessions", "Open SMTP sessions")
IMAP_SESSIONS = Gauge("wasl_imap_sessions", "Open IMAP sessions of clients")
IMAP_LOGINS = Counter(
    "wasl_imap_logins_total", "Logins through the IMAP proxy, by how they ended", ["result"]
)
IMAP_SIGHTS = Counter(
    "wasl_imap_sights_total",
    "What clients did with letters through the IMAP proxy, by what became of it",
    ["event"],
)
IMAP_UNWATCHED = Counter("wasl_imap_unwatched_total", "IMAP sessions that go on unwatched because of a fault")
QUEUE = Gauge("wasl_queue_deliveries", "Deliveries waiting, by state", ["state"])
IN_FLIGHT = Gauge("wasl_relay_in_flight", "Deliveries being sent")
LEDGER_SIZE = Gauge("wasl_ledger_size", "Entries in the ledger")
CHECKPOINT_SIZE = Gauge("wasl_checkpoint_size", "Entries that the latest signed checkpoint covers")
WATCHES = Gauge("wasl_watched_mailboxes", "Mailboxes that this process looks into, by state", ["state"])
WATCH_EVENTS = Counter(
    "wasl_watch_events_total", "What watched mailboxes showed of letters, by event", ["event"]
)
WATCH_FAILURES = Counter(
    "wasl_watch_failures_total",
    "Connections to watched mailboxes that failed or were lost, by reason",
    ["reason"],
)
FREE_BYTES = Gauge("wasl_free_bytes", "Free space where the archive is")
CONFIG_FAULTS = Gauge(
    "wasl_config_faults", "Faults in files that could not be loaded (the last good ones are in force)"
)
