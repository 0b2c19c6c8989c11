"""Wasl measured against its peer on this machine, in turn: ``make bench``.

The peer is what an agency would otherwise run: Postfix tuned for throughput, with OpenDKIM signing
RSA-2048 over a UNIX socket. Both relay to the same sink; what counts is letters that have *reached* it.
"""
