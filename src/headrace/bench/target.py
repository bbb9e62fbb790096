"""Where load goes, and what is known of it before the first request."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal

from headrace.policy.work import Weights

Kind = Literal["headrace", "databricks", "openai"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server tells of an endpoint with provisioned throughput. Tokens/s are reference tokens of a Headrace
    server,
    input + output of a Databricks one."""

    chunk: float | None = None
    """Tokens/s; None where those of its served entities differ, or nothing is told."""
    min_chunks: int | None = None
    max_chunks: int | None = None
    chunks_ready: int | None = None
    weights: Weights | None = None
    """On average over where its requests go; work is linear in its weights."""
    simulated: bool = False
    """It is known to run the simulated engine."""
    measuring: bool = False
    """Its server is just taking a profile of it, and the two disturb each other."""
    context: int | None = None
    """Tokens that fit a slot: the least of its served entities."""
    about: dict[str, str] = field(default_factory=dict)
    """Engine, model and version of those that requests go to, in words."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the model or endpoint there."""

    kind: Kind
    url: str
    """Up to and without ``/v1``; with no slash at its end."""
    model: str
    key: str | None = field(repr=False)
    path: str | None = None
    """Where every request goes, in place of the API's own path; appended to ``url``."""
    terms: Terms = Terms()
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    certificate: str | None = None
    """File with the server's own certificate; None: the system's authorities."""
