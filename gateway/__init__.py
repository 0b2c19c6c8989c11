"""The wire and the command line: SMTP in and out, signing, relay, supervision.

May import every other folder.
"""
