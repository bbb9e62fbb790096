"""The members of a request's body that matter here. (Structs of msgspec have a module of their own: see setup.py.)"""

from __future__ import annotations

import enum
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType


class Shape(enum.StrEnum):
    """By the path at the engine."""

    CHAT = "/v1/chat/completions"
    COMPLETION = "/v1/completions"
    EMBEDDING = "/v1/embeddings"


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class Body(msgspec.Struct, frozen=True):
    """The fields that matter. ``UNSET`` is told from ``null``: what is not there can be spliced in."""

    model: str | UnsetType | None = UNSET
    messages: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    stream: bool | UnsetType | None = UNSET
    stream_options: StreamOptions | UnsetType | None = UNSET
    return_progress: bool | UnsetType | None = UNSET
    timings_per_token: bool | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    max_completion_tokens: int | UnsetType | None = UNSET
    n_predict: Raw | UnsetType = UNSET
    n: int | None = None
    best_of: int | None = None
    service_tier: str | None = None
    user: str | None = None
    client_request_id: str | UnsetType | None = UNSET
    usage_context: dict[str, str] | UnsetType | None = UNSET


class Message(msgspec.Struct):
    """One without a role is an internal error to some engines, so it is found here."""

    role: str
    content: Any = None


body_of: msgspec.json.Decoder[Body] = msgspec.json.Decoder(Body)
messages_of: msgspec.json.Decoder[list[Message]] = msgspec.json.Decoder(list[Message])
