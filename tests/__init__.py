"""Tests: ``unit`` (no sockets), ``wire`` (sockets and real servers), ``servers`` (the servers), ``faults``."""
