"""The simulated engine: an OpenAI-compatible replica whose timing follows a given iteration-time model.

For tests and benchmarks. Nothing it says comes from a language model, and every answer says ``simulated``.

- ``batching``: continuous batching in simulated time, pure; also what a simulator drives on a virtual clock.
- ``live``: the same on the real clock, on an absolute schedule.
- ``prompt``, ``answers``, ``api``: the HTTP side; ``null`` the fixed answer at once.
- ``engine``: how to start it; ``__main__``: the replica process.
"""
