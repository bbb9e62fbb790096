"""The largest open-loop rate that holds an SLO: a pure search (results in, next rate or verdict out) and what follows
from it."""
