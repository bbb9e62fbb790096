"""Profiles: what one replica of a model does on this machine, and what ``headrace profile`` runs.

Comes in: a registered model. Goes out: a ``profiles.Profile`` with an interval for all that was measured, and whether
the measurement is valid.

- ``shapes``: which requests are measured; ``plan``: in what order, how often, until when.
- ``asking``, ``prompts``: one request; ``station``: one replica under load; ``replicas``: the replicas themselves.
- ``disturbance``: who else used the cores, block by block; ``lock``: one profile at a time.
- ``course``: number of slots, then shapes, then reference requests; ``slots``: how that number is chosen.
- ``evidence``, ``outcome``: from the blocks to the profile.
- ``virtual``: the same course on simulated engines and a virtual clock.
"""
