"""Tests: ``unit`` (no sockets), ``wire`` (sockets, real servers), ``servers`` (those servers), ``faults``."""
