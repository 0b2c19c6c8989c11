"""The record: letters, deliveries, evidence, receipts, the ledger and the archive.

Plain synchronous code; imports no sibling folder. SQLAlchemy lives here and nowhere else.
"""
