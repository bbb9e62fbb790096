"""The data plane: takes requests, decides with ``policy``, journals, and streams answers byte for byte.

In: HTTP from clients, snapshots from the controller. Out: HTTP to replicas, journal records, ticks to the controller.
Never: a policy of its own, a parse of every event on the raw path, or an import of Ray, FastAPI, SQLAlchemy or NumPy.

- ``main``, ``config``: the process. ``app``: which path is whose. ``proxy``: paths of the controller.
- ``auth``, ``request``, ``prompt``, ``call``: from bytes to a valid request. ``errors``: the one error body.
- ``live``, ``endpoint``, ``link``, ``snapshot``: what is served, as the controller says, and what it is told.
- ``flight``: one request to its end. ``attempt``: at one replica, with ``content_type`` and ``time_limits``.
  ``account``, ``outbox``, ``access``: limiter, journal and log of it.
- ``splice``, ``upstream_body``: what the engine is sent. ``relay``, ``meter``: its answer as it is, and its usage.
  ``progress_stream``, ``assemble``: the slower path for engines that must be streamed. ``engine_error``: its refusals.
"""
