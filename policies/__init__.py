"""What may pass, where it goes and what is asked of it: directory, facts, rules, verdicts.

Pure, synchronous code; imports only ``tracker``.
"""
