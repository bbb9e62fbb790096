"""The ``headrace`` command: one file per command, each imported only when it is called.

Comes in: words on the command line and the environment. Goes out: tables for people, or one JSON document on one line
with ``--json``; errors as one line on standard error (exit status 1; 2 for usage). Commands about a running server
speak its REST API and nothing else, so they work from another machine just as well.
"""
