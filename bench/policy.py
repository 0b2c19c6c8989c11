"""What a decision costs: `python -m bench.policy [--json] [--letters N]`.

The facts of a letter of 10 KB are given; measured is the CPU time of this thread for one decision on one
recipient, the median of many letters. Three policies: the built-in set; 1,000 rules as a ministry
might write them (agencies, mailboxes, marks, attachments, bounds), of which 300 have a ``when:``; and 300
expressions whose match keys all hold, so that each is evaluated for each letter. ``cold`` is the first
letter of a sort, before the index knows it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from policies.agency import Mode
from policies.author import AuthorKind
from policies.chain import Policy
from policies.facts import AttachmentFact, Facts, Pending, Place, RecipientFacts, SenderKind
from policies.load import LETTERS, load_policy, load_policy_texts
from policies.rates import PolicyState
from tracker.model import Address, Door, Recipient

RULES, EXPRESSIONS = 1000, 300
WHEN = (
    'size > {n} && subject.contains("x{n}")',
    'attachments.exists(a, a.extension == "e{n}" && a.size > {n})',
    'at_least(classification, "secret") && recipients > {n}',
    'header("X-Case-{m}") == "{n}" || author.endsWith("@a{n}.example")',
    '!working_time && hour > {m} && authentication.spf == "fail{n}"',
)
MATCH = (
    "{{submitter: A{n}, recipient_agency: B{m}}}",
    "{{author_mailbox: [u{n}@a{m}.example, '@d{n}.example']}}",
    "{{classification_at_least: restricted, recipient_agency: [B{m}, C{n}]}}",
    "{{attachment_type: [application/x-{n}, image/*], size_over: {n}000}}",
    "{{attachments_over: {m}, submitter: [A{n}, Z{m}]}}",
    "{{subject_contains: [word{n}], sender: own}}",
    "{{recipient_mailbox: r{n}@b{m}.example}}",
)


def rules(*, evaluated: bool = False) -> str:
    """1,000 rules as YAML; ``evaluated``: the 300 with expressions alone, all of which are asked."""
    out = ["rules:"]
    for n in range(RULES):
        m = n % 50
        expression = n * EXPRESSIONS // RULES != (n + 1) * EXPRESSIONS // RULES
        effect = "action: hold" if n % 3 and not evaluated else "receipts: [accepted]"
        match = "{sender: own}" if evaluated else MATCH[n % len(MATCH)].format(n=n, m=m)
        if evaluated and not expression:
            continue
        out += [
            f"  - id: rule-{n:04d}",
            f"    priority: {100 + n % 40}",
            "    description: {ar: قاعدة, en: A rule}",
            f"    match: {match}",
            f"    {effect}",
        ]
        if expression:
            out.append(f"    when: '{WHEN[n % len(WHEN)].format(n=n, m=m)}'")
    return "\n".join(out) + "\n"


def letter(number: int = 0) -> Facts:
    """The facts of a letter of 10 KB with one attachment."""
    to = Recipient(address=Address.parse(f"b{number}@moh.example"))
    return Facts(
        door=Door.RELAY,
        peer="10.1.0.5",
        submitters=("MOF",),
        submitter="MOF",
        submitter_mode=Mode.ACTIVE,
        sender=f"a{number}@mof.example",
        sender_kind=SenderKind.OWN,
        sender_agency="MOF",
        author=f"a{number}@mof.example",
        author_kind=AuthorKind.OWN,
        author_agency="MOF",
        recipients=(
            RecipientFacts(recipient=to, place=Place.AGENCY, agency="MOH", mode=Mode.ACTIVE, connected=True),
        ),
        size=10_240,
        subject=f"موازنة العام القادم {number}",
        message_id=f"<{number}@mof.example>",
        at_us=1_767_520_800_000_000 + number,
        attachments=(
            AttachmentFact(
                name="plan.pdf",
                declared="application/pdf",
                detected="application/pdf",
                size=6_000,
                sha256="0" * 64,
                extension="pdf",
            ),
        ),
    )


def spent(action: Callable[[Facts], object], facts: Sequence[Facts]) -> list[float]:
    """Microseconds of CPU of each call, sorted."""
    out = []
    for one in facts:
        began = time.thread_time_ns()
        action(one)
        out.append((time.thread_time_ns() - began) / 1000)
    return sorted(out)


def large(*, evaluated: bool = False) -> Policy:
    files = {"letters.yaml": LETTERS.read_text("utf-8"), "many.yaml": rules(evaluated=evaluated)}
    return load_policy_texts(files)


def loading(load: Callable[[], Policy]) -> tuple[Policy, float]:
    """The policy, and the milliseconds of CPU that reading it took."""
    began = time.process_time()
    policy = load()
    return policy, (time.process_time() - began) * 1000


def run(count: int) -> dict[str, list[float]]:
    """Microseconds of all decisions, by what was decided; of loading, milliseconds."""
    letters = [letter(n) for n in range(count)]
    marked = [replace(f, marks=(("subject", "عاجل"), ("subject", "محدود"))) for f in letters]
    sorts = [replace(f, submitter=f"A{i % 50}", hops=i % 40) for i, f in enumerate(letters[:200])]
    envelopes = [replace(f, pending=frozenset({Pending.HEADER}), size=0, attachments=()) for f in letters]
    default, default_ms = loading(load_policy)
    many, many_ms = loading(large)
    asked = large(evaluated=True)
    state = PolicyState()
    return {
        "built-in set": spent(default.decide, letters),
        "built-in set, rates counted": spent(lambda f: default.decide(f, state), letters),
        "built-in set, letters with marks": spent(default.decide, marked),
        "built-in set, at RCPT": spent(default.recipient, envelopes),
        "1,000 rules, 300 with CEL": spent(many.decide, letters),
        "1,000 rules, 300 with CEL, letters with marks": spent(many.decide, marked),
        "1,000 rules, 300 with CEL, at RCPT": spent(many.recipient, envelopes),
        "1,000 rules, 300 with CEL, cold": spent(large().decide, sorts),
        "300 expressions, each evaluated": spent(asked.decide, letters[:300]),
        "ms to read and compile the built-in set": [default_ms],
        "ms to read and compile 1,000 rules, 300 with CEL": [many_ms],
    }


def main() -> int:
    """Measure and tell; exit status 0."""
    parser = argparse.ArgumentParser(description="CPU time of decisions")
    parser.add_argument("--json", action="store_true", help="one line of JSON, medians only")
    parser.add_argument("--letters", type=int, default=2000)
    options = parser.parse_args()
    results = run(options.letters)
    if options.json:
        print(json.dumps({name: round(statistics.median(times), 1) for name, times in results.items()}))
        return 0
    print(f"{'CPU µs of a decision for one recipient':50} {'median':>9} {'p99':>9} {'worst':>9}")
    for name, times in results.items():
        p99 = times[int(len(times) * 0.99)]
        print(f"{name:50} {statistics.median(times):9.1f} {p99:9.1f} {times[-1]:9.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
