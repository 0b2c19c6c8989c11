"""``make demo``: Wasl between sample agencies with real mail servers, as docs/demo.md tells."""
