"""HTTP/1.1 and server-sent events on raw asyncio protocols, with httptools; meant for uvloop.

Comes in: bytes of strangers. Goes out: complete requests to a handler, answers as they arrive to a caller.
It knows nothing of tokens, keys or JSON, and imports nothing of the project.

- ``server``: ``Server`` and what a handler sees, ``Exchange``.
- ``limits``, ``tls``: what a server takes, and how it is encrypted.
- ``client``: ``Client``, the ``Response`` it returns, and its errors. ``rest``: what may come after an answer.
- ``sse``: borders of events.
"""
