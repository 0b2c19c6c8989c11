"""The error that the command line shows as one sentence."""

from __future__ import annotations


class Trouble(Exception):
    """Something stands in the way; the message says what to do about it."""
