"""The simulator: an endpoint on a virtual clock, hours of traffic in seconds.

Comes in: requests (when, how long), the terms of an endpoint, an iteration-time model of its replicas, and a scaling
law. Goes out: what every request got, every change of the number of chunks with its reason, and the bill.

The decisions are those of ``policy``, the objects that the gateway and the controller drive: queue, limiter, routing,
demand, scaling, billing. Only what is outside of them is simulated: clients, replicas, time. Nothing here reads a
clock, waits, or draws a random number without a seed.

- ``simulation``: the events, and ``simulate``.
- ``batching``: one replica, iteration by iteration.
- ``replicas``: all of them, from their start to the end of their drain, and what of it is billed.
- ``result``: what comes out.
- ``laws``: what a scaling law is here; Headrace's own, and a fixed number.
- ``hpa``, ``ray_serve``: the laws that others use, to be judged beside it.
- ``replay``: the decisions of a recorded log, decided again.
- ``frontier``: two laws compared at equal attainment.
"""
