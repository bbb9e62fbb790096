"""Every decision, and nothing else: work, admission, queueing, routing, scaling, billing.

Modules here do no I/O, read no clock, start no task and draw no unseeded random number. Time comes in as ``now``
(seconds, monotonic, float) and a decision comes out as a value. The live driver (gateway, controller) and the simulator
call the same code, so what is simulated is what runs.
"""
