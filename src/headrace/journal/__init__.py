"""Append-only record of what happened to each request; the ledger is built from it.

A line is ``crc32 (8 hex digits), space, one JSON record, newline``. Files are named ``<writer>.<sequence>.journal``;
a living writer holds an exclusive ``flock`` on its newest file, so a reader knows a dead one by taking the lock.
Records go out with ``write()`` at once (they survive the death of the process); ``fsync`` runs in groups in a thread.
"""
