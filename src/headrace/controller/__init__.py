"""The control plane: endpoints, keys, the number of replicas, the ledger, the REST API and the page.

In: REST calls, ticks from gateways, what the fleet says of its replicas. Out: snapshots to gateways, asks to the fleet,
events, capacity points. Never: anything that a request waits for while it is served.
"""
