"""Load and measurement: what a client sees of a server, and what one replica can do.

``session`` puts a load (``workload``) on a server by processes of its own (``client``) and makes figures of it that say
whether they may be believed (``results``). ``capacity`` looks for the largest rate at which a server holds an objective
(``slo``). ``profiling`` loads replicas of its own and makes a profile: chunk and work weights. Nothing is sent again
unless asked for: a retry would hide what is measured. Server usage is the truth for token counts; bytes are timed as
they arrive and read only after the stream has ended.
"""
