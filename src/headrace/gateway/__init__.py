"""The data plane: takes requests, decides with ``policy``, journals, and streams answers byte for byte.

In: HTTP from clients, snapshots from the controller. Out: HTTP to replicas, journal records, ticks to the controller.
Never: a policy of its own, a parse of every event on the raw path, or an import of Ray, FastAPI, SQLAlchemy or NumPy.
"""
