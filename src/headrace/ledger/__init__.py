"""Usage per request, capacity per served entity over time, and bills.

In: journal records, and the capacity points that the controller notes. Out: usage, bills. Roll-ups are always derived
from the rows, never added up on replay. Never: a decision about serving, or a record thrown away.
"""
