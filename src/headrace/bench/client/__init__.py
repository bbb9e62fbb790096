"""The load client: processes that send their share of a schedule, time the bytes of answers as they arrive, and write
records.

In: a run's specification. Out: records (``records``) in files of one process each, merged at the end. Decides nothing
about figures.
"""
