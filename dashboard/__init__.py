"""The pages: where each letter is, and what proves it.

Imports ``policies`` and ``tracker``; opens no mail connection.
"""
