"""What one replica can do: iteration-time model, work weights, chunk, hardware, and the files that keep them.

Comes in: measured replica seconds of request shapes. Goes out: a ``Profile``. Nothing here runs an engine or sends a
request; measuring is done elsewhere and ends in these functions.
"""
