"""Load and measurement: what a client sees of a server, and what one replica can do.

Two uses share the same measured request. ``load`` puts users or a constant rate on an endpoint and tells latencies and
tokens/s. ``profiler`` loads replicas of its own and makes a profile: chunk and work weights. Neither retries, ever: a
retry would hide what is measured. Server usage is the truth for token counts; bytes are timed as they arrive and read
only after the stream has ended.
"""
